"""The parts of the tree of a mode that writes, put together: each gets those that it asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from h5fs.store.interface import WritingStore
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import Node
from h5fs.tree.status import Status
from h5fs.tree.writing.attribute_changes import AttributeChanges
from h5fs.tree.writing.closings import Closings
from h5fs.tree.writing.commits import Commits
from h5fs.tree.writing.files_of_array import FilesOfArrays
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.name_rules import NameRules
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.new_links import NewLinks
from h5fs.tree.writing.opened_files import OpenedFiles
from h5fs.tree.writing.openings import Openings
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.recent_changes import RecentChanges
from h5fs.tree.writing.remakings import Remakings
from h5fs.tree.writing.removals import Removals
from h5fs.tree.writing.renames import Renames
from h5fs.tree.writing.statuses import Statuses
from h5fs.tree.writing.truncations import Truncations
from h5fs.tree.writing.writes import Writes


class Parts:
    """One of each. Parameters as of ``WritableTree``; ``listed_status`` tells the status of a file
    by the listing of its folder."""

    def __init__(
        self, store: WritingStore, lookup: Lookup,
        listed_status: Callable[[bytes], tuple[Node, Status] | None], *,
        mountpoint: bytes, part: bytes, leftovers: Path | None, takes_scratch: bool,
        commits_at_close: bool,
    ) -> None:  # fmt: skip
        self.pending = pending = Pending()
        self.in_flight = in_flight = ChangesInFlight(lambda: not pending.awaits_any())
        self.opened = opened = OpenedFiles()
        self.changes = changes = RecentChanges()
        self.places = places = Places(pending, lookup)
        rules = NameRules(
            pending, lookup, places, takes_scratch=takes_scratch and leftovers is not None,
            mountpoint=mountpoint, part=part,
        )  # fmt: skip
        self.keeper = keeper = Keeper(store, pending, lookup, places)
        self.statuses = Statuses(pending, lookup, places, opened, keeper, listed_status)
        self.remakings = remakings = Remakings(store, pending, lookup, places)
        others = FilesOfArrays(store, pending, lookup, opened, keeper)
        self.commits = commits = Commits(
            store, pending, lookup, places, opened, keeper, others, remakings, in_flight
        )
        self.removals = removals = Removals(
            store, pending, lookup, places, keeper, remakings, in_flight
        )
        self.renames = Renames(store, pending, lookup, places, rules, keeper, commits, removals)
        self.new_links = NewLinks(store, pending, lookup, places, rules, keeper, commits, in_flight)
        self.openings = openings = Openings(
            store, pending, lookup, places, rules, opened, remakings
        )
        self.writes = writes = Writes(store, pending, lookup, places, in_flight)
        self.closings = closings = Closings(
            store,
            pending,
            keeper,
            commits,
            removals,
            in_flight,
            commits_at_close=commits_at_close,
        )
        self.truncations = Truncations(opened, openings, writes, closings, changes)
        self.attribute_changes = AttributeChanges(
            pending, lookup, places, openings, opened, writes, closings, removals
        )

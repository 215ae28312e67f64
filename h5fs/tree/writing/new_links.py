"""New links: folders, hard links and symbolic links that programs make. Under the tree's lock."""

from __future__ import annotations

from h5fs.errors import (
    CrossFileError,
    ExistsError,
    InvalidNameError,
    NotPermittedError,
    show_path,
)
from h5fs.model.objects import Link, LinkKind, ObjectRef
from h5fs.projection.names import Projection
from h5fs.store.interface import WritingStore
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PROJECTIONS, NodeKind
from h5fs.tree.writing.commits import Commits
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.names.name_rules import NameRules
from h5fs.tree.writing.names.places import Places, attributes_path
from h5fs.tree.writing.names.scratch_entries import ScratchEntry
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.pending import Pending


class NewLinks:
    """Answers ``mkdir``, ``link`` and ``symlink``."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places,
        rules: NameRules, keeper: Keeper, commits: Commits, in_flight: ChangesInFlight,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._rules = rules
        self._keeper = keeper
        self._commits = commits
        self._in_flight = in_flight

    def make_folder(self, path: bytes) -> None:
        """Answer ``mkdir``: create a group, or a scratch folder."""
        folder, meaning = self._places.folder_and_meaning(path)
        is_scratch = self._rules.is_scratch_folder(path, meaning)
        is_group = meaning is not None and meaning.projection is Projection.FOLDER
        name = meaning.link_name if meaning is not None and is_group else None
        if not is_scratch and name is None:
            raise InvalidNameError(f"{show_path(path)}: no folder can have this name")
        self._check_not_there(path)
        if is_scratch or name is None:
            self._pending.add_scratch(path, ScratchEntry(self._pending.new_inode()))
            return
        with self._lookup.changing_link(folder, name) as change:
            with self._in_flight.waiting(path, is_alone=change.is_alone):
                info = self._store.create_group(folder.info.ref, name)
            change.link, change.is_empty_group = Link(name, LinkKind.HARD, target=info), True
        self._commits.apply_waiting(path, name)

    def make_hard_link(self, existing: bytes, new: bytes) -> None:
        """Answer ``link``: of datasets and datatypes, which may get a temporary name, too."""
        if self._pending.is_outside(existing):
            raise NotPermittedError(f"{show_path(existing)} is not in the HDF5 file yet")
        node = self._places.find_own(existing)
        if node.kind not in (NodeKind.ARRAY, NodeKind.DATATYPE):
            raise NotPermittedError(f"{show_path(existing)}: no hard link to this")
        if node.info.ref.file:
            raise CrossFileError(f"{show_path(existing)} is in another HDF5 file")
        folder, meaning = self._places.folder_and_file(new)
        self._check_not_there(new)
        if meaning is None and node.kind is NodeKind.ARRAY:
            self._rules.check_scratch_link(new)
            self._pending.stage(self._keeper.link_dataset_in(node, new))
            return
        name = self._rules.link_name(new, meaning, PROJECTIONS[node.kind])
        with self._lookup.changing():
            link = Link(name, LinkKind.HARD, target=node.info)
            self._store.create_link(folder.info.ref, link)
        self._drop_copy(attributes_path(new, name), node.info.ref)
        self._commits.apply_waiting(new, name)

    def _drop_copy(self, path: bytes, ref: ObjectRef) -> None:
        """Let go of attributes that waited as a link to those of an object, which has got this name
        itself: what they are now counts, whoever has changed them since."""
        waiting = self._pending.staged(path)
        if waiting is not None and waiting.copy_of == ref and not waiting.opened:
            self._pending.unstage(path)
            self._keeper.forget(waiting)
            waiting.discard()

    def make_symbolic_link(self, text: bytes, path: bytes) -> None:
        """Answer ``symlink``: create a soft or external link, or one outside of the HDF5 file."""
        folder, meaning = self._places.folder_and_meaning(path)
        self._check_not_there(path)
        if self._rules.is_scratch_link(path):
            self._pending.add_scratch(path, ScratchEntry(self._pending.new_inode(), text))
            return
        link = self._rules.link_of_text(path, meaning, text)
        with self._lookup.changing_link(folder, link.name) as change:
            with self._in_flight.waiting(path, is_alone=change.is_alone):
                self._store.create_link(folder.info.ref, link)
            change.link = link
        self._commits.apply_waiting(path, link.name)

    def _check_not_there(self, path: bytes) -> None:
        if self._places.is_there(path):
            raise ExistsError(f"{show_path(path)} exists")

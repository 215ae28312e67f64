"""Commits of files to where nobody sees them: what they have become gets its name in one step.

So a kill leaves either what there was before under the name, or what was written. Under the tree's
lock, while no other call is answered.
"""

from __future__ import annotations

from contextlib import nullcontext

from msgspec import structs

from h5fs.errors import H5fsError
from h5fs.projection.names import DentryName, Projection
from h5fs.store.interface import WritingStore
from h5fs.tree.contents.content import read_all
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PROJECTIONS, Node
from h5fs.tree.writing.committing.draft_to_object import (
    commit_array,
    commit_datatype,
    commit_sequences,
    is_as_shown,
    plan_attributes,
)
from h5fs.tree.writing.committing.links_for_a_moment import (
    LINK_FOR_A_MOMENT,
    dropped_on_error,
    give_name,
    hidden_group_of,
    make_room,
)
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.pending.last_removals import RemovedObject
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.remakings import Remakings

_KINDS = {projection: kind for kind, projection in PROJECTIONS.items()}
ALONE_IN_OBJECT = frozenset({Projection.ARRAY, Projection.DATATYPE})
"""What a file has that is all of an object, other than that of a pair."""


class UnseenCommits:
    """Commits files that take the place of what a commit in place would have to make room for."""

    def __init__(
        self, store: WritingStore, lookup: Lookup, places: Places, remakings: Remakings
    ) -> None:
        self._store = store
        self._lookup = lookup
        self._places = places
        self._remakings = remakings

    def over_removed(
        self, removed: RemovedObject, meaning: DentryName, folder: Node,
        files: list[WritableFile], *, is_read: bool,
    ) -> None:  # fmt: skip
        """Write a file, of a pair both, over an object that its program has removed.

        ``is_read``: somebody has that open. If it raises, all is as before.
        """
        replacing = [file for file in files if file.replaces is removed]
        with self._lookup.changing():
            self._remakings.put_back(removed)
            for file in replacing:
                file.replaces = None  # that has a link again, and is held for it no more
            is_done = False
            try:
                old = {file.path: self._node_of(removed.node, file) for file in files}
                for file in files:
                    file.node = old[file.path]
                self._write(meaning.projection, files, is_read=is_read)
                self._give_name(folder, removed.link_name)
                is_done = True
            finally:
                if not is_done:
                    for file in files:
                        file.node = None
                    for file in replacing:
                        file.replaces = removed
                    self._remakings.take_away(removed)

    def beside_removed(
        self, meaning: DentryName, folder: Node, name: bytes, files: list[WritableFile],
        attributes: WritableFile | None,
    ) -> None:  # fmt: skip
        """Make another object of a file, of a pair both, with the attributes of a removed one.

        ``attributes``: a file of their text; they stay there where they refer to what is gone.
        """
        with self._lookup.changing(), dropped_on_error(self._store):
            make_room(self._store)
            self._write(meaning.projection, files, is_read=False)
            if attributes is not None:
                self._apply(attributes)
            self._give_name(folder, name)

    def over_link(
        self, meaning: DentryName, folder: Node, name: bytes, file: WritableFile, node: Node
    ) -> None:
        """Make an object of a file that takes the place of a symbolic link, which ``node`` is."""
        assert node.link is not None and node.parent is not None
        with self._lookup.changing():
            with dropped_on_error(self._store):
                make_room(self._store)
                self._write(meaning.projection, [file], is_read=False)
                self._store.move_link(
                    hidden_group_of(self._store), LINK_FOR_A_MOMENT, folder.info.ref, name
                )
            if node.link.name != name:
                self._store.delete_link(node.parent.info.ref, node.link.name)

    def _node_of(self, removed: Node, file: WritableFile) -> Node:
        """Return what a file of a pair showed, of which the other one was removed last."""
        _, meaning = self._places.folder_and_file(file.path)
        assert meaning is not None
        return structs.replace(removed, kind=_KINDS[meaning.projection])

    def _write(
        self, projection: Projection, files: list[WritableFile], *, is_read: bool
    ) -> None:  # fmt: skip
        """Write to what the link leads to, unless that shows what was written; make it, if there
        is none."""
        if projection is not Projection.DATATYPE and all(map(self._is_as_shown, files)):
            return
        file, hidden, name = files[0], hidden_group_of(self._store), LINK_FOR_A_MOMENT
        assert file.draft is not None
        if projection is Projection.ARRAY:
            commit_array(self._store, hidden, name, file, nullcontext, is_read=is_read)
        elif projection is Projection.DATATYPE:
            commit_datatype(self._store, hidden, name, file.draft, lambda: self._text_of(file))
        else:
            values, offsets = files if projection is Projection.VALUES else reversed(files)
            commit_sequences(self._store, hidden, name, values, offsets)

    def _apply(self, attributes: WritableFile) -> None:
        """Give what the link leads to its attributes, if that can be done now."""
        target = self._store.get_link(hidden_group_of(self._store), LINK_FOR_A_MOMENT).target
        assert attributes.draft is not None and target is not None
        try:
            plan = plan_attributes(self._store.read_attributes(target.ref), attributes.draft)
            missing, *_ = plan.apply(self._store, target)
        except H5fsError:  # who tries it again tells why
            return
        if not missing:
            attributes.discard()

    def _is_as_shown(self, file: WritableFile) -> bool:
        if file.node is None or file.draft is None:
            return False
        return is_as_shown(file.draft, self._places.readable_content_of(file.node))

    def _text_of(self, file: WritableFile) -> bytes:
        return b"" if file.node is None else read_all(self._lookup.content_of(file.node))

    def _give_name(self, folder: Node, name: bytes) -> None:
        give_name(self._store, folder.info.ref, name, is_shared=self._lookup.is_shared)

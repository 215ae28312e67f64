"""Objects that programs have removed, and perhaps are about to make anew.

Programs replace a file in two ways: they write it anew, or remove it and make another one of that
name (`tar x`, `git checkout`, `unzip -o`, `install`). With an object of HDF5 go its attributes, its
storage, and what others' references lead to: so the removed one is held for a while, to be put back
where the same program makes it anew, which is then written over it.

Under the tree's lock.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from msgspec import structs

from h5fs.errors import H5fsError, show_path
from h5fs.model.objects import Link, LinkKind
from h5fs.projection.names import DentryName, Projection, encode_name
from h5fs.store.interface import WritingStore
from h5fs.tree.contents.content import ArrayContent, read_all
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import PROJECTIONS, Node, NodeKind
from h5fs.tree.writing.committing.draft_to_object import delete_attributes
from h5fs.tree.writing.committing.links_for_a_moment import (
    LINK_FOR_A_MOMENT,
    hidden_group_of,
    link_for_a_moment,
)
from h5fs.tree.writing.names.places import Places, attributes_path
from h5fs.tree.writing.pending.last_removals import LastRemovals, RemovedObject
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.processes import process_of
from h5fs.tree.writing.pending.writable_file import WritableFile

_log = logging.getLogger(__name__)

_NOTHING_REMOVED = nullcontext()
_UNKNOWN_BYTES = 2**63  # it may be a lot
_KINDS = frozenset({NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS, NodeKind.DATATYPE})


class Remakings:
    """Holds what each process has removed last, until it makes that anew, or is not there any more.

    What it makes anew has the object then (``WritableFile.replaces``), until it is committed, or
    has lost its name.
    """

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places
    ) -> None:
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._last = LastRemovals()

    # What programs do.

    def hold(self, pid: int, path: bytes, node: Node) -> RemovedObject | None:
        """Hold an object whose link is about to be removed for a process; None where nobody will
        make it anew. Then comes ``remember``, or ``let_go`` where the link stays."""
        if not pid or node.kind not in _KINDS:
            return None
        # HDF5 counts the datasets that are of a committed datatype, too; but what takes its place
        # is the same, or is refused.
        has_others = node.info.hard_link_count > 1 and node.kind is not NodeKind.DATATYPE
        folder, size = path.rpartition(b"/")[0], self._storage_bytes_of(node)
        removed = RemovedObject(folder, node, has_others, size)
        self._store.hold(node.info.ref)
        return removed

    def remember(self, pid: int, path: bytes, removed: RemovedObject | None) -> None:
        """Remember what is held, now that a process has removed it."""
        if removed is None:
            return
        if self._pending.is_whited_out(path):  # the first file of a pair: the dataset is there
            self.let_go(removed)
            return
        self._let_go(self._last.put(process_of(pid), removed))
        self._forget_of_ended_processes()

    def let_go(self, removed: RemovedObject | None) -> None:
        """Let go what is held, if anything: it was not removed."""
        if removed is not None:
            self._let_go([removed])

    def remember_again(self, pid: int, file: WritableFile) -> None:
        """A process removes what it, or another one, has made anew and is not committed."""
        removed, file.replaces = file.replaces, None
        if removed is not None:
            self._let_go(self._last.put(process_of(pid), removed) if pid else [removed])

    def note_made(self, pid: int, path: bytes, file: WritableFile | None = None) -> None:
        """Something gets a name: what its process has removed there is made anew, if that is a
        ``file`` of its own."""
        place = self._place_of(path) if self._last else None
        if place is not None:
            self._take(pid, path, place, file)
            self._forget_at(path, place)

    def renaming(
        self, pid: int, old: bytes, new: bytes, file: WritableFile | None
    ) -> AbstractContextManager[None]:
        """Let the block give a name to what may be a ``file`` that is staged: what its process has
        removed there is made anew. If it raises, all is as before."""
        is_any = bool(self._last) or file is not None
        return self._renaming(pid, old, new, file) if is_any else _NOTHING_REMOVED

    @contextmanager
    def _renaming(
        self, pid: int, old: bytes, new: bytes, file: WritableFile | None
    ) -> Iterator[None]:
        is_any = self._last or (file is not None and file.replaces is not None)
        place = self._place_of(new) if is_any else None
        is_taken = place is not None and self._take(pid, new, place, file)
        try:
            yield
        except BaseException:
            if is_taken and file is not None:
                self.remember_again(pid, file)
            raise
        if place is not None:
            self._forget_at(new, place)
        if file is None:
            return
        removed = file.replaces
        if removed is not None and (place is None or not removed.is_at(new, *place)):
            self.remember_again(pid, file)  # its name is free again
        self.note_attributes_gone(old)

    def note_attributes_gone(self, path: bytes) -> None:
        """If what has lost its name are attributes that waited for what is made anew, that shall
        have none."""
        place = self._place_of(path)
        if place is None or place[1].projection is not Projection.ATTRIBUTES:
            return
        folder, name = place[0], place[1].link_name
        if name is None:
            return
        folder_path = path.rpartition(b"/")[0]
        files = (
            self._pending.staged(folder_path + b"/" + encode_name(name, PROJECTIONS[kind]))
            for kind in _KINDS
        )
        replaced = [file.replaces for file in files if file is not None]
        for removed in (*self._last.every(), *replaced):
            if removed is not None and removed.had_link(path, folder, name):
                removed.loses_attributes = True

    def _place_of(self, path: bytes) -> tuple[Node, DentryName] | None:
        """Return the folder of a path and what its name means; None where it can have no object."""
        self._forget_of_ended_processes()
        try:
            folder, meaning = self._places.folder_and_meaning(path)
        except H5fsError:  # the call that gives the name is refused for that
            return None
        return None if meaning is None else (folder, meaning)

    def _take(
        self, pid: int, path: bytes, place: tuple[Node, DentryName], file: WritableFile | None
    ) -> bool:
        """Let a file replace what its process has removed at a path; return whether it does."""
        if file is None or file.held is not None:  # a dataset that there was before
            return False
        removed = self._last.take(process_of(pid), path, *place)
        if removed is None:
            return False
        self.forget_of(file)
        file.replaces = removed
        file.was_offered = True  # its data go where those of the removed one are
        return True

    def _forget_at(self, path: bytes, place: tuple[Node, DentryName]) -> None:
        """The name of a link is another's."""
        folder, meaning = place
        if meaning.projection is not Projection.ATTRIBUTES:
            self._let_go(self._last.forget_at(path, folder, meaning.link_name))

    # What becomes of it.

    def forget_of(self, file: WritableFile) -> None:
        """A file replaces no removed object (any more)."""
        removed, file.replaces = file.replaces, None
        if removed is not None:
            self._let_go([removed])

    def forget_below(self, path: bytes) -> None:
        """A folder is gone, or has another name."""
        if not self._last:
            return
        below = path + b"/"
        self._let_go(self._last.forget(lambda each: (each.folder + b"/").startswith(below)))

    def forget_all(self, files: Iterable[WritableFile]) -> None:
        """The mount ends; ``files`` are those that have not become part of the HDF5 file."""
        for file in files:
            self.forget_of(file)
        self._let_go(self._last.forget_of(self._last.processes()))

    def find(
        self, path: bytes, folder: Node, meaning: DentryName, files: Iterable[WritableFile]
    ) -> RemovedObject | None:
        """Return the removed object that one of the files at a path, and its partner's, replaces.

        None where something else has its name by now.
        """
        for file in files:
            removed = file.replaces
            if removed is None or not removed.is_at(path, folder, meaning):
                continue
            if self._lookup.get_any_link(folder.info.ref, removed.link_name) is None:
                return removed
        return None

    def put_back(self, removed: RemovedObject) -> None:
        """Let an object have a link for a moment, for a file that is to be written over it."""
        ref, name = removed.node.info.ref, removed.link_name
        link_for_a_moment(self._store, Link(name, LinkKind.HARD, target=removed.node.info))
        self._let_go([removed])  # so that it has no more links than it had
        attributes = attributes_path(removed.folder + b"/", name)
        if removed.loses_attributes and self._pending.staged(attributes) is None:
            delete_attributes(self._store, ref)

    def take_away(self, removed: RemovedObject) -> None:
        """Take that link away, since the file could not be written over the object."""
        hidden = hidden_group_of(self._store)
        info = self._store.get_link(hidden, LINK_FOR_A_MOMENT).target
        assert info is not None  # another object, where it was written before that failed
        removed.node = structs.replace(removed.node, info=info)
        self._store.hold(info.ref)
        self._store.delete_link(hidden, LINK_FOR_A_MOMENT)

    def attributes_of(self, removed: RemovedObject, path: bytes) -> WritableFile | None:
        """Return the attributes of an object as a file of what was made anew at ``path``; None
        where it has none, or others wait."""
        path = attributes_path(path, removed.link_name)
        text = b"" if self._pending.staged(path) is not None else self._text_of(removed)
        if not text:
            return None
        file = WritableFile(path, inode=self._pending.new_inode())
        file.begin(empty=True).write(text, 0)
        return file

    def _text_of(self, removed: RemovedObject) -> bytes:
        """Return the text of an object's attributes; none where it has none."""
        info = removed.node.info
        if removed.loses_attributes:
            return b""
        if not info.attribute_count and not self._lookup.is_shared:
            return b""
        try:
            return read_all(self._lookup.content_of(Node(NodeKind.ATTRIBUTES, b"", info, None)))
        except H5fsError as error:
            _log.error(
                "%s is made anew without its attributes: %s", show_path(info.ref.path), error
            )
            return b""

    def _storage_bytes_of(self, node: Node) -> int:
        """Return how much an object takes; as a rule that is known, since a `stat` came before."""
        if node.kind is NodeKind.DATATYPE:
            return 0
        if node.info.dataset is not None:
            return node.info.storage_size_bytes
        try:
            content = self._lookup.content_of(node)
        except H5fsError:
            return _UNKNOWN_BYTES
        return content.dataset.storage_size_bytes if isinstance(content, ArrayContent) else 0

    def _forget_of_ended_processes(self) -> None:
        """Nobody makes anew what a process has removed that is not there any more."""
        ended = [each for each in self._last.processes() if not _is_running(each[0])]
        if ended:
            self._let_go(self._last.forget_of(ended))

    def _let_go(self, removed: Sequence[RemovedObject]) -> None:
        if not removed:
            return
        refs = [each.node.info.ref for each in removed]
        try:
            self._store.let_go(*refs)
        except H5fsError as error:
            paths = ", ".join(show_path(ref.path) for ref in refs)
            _log.warning("takes space until the mount ends: %s: %s", paths, error)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True

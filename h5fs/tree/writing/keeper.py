"""Files that no object of the HDF5 file is yet, kept in it so that they outlive the daemon.

Attributes that came before their object, or refer to one that is not there yet; the first file of a
pair; datasets with a temporary name. All are links of the store's hidden group, which no listing
shows and which goes when the mount ends. Under the tree's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from h5fs.errors import H5fsError, UnreadableError, show_path
from h5fs.model.objects import Link, LinkKind, ObjectInfo, ObjectRef
from h5fs.store.hidden_names import kept_name, path_of_kept
from h5fs.store.interface import ArrayFile, WritingStore
from h5fs.tree.contents.content import ArrayContent
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.committing.draft_to_object import commit_array
from h5fs.tree.writing.committing.links_for_a_moment import (
    LINK_FOR_A_MOMENT,
    hidden_group_of,
    link_for_a_moment,
    put_link,
)
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.names.scratch_entries import ScratchEntry
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile

_log = logging.getLogger(__name__)

_BYTE = np.dtype("u1")
_COPY_BYTES = 2**20


class Keeper:
    """Keeps files in the hidden group, and takes up those that a mount before this one has kept."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places
    ) -> None:
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._datasets: list[WritableFile] = []  # with a temporary name, and perhaps others

    def take_up(self) -> list[WritableFile]:
        """Let the files be there again that were kept when a daemon died; return them."""
        hidden = self._store.hidden_group(makes=False)
        if hidden is None:
            return []
        files = []
        for link in self._lookup.list_links(hidden):
            meaning = path_of_kept(link.name)
            if meaning is None or link.target is None:
                continue
            path, is_dataset = meaning
            take = self._hold_dataset if is_dataset else self._take_up_bytes
            try:
                file = take(path, link.target)
            except H5fsError as error:
                _log.error("%s cannot be brought back: %s", show_path(path), error)
                continue
            file.kept_as = link.name
            self._pending.stage(file)
            self._take_up_folder(path.rpartition(b"/")[0])
            files.append(file)
        return files

    def keep(self, file: WritableFile) -> None:
        """Put what was written to a file where it survives the daemon."""
        name, draft = kept_name(file.path, is_dataset=False), file.draft
        assert draft is not None
        is_hidden = self._pending.is_whited_out(file.path)
        file.is_over = not is_hidden and self._lookup.find_any(file.path) is not None
        if file.is_kept:
            self.follow_name(file)
            return
        descriptor, data = draft.lend()
        size = draft.size_bytes
        kept = ArrayFile(descriptor, size, (size,), _BYTE, False, 0, data=data)
        self._store.write_array(self._hidden_group(), name, kept)
        file.is_kept = True
        if file.kept_as not in (None, name):
            self.forget(file)
        file.kept_as = name

    def follow_name(self, file: WritableFile) -> None:
        """Let what is kept of a file follow its name."""
        if file.kept_as is None:
            return
        name = kept_name(file.path, is_dataset=file.held is not None)
        hidden = self._hidden_group()
        if name != file.kept_as:
            with self._changing(file), self._taking(name):
                self._store.move_link(hidden, file.kept_as, hidden, name)
            file.kept_as = name

    def forget(self, file: WritableFile) -> None:
        """Let go of what is kept of a file, which is an object's now, or nobody's."""
        kept, file.kept_as, file.is_kept = file.kept_as, None, False
        hidden = None if kept is None else self._store.hidden_group(makes=False)
        if kept is None or hidden is None:
            return
        try:
            with self._changing(file):
                self._store.delete_link(hidden, kept)
        except H5fsError as error:  # it goes when the mount ends
            _log.warning("%s is kept though nobody needs it: %s", show_path(file.path), error)

    def move_dataset_in(self, node: Node, path: bytes) -> WritableFile:
        """Take a dataset's link away; return the file by which it is seen at a temporary path."""
        assert node.link is not None and node.parent is not None
        self._lookup.content_of(node)  # what cannot be read keeps its name
        group, hidden = node.parent.info.ref, self._hidden_group()
        name = kept_name(path, is_dataset=True)
        with self._lookup.changing(), self._taking(name):
            self._store.move_link(group, node.link.name, hidden, name)
        try:
            return self._kept_dataset(path, hidden, name)
        except H5fsError:  # in the hidden group alone, the dataset would go when the mount ends
            with self._lookup.changing():
                self._store.move_link(hidden, name, group, node.link.name)
            raise

    def hand_over(self, kept: WritableFile, to: WritableFile) -> WritableFile:
        """Let a file that is open be the one by which a dataset is seen at a temporary path."""
        to.path, to.node, to.content, to.inode = kept.path, None, kept.content, kept.inode
        to.held, to.kept_as = kept.held, kept.kept_as
        self._datasets = [to if each is kept else each for each in self._datasets]
        return to

    def link_dataset_in(self, node: Node, path: bytes) -> WritableFile:
        """Return the file by which a dataset is seen at a temporary path beside its own."""
        self._lookup.content_of(node)
        hidden, name = self._hidden_group(), kept_name(path, is_dataset=True)
        with self._lookup.changing():
            self._store.create_link(hidden, Link(name, LinkKind.HARD, target=node.info))
        return self._kept_dataset(path, hidden, name)

    def move_dataset_out(self, file: WritableFile, group: ObjectRef, name: bytes) -> None:
        """Give a dataset that has a temporary path a link of its own."""
        assert file.kept_as is not None
        with self._lookup.changing():
            self._store.move_link(self._hidden_group(), file.kept_as, group, name)
        file.kept_as = None

    def write_over(self, file: WritableFile, *, is_read: bool) -> Node:
        """Bring what was written to a dataset by a temporary path into it, for all its names;
        return what these lead to then.

        ``is_read`` is as in ``commit_array``, and so is what this raises. The draft stays as it is.
        """
        assert file.held is not None and file.kept_as is not None
        old, hidden = file.held, self._hidden_group()
        with self._lookup.changing():
            commit_array(self._store, hidden, file.kept_as, file, nullcontext, is_read=is_read)
        new = self._lookup.get_link(hidden, file.kept_as).target
        assert new is not None
        if new.ref != old:
            self.follow_replaced(old, new)
        node = node_of_dataset(new)
        file.content = self._lookup.content_of(node)
        return node

    def renew_datasets(self) -> None:
        """Show datasets with a temporary name as they are now: one was written by another name."""
        if not self._datasets:
            return
        self._datasets = [each for each in self._datasets if each.held and not each.is_gone]
        for file in self._datasets:
            if file.kept_as is None:
                continue
            link = self._lookup.get_any_link(self._hidden_group(), file.kept_as)
            if link is None or link.target is None:
                continue
            try:
                file.content = self._lookup.content_of(node_of_dataset(link.target))
            except H5fsError as error:  # who reads it is told again
                _log.warning("%s cannot be read any more: %s", show_path(file.path), error)

    def keeps(self, ref: ObjectRef) -> bool:
        """Whether a dataset has a temporary name."""
        return bool(self.kept_datasets(ref))

    def kept_datasets(self, ref: ObjectRef) -> list[WritableFile]:
        """Return the files of a dataset's temporary names."""
        return [each for each in self._datasets if each.held == ref and not each.is_gone]

    def hard_link_count(self, file: WritableFile) -> int:
        """Return how many names a staged file has: more than one where a dataset's is temporary."""
        if file.held is None or file.kept_as is None:
            return 1
        link = self._lookup.get_any_link(self._hidden_group(), file.kept_as)
        return 1 if link is None or link.target is None else link.target.hard_link_count

    def shared_dataset(self, file: WritableFile) -> Node | None:
        """Return the node of a staged file that is a dataset's with other names, temporary or not;
        None for any other file."""
        if file.held is None or file.kept_as is None:
            return None
        link = self._lookup.get_any_link(self._hidden_group(), file.kept_as)
        if link is None or link.target is None or link.target.hard_link_count < 2:
            return None
        return node_of_dataset(link.target)

    @contextmanager
    def linking(self, file: WritableFile) -> Iterator[None]:
        """Let a file that has lost its name have a link to its dataset, within the block."""
        assert file.node is not None
        held, info = file.held, file.node.info
        link_for_a_moment(self._store, Link(LINK_FOR_A_MOMENT, LinkKind.HARD, target=info))
        file.held, file.kept_as = info.ref, LINK_FOR_A_MOMENT
        try:
            yield
        finally:
            self.forget(file)
            file.held = held

    def follow_replaced(self, old: ObjectRef, new: ObjectInfo) -> None:
        """Let temporary names of a dataset lead to the one that was written in its place."""
        for file in self._datasets:
            if file.held != old or file.is_gone or file.kept_as is None:
                continue
            try:
                with self._lookup.changing():
                    link = Link(file.kept_as, LinkKind.HARD, target=new)
                    put_link(self._store, self._hidden_group(), link)
            except H5fsError as error:
                _log.warning("%s shows the array before: %s", show_path(file.path), error)
                continue
            self._store.hold(new.ref)
            file.held, file.inode = new.ref, node_of_dataset(new).inode
            self._store.let_go(old)

    def remove_all(self) -> None:
        """Remove all that is kept: the mount ends."""
        try:
            self._store.remove_hidden()
        except H5fsError as error:
            _log.error("the next mount that writes removes what was kept: %s", error)

    @contextmanager
    def _taking(self, name: bytes) -> Iterator[None]:
        """Let another dataset have a temporary name in the block: the file that had it goes on as
        one of those that have lost their name."""
        before = next((each for each in self._datasets if each.kept_as == name), None)
        node = None if before is None else self.shared_dataset(before)
        yield
        if before is not None:
            before.node, before.kept_as = node, None

    def _changing(self, file: WritableFile) -> AbstractContextManager[object]:
        """Forget what was found, when the block has changed the link of a dataset: how many it has,
        and where one of that name leads."""
        return nullcontext() if file.held is None else self._lookup.changing()

    def _hidden_group(self) -> ObjectRef:
        return hidden_group_of(self._store)

    def _kept_dataset(self, path: bytes, hidden: ObjectRef, name: bytes) -> WritableFile:
        info = self._lookup.get_link(hidden, name).target
        assert info is not None
        file = self._hold_dataset(path, info)
        file.kept_as = name
        return file

    def _hold_dataset(self, path: bytes, info: ObjectInfo) -> WritableFile:
        """Return the file of a dataset that has a temporary name, which is held for it."""
        node = node_of_dataset(info)
        content = self._lookup.content_of(node)
        self._store.hold(info.ref)
        file = WritableFile(path, content=content, inode=node.inode, held=info.ref)
        self._datasets.append(file)
        return file

    def _take_up_folder(self, path: bytes) -> None:
        """Let a folder be there again that was outside of the HDF5 file."""
        if path and not self._places.is_there(path):
            self._take_up_folder(path.rpartition(b"/")[0])
            self._pending.add_scratch(path, ScratchEntry(self._pending.new_inode()))

    def _take_up_bytes(self, path: bytes, info: ObjectInfo) -> WritableFile:
        content = self._lookup.content_of(Node(NodeKind.ARRAY, b"", info, None))
        if not isinstance(content, ArrayContent):
            raise UnreadableError("what is kept of it is no dataset")
        # As `keep` writes it; a stranger's file may say that there are any number of bytes.
        array = content.npy
        if content.dataset.dtype != _BYTE or len(array.shape) != 1:
            raise UnreadableError("what is kept of it are no bytes")
        of_file = self._lookup.status_of_file(0)
        if content.size_bytes - len(array.header) > of_file.size_bytes:
            raise UnreadableError("what is kept of it is longer than the HDF5 file")
        file = WritableFile(path, inode=self._pending.new_inode())
        draft = file.begin(empty=True)
        at = start = len(array.header)
        buffer = memoryview(bytearray(_COPY_BYTES))
        while count := content.read_into(buffer, at):
            draft.write(buffer[:count], at - start)
            at += count
        file.is_kept = True
        return file


def node_of_dataset(info: ObjectInfo) -> Node:
    """Return the node of a dataset that has no name in the mount but a temporary one."""
    return Node(NodeKind.ARRAY, b"", info, None)

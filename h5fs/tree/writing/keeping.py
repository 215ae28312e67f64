"""Files that no object of the HDF5 file is yet, kept in it so that they outlive the daemon.

Attributes that came before their object, or refer to one that is not there yet; the first file of a
pair; datasets with a temporary name. All are links of the store's hidden group, which no listing
shows and which goes when the mount ends.
"""

from __future__ import annotations

import logging

import numpy as np

from h5fs.errors import H5fsError, UnreadableError, show_path
from h5fs.model.objects import ObjectInfo
from h5fs.projection.names import Projection, encode_name
from h5fs.store.hidden_names import kept_name, path_of_kept
from h5fs.store.interface import ArrayFile
from h5fs.tree.content import ArrayContent
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.naming import NamingTree
from h5fs.tree.writing.scratch_entries import ScratchEntry
from h5fs.tree.writing.writable_file import WritableFile

_log = logging.getLogger(__name__)

_BYTE = np.dtype("u1")
_COPY_BYTES = 2**20


def attributes_path(path: bytes, link_name: bytes) -> bytes:
    """Return the path of an object's attributes, ``path`` being its own."""
    return path.rpartition(b"/")[0] + b"/" + encode_name(link_name, Projection.ATTRIBUTES)


class KeepingTree(NamingTree):
    """What keeps files, and takes up those that a mount before this one has kept."""

    def _take_up(self) -> list[WritableFile]:
        """Let the files be there again that were kept when a daemon died; return them."""
        hidden = self._writer.hidden_group(makes=False)
        if hidden is None:
            return []
        files = []
        for link in self.lookup.list_links(hidden):
            meaning = path_of_kept(link.name)
            if meaning is None or link.target is None:
                continue
            path, is_dataset = meaning
            take = self._take_up_dataset if is_dataset else self._take_up_bytes
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

    def _take_up_folder(self, path: bytes) -> None:
        """Let a folder be there again that was outside of the HDF5 file."""
        if path and not self._is_there(path):
            self._take_up_folder(path.rpartition(b"/")[0])
            self._pending.add_scratch(path, ScratchEntry(next(self._inodes)))

    def _take_up_dataset(self, path: bytes, info: ObjectInfo) -> WritableFile:
        file = self._scratch_file(path, info)
        self._writer.hold(info.ref)
        return file

    def _take_up_bytes(self, path: bytes, info: ObjectInfo) -> WritableFile:
        content = self.lookup.content_of(Node(NodeKind.ARRAY, b"", info, None))
        if not isinstance(content, ArrayContent):
            raise UnreadableError("what is kept of it is no dataset")
        # As `_keep` writes it; a stranger's file may say that there are any number of bytes.
        array = content.npy
        if content.dataset.dtype != _BYTE or len(array.shape) != 1:
            raise UnreadableError("what is kept of it are no bytes")
        if content.size_bytes - len(array.header) > self.lookup.status_of_file(0).size_bytes:
            raise UnreadableError("what is kept of it is longer than the HDF5 file")
        file = WritableFile(path, inode=next(self._inodes))
        draft = file.begin(empty=True)
        at = start = len(content.npy.header)
        buffer = memoryview(bytearray(_COPY_BYTES))
        while count := content.read_into(buffer, at):
            draft.write(buffer[:count], at - start)
            at += count
        file.is_kept = True
        return file

    def _scratch_file(self, path: bytes, info: ObjectInfo) -> WritableFile:
        """Return the file of a dataset that has a temporary name; it is to be held."""
        content = self.lookup.content_of(Node(NodeKind.ARRAY, b"", info, None))
        inode = Node(NodeKind.ARRAY, b"", info, None).inode
        return WritableFile(path, content=content, inode=inode, held=info.ref, held_info=info)

    def _keep(self, file: WritableFile) -> None:
        """Put what was written to a file where it survives the daemon."""
        name, draft = kept_name(file.path, is_dataset=False), file.draft
        assert draft is not None
        if file.is_kept:
            self._rename_kept(file)
            return
        hidden = self._writer.hidden_group()
        assert hidden is not None
        draft.complete()
        size = draft.size_bytes
        kept = ArrayFile(draft.descriptor, size, (size,), _BYTE, False, 0)
        self._writer.write_array(hidden, name, kept)
        file.is_kept = True
        if file.kept_as not in (None, name):
            self._forget_kept(file)
        file.kept_as = name

    def _rename_kept(self, file: WritableFile) -> None:
        """Let what is kept of a file follow its name."""
        if file.kept_as is None:
            return
        name = kept_name(file.path, is_dataset=file.held is not None)
        hidden = self._writer.hidden_group()
        if name != file.kept_as and hidden is not None:
            self._writer.move_link(hidden, file.kept_as, hidden, name)
            file.kept_as = name

    def _forget_kept(self, file: WritableFile) -> None:
        """Let go of what is kept of a file, which is an object's now, or nobody's."""
        kept, file.kept_as, file.is_kept = file.kept_as, None, False
        hidden = self._writer.hidden_group(makes=False)
        if kept is None or hidden is None:
            return
        try:
            self._writer.delete_link(hidden, kept)
        except H5fsError as error:  # it goes when the mount ends
            _log.warning("%s is kept though nobody needs it: %s", show_path(file.path), error)

    def _move_paths(self, old: bytes, new: bytes) -> None:
        """Let files that are open or wait below a path be below the new one."""
        for file in self._pending.move(old, new):
            self._rename_kept(file)

    def _move_awaiting(self, old: bytes, new: bytes) -> None:
        """Let attributes that wait for what they refer to go along with their object."""
        file = self._pending.staged(old)
        if file is not None and file.awaits and self._pending.staged(new) is None:
            self._pending.stage(file, new)
            self._rename_kept(file)

"""Openings: from a path and the flags of ``open`` to an open file. Under the tree's lock."""

from __future__ import annotations

import os
import time

from h5fs.errors import ExistsError, H5fsError, IsAGroupError, ReadOnlyError, show_path
from h5fs.model.objects import ObjectRef
from h5fs.store.interface import WritingStore
from h5fs.tree.contents.content import Content
from h5fs.tree.lookup import Lookup
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.names.name_rules import NameRules
from h5fs.tree.writing.names.places import Places, check_no_view
from h5fs.tree.writing.opened_files import OpenedFile, OpenedFiles, writes_anew
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.remakings import Remakings

_FILE_KINDS = frozenset(
    {NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS, NodeKind.ATTRIBUTES, NodeKind.DATATYPE}
)


class Openings:
    """Opens and creates files, and finds those that are being written."""

    def __init__(
        self, store: WritingStore, pending: Pending, lookup: Lookup, places: Places,
        rules: NameRules, opened: OpenedFiles, remakings: Remakings,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._lookup = lookup
        self._places = places
        self._rules = rules
        self._opened = opened
        self._remakings = remakings

    def open(self, path: bytes, flags: int, pid: int) -> int:
        """Open a file that is there; return its handle."""
        file = self._pending.staged(path)
        if file is not None:
            if flags & os.O_TRUNC:
                _empty(file)
            return self._add(file, flags, pid, is_writer=flags & os.O_ACCMODE != os.O_RDONLY)
        if self._pending.scratch(path) is not None:
            raise IsAGroupError(f"{show_path(path)} is a folder")
        node = self._places.find_visible(path)
        if node.kind is NodeKind.FOLDER:
            raise IsAGroupError(f"{show_path(path)} is a group")
        if flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC:
            edited = self._pending.edited(node)
            if edited is not None and edited.is_as_written:
                # The HDF5 file shows it otherwise: text of a shorter dtype, JSON laid out anew.
                # Who has it mapped must not see it cut, so that it has one size for all.
                return self._add(edited, flags, pid, self._hold(node), is_writer=False)
            return self._open_to_read(node, pid)
        return self._open_to_write(path, node, flags, pid)

    def create(self, path: bytes, flags: int, pid: int, mode: int) -> int:
        """Make a file where there is none, and open it; return its handle.

        ``mode`` is the one that the program gave; it is not stored, and says what the file is for.
        Raises ``InvalidNameError`` for a name that no file can have.
        """
        self._rules.check_new_file(path, flags, mode)
        file = WritableFile(path, inode=self._pending.new_inode(), made_at=path)
        file.begin(empty=True)
        self._remakings.note_made(pid, path, file)
        self._pending.stage(file)
        return self._add(file, flags | os.O_TRUNC, pid)

    def being_written(self, path: bytes) -> WritableFile | None:
        """Return the file at a path if it has something that the HDF5 file does not have."""
        file = self._pending.staged(path)
        if file is not None or self._pending.scratch(path) is not None:
            return file
        edited = self._pending.edited(self._lookup.find(path))
        return edited if edited is not None and edited.draft is not None else None

    def _open_to_read(self, node: Node, pid: int) -> int:
        edited = self._pending.edited(node)
        content = self._lookup.content_of(node)
        _ = content.size_bytes  # what stat refuses is refused here too
        # The kernel keeps one copy of the pages for all who have a path open: whoever reads another
        # content than they do must not share it.
        is_replaced = edited is not None and edited.draft is not None
        bypasses_cache = is_replaced or self._opened.reads_otherwise(node, content)
        held = self._hold(node)
        return self._opened.add(OpenedFile(pid, None, node, content, held, bypasses_cache))

    def _open_to_write(self, path: bytes, node: Node, flags: int, pid: int) -> int:
        if node.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")
        check_no_view(node, path)
        if node.is_symbolic_link:  # the kernel follows links; who has no kernel comes here
            raise ExistsError(f"{show_path(path)}: a symbolic link is in the way")
        if node.kind not in _FILE_KINDS:
            raise ReadOnlyError(f"{show_path(path)}: an object that cannot be read")
        file = self._pending.edited(node)
        if file is None:
            file = WritableFile(path, node, self._content_to_edit(node, flags), inode=node.inode)
            self._pending.begin_editing(node, file)
        if flags & os.O_TRUNC:
            _empty(file)
        return self._add(file, flags, pid, self._hold(node))

    def _add(
        self, file: WritableFile, flags: int, pid: int, held: ObjectRef | None = None, *,
        is_writer: bool = True,
    ) -> int:  # fmt: skip
        opened = OpenedFile(
            pid, file, held=held, bypasses_cache=writes_anew(flags), writes=is_writer,
            appends=bool(flags & os.O_APPEND),
        )  # fmt: skip
        return self._opened.add(opened)

    def _content_to_edit(self, node: Node, flags: int) -> Content | None:
        try:
            content = self._lookup.content_of(node)
            _ = content.size_bytes
        except H5fsError:
            if flags & os.O_TRUNC:
                return None  # what cannot be read can still be replaced
            raise
        return content

    def _hold(self, node: Node) -> ObjectRef | None:
        if node.kind is NodeKind.ATTRIBUTES or node.info.ref.file:
            return None
        self._store.hold(node.info.ref)
        return node.info.ref


def _empty(file: WritableFile) -> None:
    file.begin(empty=True)
    file.mtime_ns = time.time_ns()

"""The open files of a mount that writes, by the handles that the kernel has of them.

Safe from any thread: the handles have a lock of their own, under which nothing else is taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from h5fs.errors import BadHandleError
from h5fs.model.objects import ObjectRef
from h5fs.store.interface import ArrayPart, DataVersion
from h5fs.tree.contents.content import ArrayContent, Content, TextContent
from h5fs.tree.contents.page_content import PageContent
from h5fs.tree.handles import Handles
from h5fs.tree.nodes import Node, NodeKind
from h5fs.tree.writing.pending.writable_file import WritableFile


@dataclass(eq=False, slots=True)
class OpenedFile:
    """An open file: ``file``, or for one that only reads what the HDF5 file has, a node and its
    content.

    ``held``: the object that is kept for it. ``pid``: of the process that opened it. ``writes``: it
    may write; ``appends``: always at the end. ``bypasses_cache``: reads and writes go past the
    kernel's cache.
    """

    pid: int
    file: WritableFile | None = None
    node: Node | None = None
    content: Content | None = None
    held: ObjectRef | None = None
    bypasses_cache: bool = False
    writes: bool = False
    appends: bool = False

    def write_offset(self, offset: int, *, is_page: bool) -> int:
        """Return where a write goes that the kernel wants at ``offset``.

        The kernel has one size for all who have a name open, perhaps that of what was there before,
        which others read; and it appends there.
        """
        if self.file is None or not self.appends or is_page:
            return offset
        return self.file.size_bytes

    def reads_text(self, text: bytes) -> bool:
        """Whether this is open to read a text of the HDF5 file, which was ``text``."""
        return isinstance(self.content, TextContent) and self.content.data == text

    def read_of_file(self) -> tuple[Node, Content] | None:
        """Return what this reads of the HDF5 file; None where it reads a draft."""
        node, content = self.node, self.content
        if self.file is not None:
            node, content = self.file.node, self.file.content
            if self.file.draft is not None:
                return None
        return None if node is None or content is None else (node, content)

    def page_content(
        self, version_of: Callable[[ObjectRef], DataVersion | None]
    ) -> PageContent | None:
        """Return what the kernel's pages show of this; None where it reads a draft."""
        read = self.read_of_file()
        if read is None:
            return None
        node, content = read
        identity: Hashable = (node.kind, node.info.ref, content.size_bytes)
        if isinstance(content, TextContent):
            return PageContent((identity, content.data), None)
        if not isinstance(content, ArrayContent):
            return PageContent(identity, None)
        is_own = content.part is ArrayPart.ELEMENTS and not content.dataset.is_scanned
        version = version_of(content.ref) if is_own else None
        identity = (identity, content.npy.header)
        if version is None:
            return PageContent(identity, None)
        return PageContent(identity, version.number, version.is_followed)


class OpenedFiles:
    """Open files by handle, and what they tell about each other."""

    def __init__(self) -> None:
        self._handles: Handles[OpenedFile] = Handles()
        self._replaced: set[ObjectRef] = set()
        self.get: Callable[[int], OpenedFile] = self._handles.get
        """Return an open file. Raises ``BadHandleError``."""

    def add(self, opened: OpenedFile) -> int:
        """Return a new handle."""
        if opened.file is not None:
            opened.file.opened += 1
        return self._handles.add(opened)

    def get_writable(self, handle: int) -> WritableFile:
        """Return what a handle writes to. Raises ``BadHandleError`` for one that only reads."""
        file = self._handles.get(handle).file
        if file is None:
            raise BadHandleError(f"file handle {handle} is open to read only")
        return file

    def remove(self, handle: int) -> OpenedFile:
        """Forget a handle; return what it stood for. Raises ``BadHandleError``."""
        opened = self._handles.remove(handle)
        if opened.file is not None:
            opened.file.opened -= 1
        if self._replaced:
            self._replaced &= {each.held for each in self._handles.files()}
        return opened

    def of_file(self, file: WritableFile) -> list[OpenedFile]:
        """Return the handles of one file."""
        return [opened for opened in self._handles.files() if opened.file is file]

    def of_array(self, ref: ObjectRef) -> list[WritableFile]:
        """Return the files in which an array is open to write; also those whose names are gone, if
        it has others."""
        found = {}
        for opened in self._handles.files():
            file = opened.file
            if file is None or file.node is None or (file.is_gone and not file.has_other_names):
                continue
            if file.node.kind is NodeKind.ARRAY and file.node.info.ref == ref:
                found[id(file)] = file
        return list(found.values())

    def count(self) -> int:
        """Return how many handles there are."""
        return self._handles.count()

    def is_held(self, ref: ObjectRef, *, apart_from: WritableFile) -> bool:
        """Whether a handle of another file than that one keeps an object."""
        return any(
            opened.held == ref and opened.file is not apart_from for opened in self._handles.files()
        )

    def note_replaced(self, ref: ObjectRef) -> None:
        """Another object takes the place of one that a handle goes on reading."""
        self._replaced.add(ref)

    @property
    def reads_replaced(self) -> bool:
        """Whether a handle reads what its name does not lead to any more.

        The kernel has one size for all who have opened that name, so that it must ask each time.
        """
        return bool(self._replaced)

    def reads_otherwise(self, node: Node, content: Content) -> bool:
        """Whether a handle reads another text of a node, as it was before it was rewritten."""
        return isinstance(content, TextContent) and any(
            opened.node is not None
            and opened.node.kind is node.kind
            and opened.node.info.ref == node.info.ref
            and not opened.reads_text(content.data)
            for opened in self._handles.files()
        )


def writes_anew(flags: int) -> bool:
    """Whether a file is opened to write new content or more of it, and nothing else: no mapping, no
    reading."""
    return flags & os.O_ACCMODE == os.O_WRONLY and bool(flags & (os.O_TRUNC | os.O_APPEND))

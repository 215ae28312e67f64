"""The open files of a mount that writes, by the handles that the kernel has of them.

Safe from any thread: the handles have a lock of their own, under which nothing else is taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from h5fs.errors import BadHandleError
from h5fs.model.objects import ObjectRef
from h5fs.tree.content import Content, TextContent
from h5fs.tree.handles import Handles
from h5fs.tree.nodes import Node
from h5fs.tree.writing.pending.writable_file import WritableFile


@dataclass(eq=False, slots=True)
class OpenedFile:
    """An open file: ``file``, or for one that only reads what the HDF5 file has, a node and its
    content.

    ``held``: the object that is kept for it. ``pid``: of the process that opened it. ``writes``: it
    may write. ``bypasses_cache``: reads and writes go past the kernel's cache.
    """

    pid: int
    file: WritableFile | None = None
    node: Node | None = None
    content: Content | None = None
    held: ObjectRef | None = None
    bypasses_cache: bool = False
    writes: bool = False


class OpenedFiles:
    """Open files by handle, and what they tell about each other."""

    def __init__(self) -> None:
        self._handles: Handles[OpenedFile] = Handles()

    def add(self, opened: OpenedFile) -> int:
        """Return a new handle."""
        if opened.file is not None:
            opened.file.opened += 1
        return self._handles.add(opened)

    def get(self, handle: int) -> OpenedFile:
        """Return an open file. Raises ``BadHandleError``."""
        return self._handles.get(handle)

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
        return opened

    def count(self) -> int:
        """Return how many handles there are."""
        return self._handles.count()

    def is_held(self, ref: ObjectRef, *, apart_from: WritableFile) -> bool:
        """Whether a handle of another file than that one keeps an object."""
        return any(
            opened.held == ref and opened.file is not apart_from
            for opened in self._handles.files()
        )

    def reads_otherwise(self, node: Node, content: Content) -> bool:
        """Whether a handle reads another text of a node, as it was before it was rewritten."""
        return isinstance(content, TextContent) and any(
            opened.node is not None
            and opened.node.kind is node.kind
            and opened.node.info.ref == node.info.ref
            and opened.content != content
            for opened in self._handles.files()
        )


def writes_anew(flags: int) -> bool:
    """Whether a file is opened to write new content, and nothing else: no mapping, no reading."""
    return flags & os.O_ACCMODE == os.O_WRONLY and bool(flags & os.O_TRUNC)

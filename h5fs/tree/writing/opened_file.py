"""One open file of a mount that writes, as the kernel's handle stands for it."""

from __future__ import annotations

from dataclasses import dataclass

from h5fs.model.objects import ObjectRef
from h5fs.tree.content import Content
from h5fs.tree.nodes import Node
from h5fs.tree.writing.writable_file import WritableFile


@dataclass(eq=False, slots=True)
class OpenedFile:
    """An open file: ``file``, or for one that only reads what the HDF5 file has, a node and its
    content.

    ``held``: the object that is kept for it. ``pid``: of the process that opened it. ``writes``: it
    may write.
    """

    pid: int
    file: WritableFile | None = None
    node: Node | None = None
    content: Content | None = None
    held: ObjectRef | None = None
    bypasses_cache: bool = False
    writes: bool = False

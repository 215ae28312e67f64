"""What ``h5fs tree`` lists: an entry for each object, with what is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from h5fs.errors import H5fsError, show_path
from h5fs.store.ahead.habits import Habits
from h5fs.store.ahead.walk import Asked
from h5fs.tree.description import Description
from h5fs.tree.tree import Tree


class Entry(Struct):
    """One line: a dentry, what is known of it, and what is in it.

    ``kind``: of an object "group", "dataset", "datatype" or "link"; in a folder of files "folder",
    "hdf5" (an HDF5 file), "file" (any other one) or "link"; "unreadable" before it is looked at.
    ``path`` is for people; ``dentry_path`` leads to it in its tree or on the disk.
    """

    name: str
    path: str
    kind: str
    shape: list[int] | None = None
    dtype: str | None = None
    layout: str | None = None
    chunks: list[int] | None = None
    filters: list[str] | None = None
    stored_bytes: int | None = None
    size_bytes: int | None = None
    dimensions: list[str | None] | None = None
    attributes: int = 0
    target: str | None = None
    error: str | None = None
    attrs: dict[str, Any] | None = None
    entries: list[Entry] | None = None
    dentry_path: bytes = b""


Visit = Callable[[Entry, int], None]
"""Looks at an entry so many levels deep; 1: those that are listed first."""

# Fields in the order in which --json prints them; "entries" follows.
FIELDS = tuple(name for name in Entry.__struct_fields__ if name not in ("entries", "dentry_path"))


_FEW = 16
_OF_DIMENSIONS = (b"DIMENSION_LABELS", b"DIMENSION_LIST")


class Extent(Struct, frozen=True):
    """How much is listed: ``depth`` levels (None: all), attributes with their values or not."""

    depth: int | None
    has_attrs: bool

    def includes(self, levels: int) -> bool:
        """Whether what is so many levels deep is listed."""
        return self.depth is None or self.depth >= levels


def entry_at(path: bytes) -> Entry:
    """Return the entry of what stands at a path in a tree, which nobody has looked at."""
    name = show_path(path.rpartition(b"/")[2])
    return Entry(name, show_path(path), "unreadable", dentry_path=path)


def listing_habits(*, are_many_files: bool = False) -> Habits:
    """Return what ``fill`` asks of the objects of each group.

    ``are_many_files``: workers then begin with what answers batches.
    """
    few = 0 if are_many_files else _FEW
    return Habits(Asked.DATASET, Asked.STORAGE, Asked.ATTRIBUTES, few=few)


def every(entries: list[Entry], visit: Visit = lambda *_: None, level: int = 1) -> Iterator[Entry]:
    """Yield all entries, folders before what is in them; each is visited before it is yielded.

    Not recursive: groups may nest deeper than Python's calls.
    """
    pending = [(entry, level) for entry in reversed(entries)]
    while pending:
        entry, levels = pending.pop()
        visit(entry, levels)
        yield entry
        pending += [(each, levels + 1) for each in reversed(entry.entries or [])]


def fill(tree: Tree, top: Entry, extent: Extent, level: int) -> None:
    """Look at an object that is so many levels deep, and at all that is in it."""
    for _ in every([top], lambda entry, levels: _look_at(tree, entry, extent, levels), level):
        pass


def add_up(entries: list[Entry], *, by_size: bool) -> None:
    """Give groups and folders the size of what is in them; put the largest first if asked to."""
    top = Entry("", "", "group", entries=entries)
    for entry in reversed([top, *every(entries)]):
        if entry.entries is None:
            continue
        if entry.kind != "hdf5":  # which has that of the file
            entry.size_bytes = sum(each.size_bytes or 0 for each in entry.entries)
        if by_size:
            entry.entries.sort(key=lambda entry: -(entry.size_bytes or 0))


def _look_at(tree: Tree, entry: Entry, extent: Extent, levels: int) -> None:
    try:
        found: Description = tree.describe(entry.dentry_path)
        entry.kind, entry.attributes = found.kind, found.attribute_count
        entry.target = show_path(found.target) if found.target is not None else None
        entry.size_bytes = found.size_bytes
        if found.dtype is not None:
            entry.dtype, entry.shape = str(found.dtype), list(found.shape or ())
        if found.storage is not None:
            storage = found.storage
            entry.layout, entry.stored_bytes = storage.layout.value, storage.storage_size_bytes
            entry.chunks = list(storage.chunk_shape) if storage.chunk_shape else None
            entry.filters = list(storage.filters) or None
        if found.attribute_count and (extent.has_attrs or found.kind == "dataset"):
            wanted = None if extent.has_attrs else _OF_DIMENSIONS
            attrs = json.loads(tree.read_attribute_text(entry.dentry_path, wanted))
            entry.dimensions = _dimensions(attrs, len(entry.shape or ()))
            attrs.pop("$types", None)
            entry.attrs = attrs if extent.has_attrs else None
        if found.kind == "group" and extent.includes(levels + 1):
            entry.entries = _list_group(tree, entry)
    except H5fsError as error:
        entry.error = str(error)


def _list_group(tree: Tree, group: Entry) -> list[Entry]:
    names = sorted(dentry.name for dentry in tree.list_folder(group.dentry_path))
    shown, path = group.path.rstrip("/"), group.dentry_path.rstrip(b"/")
    # Attribute files have no line of their own: an object's line tells how many attributes it has.
    return [
        Entry(
            show_path(name), f"{shown}/{show_path(name)}", "unreadable",
            dentry_path=path + b"/" + name,
        )
        for name in names
        if not name.endswith(b".attrs.json")
    ]  # fmt: skip


def _dimensions(attrs: dict[str, Any], count: int) -> list[str | None] | None:
    """Return the names of a dataset's dimensions: their labels, or else their scales' names."""
    labels, scales = (attrs.get(name.decode()) for name in _OF_DIMENSIONS)
    names: list[str | None] = [None] * count
    for axis in range(count):
        for given in (scales, labels):
            value = given[axis] if isinstance(given, list) and len(given) == count else None
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, str) and value:
                names[axis] = value.rpartition("/")[2] if given is scales else value
    return names if any(names) else None

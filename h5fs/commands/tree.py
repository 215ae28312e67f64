"""``h5fs tree FILE[:/group]``: what is in a file, with the names that it has in a mount."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from h5fs.commands.offline import opened_tree, split_place
from h5fs.commands.sizes import show_size
from h5fs.errors import H5fsError, MountError, show_path
from h5fs.options import StoreOptions
from h5fs.tree import Tree
from h5fs.tree.description import Description

_BLUE, _CYAN, _RED, _DIM, _PLAIN = "\033[1;34m", "\033[36m", "\033[31m", "\033[2m", "\033[0m"


@dataclass
class _Entry:
    """One line: a dentry, what is known of it, and what is in it."""

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
    attributes: int = 0
    target: str | None = None
    error: str | None = None
    entries: list[_Entry] | None = None


def run(arguments: argparse.Namespace) -> int:
    """Print the tree; return 0, or 1 when something in it cannot be read."""
    place = split_place(arguments.place)
    assert place is not None
    file, path = place
    with opened_tree(StoreOptions(Path(file).absolute())) as tree:
        try:
            entries = _list(tree, path, arguments.depth, arguments.sort)
        except H5fsError as error:
            raise MountError(f"{file}:{show_path(path)}: {error}") from None
    if arguments.json:
        json.dump([_plain(entry) for entry in entries], sys.stdout, indent=2)
        print()
    else:
        has_colors = arguments.color == "always" or (
            arguments.color == "auto" and sys.stdout.isatty()
        )
        print(arguments.place)
        _print(entries, "", has_colors)
    return 1 if _has_errors(entries) else 0


def _list(tree: Tree, path: bytes, depth: int | None, sort: str) -> list[_Entry]:
    names = sorted(dentry.name for dentry in tree.list_folder(path))
    entries = []
    for name in names:
        # Attributes are counted with their object.
        if name.endswith(b".attrs.json"):
            continue
        entries.append(_describe(tree, path.rstrip(b"/") + b"/" + name, name, depth, sort))
    if sort == "size":
        entries.sort(key=lambda entry: -(entry.size_bytes or 0))
    return entries


def _describe(tree: Tree, path: bytes, name: bytes, depth: int | None, sort: str) -> _Entry:
    entry = _Entry(show_path(name), show_path(path), "unreadable")
    try:
        found: Description = tree.describe(path)
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
        if found.kind == "group" and (depth is None or depth > 1):
            entry.entries = _list(tree, path, None if depth is None else depth - 1, sort)
            entry.size_bytes = sum(each.size_bytes or 0 for each in entry.entries)
    except H5fsError as error:
        entry.error = str(error)
    return entry


def _plain(entry: _Entry) -> dict[str, object]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def _has_errors(entries: list[_Entry]) -> bool:
    return any(entry.error is not None or _has_errors(entry.entries or []) for entry in entries)


def _print(entries: list[_Entry], indent: str, has_colors: bool) -> None:
    width = max((len(entry.name) for entry in entries), default=0)
    for index, entry in enumerate(entries):
        is_last = index == len(entries) - 1
        name = entry.name.ljust(width)
        text = _color(entry, name, has_colors) + _details(entry, has_colors)
        print(f"{indent}{'└── ' if is_last else '├── '}{text}".rstrip())
        if entry.entries:
            _print(entry.entries, indent + ("    " if is_last else "│   "), has_colors)


def _color(entry: _Entry, name: str, has_colors: bool) -> str:
    color = {"group": _BLUE, "link": _CYAN}.get(entry.kind, "")
    if entry.error is not None:
        color = _RED
    return f"{color}{name}{_PLAIN}" if has_colors and color else name


def _details(entry: _Entry, has_colors: bool) -> str:
    parts = []
    if entry.error is not None:
        parts.append(entry.error)
    if entry.target is not None:
        parts.append(f"-> {entry.target}")
    if entry.dtype is not None:
        shape = " x ".join(map(str, entry.shape or [])) or "scalar"
        parts.append(f"{shape}  {entry.dtype}")
    if entry.layout is not None:
        chunks = "x".join(map(str, entry.chunks)) if entry.chunks else ""
        parts.append(" ".join([entry.layout, chunks, *(entry.filters or [])]).replace("  ", " "))
    if entry.size_bytes is not None and entry.kind != "group":
        size = show_size(entry.size_bytes)
        is_smaller = entry.filters and (entry.stored_bytes or 0) < entry.size_bytes
        stored = f" ({show_size(entry.stored_bytes or 0)} stored)" if is_smaller else ""
        parts.append(size + stored)
    if entry.attributes:
        parts.append(f"{entry.attributes} attribute{'s' if entry.attributes > 1 else ''}")
    text = "  ".join(parts)
    return f"  {_DIM}{text}{_PLAIN}" if has_colors and text else f"  {text}"

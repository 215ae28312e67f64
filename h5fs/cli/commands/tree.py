"""``h5fs tree FILE[:/group]``: what is in a file, with the names that it has in a mount."""

from __future__ import annotations

import argparse
import json
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from h5fs.cli.commands.offline import absolute, find_object, opened_tree, split_place
from h5fs.cli.output.colors import shows_colors
from h5fs.cli.output.sizes import show_size
from h5fs.errors import H5fsError, MountError, show_path
from h5fs.model.settings import StoreOptions
from h5fs.tree import Tree
from h5fs.tree.description import Description

_BLUE, _CYAN, _RED, _DIM, _PLAIN = "\033[1;34m", "\033[36m", "\033[31m", "\033[2m", "\033[0m"


class _Marks(NamedTuple):
    """What stands before the names."""

    middle: str
    last: str
    line: str
    blank: str


_MOST_VALUE_CHARACTERS = 120
_DRAWN = _Marks("├── ", "└── ", "│   ", "    ")
_TYPED = _Marks("|-- ", "`-- ", "|   ", "    ")


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
    dimensions: list[str | None] | None = None
    attributes: int = 0
    target: str | None = None
    error: str | None = None
    attrs: dict[str, Any] | None = None
    entries: list[_Entry] | None = None
    dentry_path: bytes = b""


# Fields in the order in which --json prints them; "entries" follows.
_FIELDS = tuple(each.name for each in fields(_Entry) if each.name not in ("entries", "dentry_path"))


def run(arguments: argparse.Namespace) -> int:
    """Print the tree; return 0, or 1 when something in it cannot be read."""
    place = split_place(arguments.place)
    assert place is not None
    file, path = place
    with opened_tree(StoreOptions(absolute(file), workers=1), arguments.starter) as tree:
        try:
            if arguments.names:
                _print_names(tree, path)
                return 0
            path = find_object(tree, path)
            if _is_group(tree, path):
                entries = _list(tree, path, arguments)
            else:
                entries = [_entry(path.rpartition(b"/")[0] + b"/", path.rpartition(b"/")[2])]
                _fill(tree, entries[0], None, 1, has_attrs=True)
        except H5fsError as error:
            raise MountError(f"{file}:{show_path(path)}: {error}") from None
    if arguments.json:
        for piece in _to_json(entries):
            sys.stdout.write(piece)
        print()
    else:
        has_colors = shows_colors(arguments.color)
        print(arguments.place if isinstance(file, Path) else f"{file}:{show_path(path)}")
        _print(entries, has_colors)
    return 1 if any(entry.error is not None for entry in _every(entries)) else 0


def _is_group(tree: Tree, path: bytes) -> bool:
    return stat.S_ISDIR(tree.get_status(path).mode)


def _print_names(tree: Tree, path: bytes) -> None:
    """Print what a shell completes: the names in a group, those of groups with a slash."""
    for dentry in tree.list_folder(path):
        slash = "/" if stat.S_ISDIR(dentry.mode) else ""
        print(show_path(dentry.name) + slash)


def _list(tree: Tree, path: bytes, arguments: argparse.Namespace) -> list[_Entry]:
    """Return what is below a folder. Not recursive: groups may nest deeper than Python's calls."""
    top = _Entry("", "", "group", entries=_list_folder(tree, path))

    def fill(entry: _Entry, levels: int) -> None:
        _fill(tree, entry, arguments.depth, levels, has_attrs=arguments.attrs)

    found = _every(top.entries or [], fill)
    for entry in [*reversed(list(found)), top]:
        if entry.entries is None:
            continue
        entry.size_bytes = sum(each.size_bytes or 0 for each in entry.entries)
        if arguments.sort == "size":
            entry.entries.sort(key=lambda entry: -(entry.size_bytes or 0))
    return top.entries or []


def _list_folder(tree: Tree, path: bytes) -> list[_Entry]:
    names = sorted(dentry.name for dentry in tree.list_folder(path))
    folder = path.rstrip(b"/") + b"/"
    # Attribute files have no line of their own: an object's line tells how many attributes it has.
    return [
        _entry(folder, name)
        for name in names
        if not name.endswith(b".attrs.json")
    ]


def _entry(folder: bytes, name: bytes) -> _Entry:
    path = folder + name
    return _Entry(show_path(name), show_path(path), "unreadable", dentry_path=path)


def _every(
    entries: list[_Entry], visit: Callable[[_Entry, int], None] = lambda _entry, _levels: None
) -> Iterator[_Entry]:
    """Yield all entries, folders before what is in them; ``visit`` is told how deep each is."""
    pending = [(entry, 1) for entry in reversed(entries)]
    while pending:
        entry, levels = pending.pop()
        visit(entry, levels)
        yield entry
        pending += [(each, levels + 1) for each in reversed(entry.entries or [])]


def _fill(
    tree: Tree, entry: _Entry, depth: int | None, levels: int, *, has_attrs: bool
) -> None:
    """Look at an object, and at what is in it unless that is too deep."""
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
        if found.attribute_count and (has_attrs or found.kind == "dataset"):
            attrs = json.loads(tree.read_attribute_text(entry.dentry_path))
            entry.dimensions = _dimensions(attrs, len(entry.shape or ()))
            attrs.pop("$types", None)
            entry.attrs = attrs if has_attrs else None
        if found.kind == "group" and (depth is None or depth > levels):
            entry.entries = _list_folder(tree, entry.dentry_path)
    except H5fsError as error:
        entry.error = str(error)


def _dimensions(attrs: dict[str, Any], count: int) -> list[str | None] | None:
    """Return the names of a dataset's dimensions: their labels, or else their scales' names."""
    labels, scales = (attrs.get(name) for name in ("DIMENSION_LABELS", "DIMENSION_LIST"))
    names: list[str | None] = [None] * count
    for axis in range(count):
        for given in (scales, labels):
            value = given[axis] if isinstance(given, list) and len(given) == count else None
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, str) and value:
                names[axis] = value.rpartition("/")[2] if given is scales else value
    return names if any(names) else None


def _to_json(entries: list[_Entry]) -> Iterator[str]:
    """Yield the pieces of a JSON list of all entries, indented."""
    pending: list[tuple[_Entry | str, str]] = [("\n]" if entries else "]", "")]
    pending += _json_items(entries, "  ")
    yield "["
    while pending:
        entry, indent = pending.pop()
        if isinstance(entry, str):
            yield entry
            continue
        inner = indent + "  "
        known = {name: getattr(entry, name) for name in _FIELDS}
        lines = [
            f"\n{inner}{json.dumps(name)}: {json.dumps(value)}"
            for name, value in known.items()
            if value is not None
        ]
        yield f"\n{indent}{{{','.join(lines)}"
        if entry.entries is None:
            yield f"\n{indent}}}"
            continue
        yield f',\n{inner}"entries": ['
        pending.append((f"\n{inner}]\n{indent}}}" if entry.entries else f"]\n{indent}}}", ""))
        pending += _json_items(entry.entries, inner + "  ")


def _json_items(entries: list[_Entry], indent: str) -> list[tuple[_Entry | str, str]]:
    """Return entries and the commas between them, the last one first."""
    items: list[tuple[_Entry | str, str]] = []
    for entry in reversed(entries):
        items += [(",", ""), (entry, indent)] if items else [(entry, indent)]
    return items


def _print(entries: list[_Entry], has_colors: bool) -> None:
    marks = _marks()
    pending = _rows(entries, "")
    while pending:
        entry, indent, width, is_last = pending.pop()
        name = entry.name.ljust(width)
        text = _color(entry, name, has_colors) + _details(entry, has_colors)
        print(f"{indent}{marks.last if is_last else marks.middle}{text}".rstrip())
        below = indent + (marks.blank if is_last else marks.line)
        for key, value in (entry.attrs or {}).items():
            print(f"{below}  {_shown(key)} = {shorten(json.dumps(value), _MOST_VALUE_CHARACTERS)}")
        pending += _rows(entry.entries or [], below)


def _rows(entries: list[_Entry], indent: str) -> list[tuple[_Entry, str, int, bool]]:
    """Return entries with indent, width of the names and whether each is the last, in reverse."""
    width = max((len(entry.name) for entry in entries), default=0)
    return [(entry, indent, width, entry is entries[-1]) for entry in reversed(entries)]


def _marks() -> _Marks:
    """Return what draws the tree, in characters that stdout has."""
    try:
        "".join(_DRAWN).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _TYPED
    return _DRAWN


def _shown(text: str) -> str:
    return show_path(text.encode("utf-8", "surrogateescape"))


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
        names = ", ".join(_shown(each or "-") for each in entry.dimensions or ())
        parts.append(f"{shape}{f' ({names})' if names else ''}  {entry.dtype}")
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

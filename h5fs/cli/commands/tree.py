"""``h5fs tree FILE[:/group]``: what is in a file, or in a folder of files, as a mount names it."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from h5fs.cli.commands.without_mount import (
    explain_missing_object,
    find_object,
    opened_tree,
)
from h5fs.cli.entries.tree_entries import (
    FIELDS,
    Entry,
    Extent,
    Visit,
    add_up,
    entry_at,
    every,
    fill,
    listing_habits,
)
from h5fs.cli.file_arguments import absolute, find_folder, split_place
from h5fs.cli.output.colors import shows_colors
from h5fs.cli.output.sizes import show_size
from h5fs.errors import H5fsError, MountError, NotFoundError, show_path
from h5fs.model.location import Url
from h5fs.model.settings import StoreOptions
from h5fs.tree import Tree

_BLUE, _CYAN, _RED, _DIM, _PLAIN = "\033[1;34m", "\033[36m", "\033[31m", "\033[2m", "\033[0m"
_COLORS = {"group": _BLUE, "folder": _BLUE, "hdf5": _BLUE, "link": _CYAN}


class _Marks(NamedTuple):
    """What stands before the names."""

    middle: str
    last: str
    line: str
    blank: str


_MOST_VALUE_CHARACTERS = 120
_DRAWN = _Marks("├── ", "└── ", "│   ", "    ")
_TYPED = _Marks("|-- ", "`-- ", "|   ", "    ")


def run(arguments: argparse.Namespace) -> int:
    """Print the tree; return 0, or 1 when something in it cannot be read."""
    extent = Extent(arguments.depth, arguments.attrs)
    folder = find_folder(arguments.place)
    if folder is not None:
        from h5fs.cli.entries.folder_entries import listed_folder

        name = str(folder) if isinstance(folder, Url) else arguments.place
        with listed_folder(folder, extent, arguments.starter) as (entries, look):
            return _show(name, None, entries, arguments, look)
    place = split_place(arguments.place)
    assert place is not None
    file, path = place
    options = StoreOptions(absolute(file), workers=1)
    with opened_tree(options, arguments.starter, habits=listing_habits()) as tree:
        try:
            if arguments.names:
                _print_names(tree, path)
                return 0
            top = entry_at(find_object(tree, path))
            is_group = stat.S_ISDIR(tree.get_status(top.dentry_path).mode)
            extent = Extent(extent.depth, has_attrs=extent.has_attrs or not is_group)
            fill(tree, top, extent, 0 if is_group else 1)
        except NotFoundError:
            raise MountError(explain_missing_object(file, path)) from None
        except H5fsError as error:
            raise MountError(f"{file}:{show_path(path)}: {error}") from None
    if is_group and top.error is not None:
        raise MountError(f"{file}:{top.path}: {top.error}")
    entries = (top.entries or []) if is_group else [top]
    name = arguments.place if isinstance(file, Path) else f"{file}:{top.path}"
    group = top if is_group else None
    return _show(name, group, entries, arguments, lambda *_: None)


def _show(
    name: str,
    group: Entry | None,
    entries: list[Entry],
    arguments: argparse.Namespace,
    look: Visit,
) -> int:
    """Print entries, each of which is looked at before, and return the exit status.

    ``group``: the one whose entries they are, where it was looked at itself.
    """
    if arguments.json and group is not None and arguments.attrs:
        group.name = group.name or "/"
        entries = [group]  # since it has attributes, too
    if arguments.json or arguments.sort == "size":
        for _ in every(entries, look):
            pass
        add_up(entries, by_size=arguments.sort == "size")
    if arguments.json:
        for piece in _to_json(entries):
            sys.stdout.write(piece)
        print()
    else:
        print(show_path(os.fsencode(name)))
        _print_attributes(group.attrs if group is not None else None, "")
        _print(entries, shows_colors(arguments.color), look)
    return 1 if any(entry.error is not None for entry in every(entries)) else 0


def _print_names(tree: Tree, path: bytes) -> None:
    """Print what a shell completes: the names in a group, those of groups with a slash."""
    for dentry in tree.list_folder(path):
        slash = "/" if stat.S_ISDIR(dentry.mode) else ""
        print(show_path(dentry.name) + slash)


def _to_json(entries: list[Entry]) -> Iterator[str]:
    """Yield the pieces of a JSON list of all entries, indented."""
    pending: list[tuple[Entry | str, str]] = [("\n]" if entries else "]", "")]
    pending += _json_items(entries, "  ")
    yield "["
    while pending:
        entry, indent = pending.pop()
        if isinstance(entry, str):
            yield entry
            continue
        inner = indent + "  "
        known = {name: getattr(entry, name) for name in FIELDS}
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


def _json_items(entries: list[Entry], indent: str) -> list[tuple[Entry | str, str]]:
    """Return entries and the commas between them, the last one first."""
    items: list[tuple[Entry | str, str]] = []
    for entry in reversed(entries):
        items += [(",", ""), (entry, indent)] if items else [(entry, indent)]
    return items


def _print(entries: list[Entry], has_colors: bool, look: Visit) -> None:
    marks = _marks()
    pending = _rows(entries, "", 1)
    while pending:
        entry, indent, width, level = pending.pop()
        look(entry, level)
        is_last = not pending or pending[-1][3] != level
        text = _color(entry, entry.name.ljust(width), has_colors) + _details(entry, has_colors)
        print(f"{indent}{marks.last if is_last else marks.middle}{text}".rstrip())
        below = indent + (marks.blank if is_last else marks.line)
        _print_attributes(entry.attrs, below + "  ")
        pending += _rows(entry.entries or [], below, level + 1)


def _print_attributes(attributes: dict[str, Any] | None, indent: str) -> None:
    for key, value in (attributes or {}).items():
        text = _shown(json.dumps(value, ensure_ascii=False))
        print(f"{indent}{_shown(key)} = {shorten(text, _MOST_VALUE_CHARACTERS)}")


def _rows(entries: list[Entry], indent: str, level: int) -> list[tuple[Entry, str, int, int]]:
    """Return entries with indent, width of the names and level, in reverse."""
    width = max((len(entry.name) for entry in entries), default=0)
    return [(entry, indent, width, level) for entry in reversed(entries)]


def _marks() -> _Marks:
    """Return what draws the tree, in characters that stdout has."""
    try:
        "".join(_DRAWN).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _TYPED
    return _DRAWN


def _shown(text: str) -> str:
    return show_path(text.encode("utf-8", "surrogateescape"))


def _color(entry: Entry, name: str, has_colors: bool) -> str:
    color = _COLORS.get(entry.kind, "")
    if entry.error is not None:
        color = _RED
    return f"{color}{name}{_PLAIN}" if has_colors and color else name


def _details(entry: Entry, has_colors: bool) -> str:
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
    if entry.kind == "hdf5":
        parts.append("HDF5")
    if entry.size_bytes is not None and entry.kind not in ("group", "folder"):
        size = show_size(entry.size_bytes)
        is_smaller = entry.filters and (entry.stored_bytes or 0) < entry.size_bytes
        stored = f" ({show_size(entry.stored_bytes or 0)} stored)" if is_smaller else ""
        parts.append(size + stored)
    if entry.attributes:
        parts.append(f"{entry.attributes} attribute{'s' if entry.attributes > 1 else ''}")
    text = "  ".join(parts)
    return f"  {_DIM}{text}{_PLAIN}" if has_colors and text else f"  {text}"

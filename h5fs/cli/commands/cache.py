"""``h5fs cache [list | clear]``: what is kept on this disk of remote files."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from h5fs.cli.commands.status_text import show_text
from h5fs.cli.output.sizes import show_size
from h5fs.errors import MountError
from h5fs.store.sources.disk_cache import Kept, clear_entries, default_cache_folder, list_entries
from h5fs.system.system_errors import explain_system_error

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def run(arguments: argparse.Namespace) -> int:
    """List or clear; return the exit status. Raises ``MountError``."""
    folder: Path = arguments.folder or default_cache_folder()
    try:
        if arguments.action == "clear":
            return _clear(folder)
        entries = sorted(list_entries(folder), key=lambda entry: -entry.used_seconds)
    except OSError as error:
        raise MountError(f"the cache: {explain_system_error(error)}") from None
    if arguments.json:
        print(json.dumps([_describe(entry) for entry in entries], indent=2))
        return 0
    for entry in entries:
        label = entry.label
        share = f"{show_size(entry.held_bytes)} of {show_size(label.size_bytes)}" if label else "?"
        age = _show_age(time.time() - entry.used_seconds)
        address = show_text(label.address) if label else "(damaged)"
        print(f"{share:>18}  {age:>8} ago  {address}")
    total = sum(entry.held_bytes for entry in entries)
    print(
        f"{show_size(total)} in {show_text(os.fspath(folder))}" if entries else "the cache is empty"
    )
    return 0


def _clear(folder: Path) -> int:
    held = sum(entry.held_bytes for entry in list_entries(folder))
    gone, stayed = clear_entries(folder)
    left = sum(entry.held_bytes for entry in list_entries(folder)) if stayed else 0
    print(f"removed: {gone} files, {show_size(max(held - left, 0))}")
    if stayed:
        print(f"in use: {stayed} files, which stay until they are unmounted")
    return 0


def _describe(entry: Kept) -> dict[str, object]:
    label = entry.label
    return {
        "url": label.address if label else None,
        "version": label.version if label else None,
        "size_bytes": label.size_bytes if label else None,
        "held_bytes": entry.held_bytes,
        "used": entry.used_seconds,
        "file": os.fspath(entry.folder / f"{entry.name}.data"),
    }


def _show_age(seconds: float) -> str:
    for unit_seconds, unit in _UNITS:
        if seconds >= unit_seconds:
            return f"{seconds // unit_seconds:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"

"""``h5fs attr FILE:/PATH NAME=VALUE``: attributes of one object, shown, set or removed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from h5fs.cli.commands.without_mount import (
    explain_missing_object,
    find_object,
    opened_tree,
    opened_writable_tree,
)
from h5fs.cli.file_arguments import absolute, split_place
from h5fs.errors import (
    H5fsError,
    InvalidAttributesError,
    MountError,
    NotFoundError,
    UsageError,
    show_path,
)
from h5fs.model.location import Location
from h5fs.model.settings import Mode, StoreOptions


def run(arguments: argparse.Namespace) -> int:
    """Show the attributes, or change those that are named; return the exit status."""
    changes = dict(map(_parse_change, arguments.changes))
    place = split_place(arguments.place)
    assert place is not None
    file, path = place
    if changes and not isinstance(file, Path):
        raise UsageError(f"{file}: what is on other machines is only read")
    try:
        if changes:
            options = StoreOptions(absolute(file), mode=Mode.UPDATE)
            with opened_writable_tree(options, arguments.starter) as writable:
                writable.change_attributes(find_object(writable, path), changes)
        else:
            with opened_tree(StoreOptions(absolute(file)), arguments.starter) as tree:
                text = tree.read_attribute_text(find_object(tree, path))
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
    except H5fsError as error:
        raise MountError(_explain(file, path, error, changes)) from None
    return 0


def _parse_change(text: str) -> tuple[bytes, bytes | None]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise UsageError(f"{text} is no NAME=VALUE (NAME= removes an attribute)")
    return os.fsencode(name), os.fsencode(value) if value else None


def _explain(
    file: Location, path: bytes, error: H5fsError, changes: Mapping[bytes, bytes | None]
) -> str:
    if isinstance(error, NotFoundError):
        return explain_missing_object(file, path)
    said = f"{file}:{show_path(path)}: {error}"
    if isinstance(error, InvalidAttributesError):
        for name, value in changes.items():
            if value and value[:1].isalpha() and f"attribute {show_path(name)!r}" in said:
                shown = f'{show_path(name)}="{value.decode(errors="replace")}"'
                return f"{said} (to make it text: '{shown}')"
    return said

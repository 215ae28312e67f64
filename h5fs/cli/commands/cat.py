"""``h5fs cat FILE:/path``: the bytes that a mount would show there, to stdout."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import Any

import numpy as np

from h5fs.cli.commands.selections import read_selection, split_selection
from h5fs.cli.commands.without_mount import (
    explain_missing_file,
    find_object,
    follow_links,
    new_buffer,
    opened_tree,
    read_pieces,
)
from h5fs.cli.file_arguments import absolute, split_place
from h5fs.errors import (
    H5fsError,
    IsAGroupError,
    MountError,
    NotFoundError,
    UsageError,
    show_path,
)
from h5fs.model.location import Location
from h5fs.model.settings import StoreOptions
from h5fs.tree import Tree

_MOST_SHOWN_BYTES = 2**24


def run(arguments: argparse.Namespace) -> int:
    """Write the files one after another; return the exit status."""
    for text in arguments.places:
        place = split_place(text)
        assert place is not None
        file, path = place
        path, selection = split_selection(path)
        if arguments.csv and selection is not None:
            raise UsageError("--csv writes whole tables; leave out the [selection]")
        with opened_tree(StoreOptions(absolute(file)), arguments.starter) as tree:
            try:
                path = follow_links(tree, path)
                if selection is not None:
                    _write_selection(tree, find_object(tree, path), selection)
                elif arguments.csv:
                    _write_table(tree, file, path)
                elif sys.stdout.isatty() and path.endswith(b".npy"):
                    _print_array(tree, path)
                else:
                    _write_all(tree, path)
            except H5fsError as error:
                raise MountError(_explain(tree, file, path, error)) from None
    return 0


def _explain(tree: Tree, file: Location, path: bytes, error: H5fsError) -> str:
    """Return what failed, and which name was probably meant."""
    place = f"{file}:{show_path(path)}"
    if isinstance(error, IsAGroupError):
        return f"{place} is a group, not a file; h5fs tree lists it, h5fs cp copies it"
    if isinstance(error, NotFoundError):
        return explain_missing_file(tree, file, path)
    return f"{place}: {os.strerror(error.errno)}: {error}"


def _print_array(tree: Tree, path: bytes) -> None:
    """Print an array as text: strings as lines, all else as numpy prints it.

    Raises ``MountError`` for one that is too large to be read by a person.
    """
    _check_size(path, tree.get_status(path).size_bytes)
    _print(np.load(io.BytesIO(b"".join(map(bytes, read_pieces(tree, path, new_buffer()))))))


def _write_table(tree: Tree, file: Location, path: bytes) -> None:
    """Write the table of an array. Raises ``MountError`` where it has none."""
    try:
        _write_all(tree, path.removesuffix(b".npy") + b".csv")
    except NotFoundError:
        tree.get_status(path)
        raise MountError(
            f"{file}:{show_path(path)} has no table; arrays of at most two dimensions have one, "
            "and compounds, of at most 16,384 columns"
        ) from None


def _write_selection(tree: Tree, path: bytes, selection: str) -> None:
    """Write a part of an array: as text on a terminal, else as ``np.save`` does."""
    array = read_selection(tree, path, selection)
    if sys.stdout.isatty():
        _check_size(path, array.nbytes)
        _print(array)
    else:
        saved = io.BytesIO()
        np.save(saved, array, allow_pickle=False)
        _write(saved.getbuffer())


def _check_size(path: bytes, size_bytes: int) -> None:
    if size_bytes > _MOST_SHOWN_BYTES:
        raise MountError(
            f"{show_path(path)} is too large for a terminal; send it to a file or a program, or "
            f"name a part of it, as in '{show_path(path)}[0, :10]'"
        )


def _print(array: np.ndarray[Any, Any]) -> None:
    if array.dtype.kind == "U" and array.ndim < 2:
        for text in array.reshape(-1).tolist():
            print(show_path(text.encode("utf-8", "surrogateescape")))
    else:
        print(array)


def _write_all(tree: Tree, path: bytes) -> None:
    for piece in read_pieces(tree, path, new_buffer()):
        _write(piece)


def _write(piece: memoryview) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()

"""``h5fs cat FILE:/path``: the bytes that a mount would show there, to stdout."""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import suppress

import numpy as np

from h5fs.cli.commands.offline import absolute, opened_tree, read_pieces, split_place
from h5fs.errors import H5fsError, IsAGroupError, MountError, NotFoundError, show_path
from h5fs.model.location import Location
from h5fs.model.settings import StoreOptions
from h5fs.tree import Tree

_MOST_SHOWN_BYTES = 2**24


def run(arguments: argparse.Namespace) -> int:
    """Write the files one after another; return the exit status."""
    is_terminal = sys.stdout.isatty()
    for text in arguments.places:
        place = split_place(text)
        assert place is not None
        file, path = place
        with opened_tree(StoreOptions(absolute(file))) as tree:
            try:
                if is_terminal and path.endswith(b".npy"):
                    _print_array(tree, path)
                    continue
                for piece in read_pieces(tree, path):
                    _write(piece)
            except H5fsError as error:
                raise MountError(_explain(tree, file, path, error)) from None
    return 0


def _explain(tree: Tree, file: Location, path: bytes, error: H5fsError) -> str:
    """Return what failed, and which name was probably meant."""
    place = f"{file}:{show_path(path)}"
    if isinstance(error, IsAGroupError):
        return f"{place} is a group, not a file; h5fs tree lists it, h5fs cp copies it"
    if isinstance(error, NotFoundError):
        hint = f"h5fs tree {file} lists the files"
        with suppress(H5fsError):
            tree.get_status(path + b".npy")
            hint = f"the dataset is the file {place}.npy"
        return f"{place}: no such file; {hint}"
    return f"{place}: {os.strerror(error.errno)}: {error}"


def _print_array(tree: Tree, path: bytes) -> None:
    """Print an array as text: strings as lines, all else as numpy prints it.

    Raises ``MountError`` for one that is too large to be read by a person.
    """
    if tree.get_status(path).size_bytes > _MOST_SHOWN_BYTES:
        raise MountError(
            f"{show_path(path)} is too large for a terminal; send it to a file or a program"
        )
    array = np.load(io.BytesIO(b"".join(map(bytes, read_pieces(tree, path)))))
    if array.dtype.kind == "U" and array.ndim < 2:
        for text in array.reshape(-1).tolist():
            print(show_path(text.encode("utf-8", "surrogateescape")))
    else:
        print(array)


def _write(piece: memoryview) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()

"""``h5fs cat FILE:/path``: what a mount would have there, to stdout."""

from __future__ import annotations

import argparse
import os
import sys

from h5fs.commands.offline import opened_tree, read_pieces, split_place
from h5fs.errors import H5fsError, MountError, show_path
from h5fs.options import StoreOptions


def run(arguments: argparse.Namespace) -> int:
    """Write them one after another; return the exit status."""
    if sys.stdout.isatty() and any(place.endswith(".npy") for place in arguments.places):
        raise MountError("an array is no text for a terminal; send it to a file or a program")
    for text in arguments.places:
        place = split_place(text)
        assert place is not None
        file, path = place
        with opened_tree(StoreOptions(file.absolute())) as tree:
            try:
                for piece in read_pieces(tree, path):
                    _write(piece)
            except H5fsError as error:
                raise MountError(
                    f"{file}:{show_path(path)}: {os.strerror(error.errno)}: {error}"
                ) from None
    return 0


def _write(piece: memoryview) -> None:
    try:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Who read it has had enough. Python would complain when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(0) from None

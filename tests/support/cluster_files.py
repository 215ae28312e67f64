"""What programs do with the files of a mount in ``cluster_writing``: one call each."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

LENGTH = 500
"""How many elements each array has that holds one number."""

_HEADER_BYTES = 128
_MOST_STALE = 4


def put_element(folder: Path, place: int, value: int) -> None:
    with (folder / "elements.npy").open("r+b", buffering=0) as opened:
        os.pwrite(opened.fileno(), np.int64(value).tobytes(), _HEADER_BYTES + 8 * place)


def append_rows(path: Path, rows: np.ndarray[Any, Any]) -> int:
    """Append to a ``.npy`` file as programs do: a new header, and data at the end.

    Returns how often the file was stale before anything was written, and was opened again: after
    a loss it may have fewer rows than a mount has seen.
    """
    for stale in range(_MOST_STALE):
        with path.open("r+b") as opened:
            try:
                np.lib.format.read_magic(opened)
                (count,), _, dtype = np.lib.format.read_array_header_1_0(opened)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                continue
            _write_rows(opened, count, rows.astype(dtype))
            return stale
    raise AssertionError(f"{path} is stale however often it is opened")


def _write_rows(opened: Any, count: int, rows: np.ndarray[Any, Any]) -> None:
    dtype = rows.dtype
    fields = {"descr": dtype.str, "fortran_order": False, "shape": (count + len(rows),)}
    opened.seek(0)
    np.lib.format.write_array_header_1_0(opened, fields)
    opened.seek(_HEADER_BYTES + 8 * count)
    opened.write(rows.tobytes())


def attribute_of(path: Path, name: str) -> int:
    try:
        return int(os.getxattr(path, name))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return 0


def load(path: Path) -> np.ndarray[Any, Any]:
    """Return an array; numpy takes a read that fails for the end of a file that is too short."""
    data = path.read_bytes()
    assert data, f"{path} is read as empty; its size is {path.stat().st_size} bytes by now"
    values: np.ndarray[Any, Any] = np.load(io.BytesIO(data))
    return values


def array_value(path: Path) -> int:
    """Return the one value of an array; 0 where there is no array, -1 for a mixture."""
    try:
        values = load(path)
    except FileNotFoundError:
        return 0
    return int(values[0]) if len(values) == LENGTH and (values == values[0]).all() else -1


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

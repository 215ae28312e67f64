"""Arrays and attributes for ``write_model``: made, told apart, and as the mount has them.

Independent of h5fs.
"""

from __future__ import annotations

import io
import json
from tokenize import TokenError
from typing import Any

import numpy as np

from support.reference import npy_bytes

ARRAY, ATTRIBUTES = ".npy", ".attrs.json"
SCRATCH = (".a.npy.Ab3dEf", "b.npy~", "tmp1")
DTYPES = (
    "|i1", "<i4", ">i4", "<u8", "<f4", ">f8", "|b1", "<c8", "|S5", "<U4", "<M8[us]", "<f2",
    "pair", "padded",
)  # fmt: skip
STRUCTURED = {
    "pair": np.dtype([("x", "<i4"), ("y", ">f8")]),
    "padded": np.dtype({"names": ["a", "b"], "formats": ["<i2", "<f8"], "offsets": [0, 8],
                        "itemsize": 16}),
}  # fmt: skip


def make_array(dtype_name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return an array that follows from its arguments."""
    dtype = STRUCTURED.get(dtype_name) or np.dtype(dtype_name)
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 100, shape)
    if dtype.names is not None:
        array = np.zeros(shape, dtype)
        for name in dtype.names:
            array[name] = numbers
        return array
    if dtype.kind in "SU":
        return np.array(numbers * 37 % 1000, dtype="S3").astype(dtype)
    if dtype.kind == "M":
        return numbers.astype("<i8").astype(dtype)
    return numbers.astype(dtype) if dtype.kind != "b" else (numbers % 2).astype(dtype)


def classify(data: bytes) -> str:
    """Return whether bytes are a ``.npy`` file: valid, empty, header (all of it and no more),
    partial, invalid."""
    if not data:
        return "empty"
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    except (ValueError, TokenError):  # numpy raises both of a header that is cut or mixed
        return "partial" if b"\x93NUMPY".startswith(data[:6]) else "invalid"
    if dtype.hasobject:
        return "invalid"
    missing = file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize - len(data)
    if missing > 0:
        return "header" if file.tell() == len(data) else "partial"
    return "valid" if missing == 0 else "invalid"


def canonical(data: bytes) -> bytes:
    """Return a valid ``.npy`` file as the mount shows it."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind == "U":
        longest = max([1, *(len(text) for text in array.ravel().tolist())])
        array = array.astype(f"<U{longest}")
    if array.dtype.kind == "S":
        array = array.astype(f"S{max(1, array.dtype.itemsize)}")
    return npy_bytes(copy_in_order(array, "C"))


def copy_in_order(array: np.ndarray, order: str) -> np.ndarray:
    """Return a copy of an array in that order, with zeros for padding (numpy leaves garbage)."""
    copy = np.frombuffer(bytearray(array.nbytes), array.dtype).reshape(array.shape, order=order)
    if array.dtype.names is None:
        copy[...] = array
    for name in array.dtype.names or ():
        copy[name] = array[name]
    return copy


def parse_attributes(data: bytes) -> dict[str, Any] | None:
    """Return the values that text gives to attributes, None when it gives none."""
    try:
        parsed = json.loads(data)
    except ValueError:
        return None
    if not isinstance(parsed, dict):
        return None
    parsed.pop("$types", None)
    return parsed

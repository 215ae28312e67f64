"""What a mounted dataset must hold, said by h5py and numpy alone.

Independent of h5fs on purpose: it shares no line with what it checks, and does everything the
plain way, on the whole dataset at once.
"""

from __future__ import annotations

import io
from typing import Any

import h5py
import numpy as np
from h5py import h5r, h5s


def npy_bytes(array: np.ndarray) -> bytes:
    """Return what ``np.save`` writes; object arrays are refused."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def expected_files(dataset: h5py.Dataset) -> dict[str, np.ndarray]:
    """Return the array of each ``.npy`` file of a dataset, by suffix.

    Raises whatever h5py raises when it cannot read the dataset.
    """
    dtype = dataset.dtype
    values = read_whole(dataset)
    sequence = sequence_base(flat_base(dtype))
    if sequence is None:
        return {".npy": project(values, dtype.base, dataset.file)}
    rows = [as_array(value, sequence) for value in values.ravel()]
    offsets = np.cumsum([0, *map(len, rows)], dtype="<i8")
    joined = join(rows, sequence)
    return {".values.npy": project(joined, sequence, dataset.file), ".offsets.npy": offsets}


def read_whole(dataset: h5py.Dataset) -> np.ndarray:
    """Return all elements; an array also for a scalar, and of objects where h5py reads objects."""
    dtype = dataset.dtype
    if dataset.shape is None:
        return np.empty((0, *dtype.shape), dtype.base)
    if dataset.id.get_type().detect_class(h5py.h5t.BITFIELD) and not dtype.hasobject:
        values = np.zeros(dataset.shape, dtype)
        dataset.id.read(h5s.ALL, h5s.ALL, values, dataset.id.get_type())
        return values
    values = dataset[()]
    if isinstance(values, np.ndarray) and values.shape[: dataset.ndim] == dataset.shape != ():
        return values
    if dtype.hasobject and dtype.names is None and not dtype.shape:
        scalar = np.empty((), object)
        scalar[()] = values
        return scalar
    return np.asarray(values, None if dtype.hasobject and dtype.shape else dtype.base)


def project(values: np.ndarray, dtype: np.dtype[Any], file: h5py.File) -> np.ndarray:
    """Return an array as h5py reads it in a dtype that ``.npy`` can spell."""
    dtype = flat_base(dtype)
    if not dtype.hasobject:
        return np.ascontiguousarray(values).view(plain_dtype(values.dtype)).reshape(values.shape)
    if dtype.names is not None:
        columns = {name: project(values[name], dtype.fields[name][0], file) for name in dtype.names}
        spelled = [(n, c.dtype, c.shape[values.ndim :]) for n, c in columns.items()]
        rows = np.zeros(values.shape, spelled)
        for name, column in columns.items():
            rows[name] = column
        return rows
    base = sequence_base(dtype)
    if base is not None:
        return project_pairs(values, base, file)
    texts = [text(value, file) for value in values.ravel()]
    try:
        return np.array([t.decode("utf-8") for t in texts], str).reshape(values.shape)
    except UnicodeDecodeError:
        return np.array(texts, bytes).reshape(values.shape)


def project_pairs(values: np.ndarray, base: np.dtype[Any], file: h5py.File) -> np.ndarray:
    """Return sequences that are not a dataset's own elements as (length, values)."""
    rows = [as_array(value, base) for value in values.ravel()]
    longest = max(map(len, rows), default=0)
    joined = project(join(rows, base), base, file)
    ends = np.cumsum([len(row) for row in rows], dtype=int)
    pairs = np.zeros(len(rows), [("length", "<i8"), ("values", joined.dtype, (longest,))])
    for pair, row, end in zip(pairs, rows, ends, strict=True):
        pair["length"] = len(row)
        pair["values"][: len(row)] = joined[end - len(row) : end]
    return pairs.reshape(values.shape)


def flat_base(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of an array type's innermost elements."""
    while dtype.subdtype is not None:
        dtype = dtype.base
    return dtype


def sequence_base(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype of the elements of variable-length sequences, None for other types."""
    if h5py.check_string_dtype(dtype) is not None:
        return None
    return h5py.check_vlen_dtype(dtype)


def as_array(value: Any, base: np.dtype[Any]) -> np.ndarray:
    """Return a sequence as h5py reads it, an empty one for a null pointer."""
    if not isinstance(value, np.ndarray):
        return np.empty((0, *base.shape), base.base)
    # h5py hands out big-endian values under a native dtype here.
    return value if value.dtype.hasobject else value.view(base.base)


def join(rows: list[np.ndarray], base: np.dtype[Any]) -> np.ndarray:
    """Return all elements of sequences; np.concatenate alone would lose the byte order."""
    joined = np.concatenate([as_array(None, base), *rows])
    return joined if base.hasobject else joined.astype(base.base, copy=False)


def text(value: Any, file: h5py.File) -> bytes:
    """Return the text of a string or a reference."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not value:
        return b""
    name = path_of(value, file)
    if not name or not isinstance(value, h5py.RegionReference):
        return name or b""
    return name + selection(h5r.get_region(value, file.id)).encode()


def path_of(reference: h5py.Reference, file: h5py.File) -> bytes | None:
    """Return a target's path; a file remembers them, since each search goes through all of it."""
    known = file.__dict__.setdefault("known_paths", {})
    address = h5py.h5o.get_info(h5r.dereference(reference, file.id)).addr
    if address not in known:
        known[address] = h5r.get_name(reference, file.id)
    return known[address]


def selection(space: h5s.SpaceID) -> str:
    """Return a selection as the mount spells it."""
    kind = space.get_select_type()
    if kind == h5s.SEL_ALL:
        return "[...]"
    if kind == h5s.SEL_NONE:
        return "[]"
    if kind == h5s.SEL_POINTS:
        points = space.get_select_elem_pointlist()
        return "{" + ";".join(",".join(map(str, point)) for point in points) + "}"
    blocks = space.get_select_hyper_blocklist()
    return "[" + ";".join(
        ",".join(f"{low}:{high + 1}" for low, high in zip(*block, strict=True)) for block in blocks
    ) + "]"  # fmt: skip


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype as ``.npy`` spells it: no metadata, arrays flat, members by offset."""
    if dtype.subdtype is not None:
        base = plain_dtype(dtype.subdtype[0])
        return np.dtype((base.base, dtype.shape + base.shape))
    if dtype.names is None:
        return np.dtype(dtype.str)
    names = sorted(dtype.names, key=lambda name: dtype.fields[name][1])
    return np.dtype(
        {
            "names": names,
            "formats": [plain_dtype(dtype.fields[name][0]) for name in names],
            "offsets": [dtype.fields[name][1] for name in names],
            "itemsize": dtype.itemsize,
        }
    )

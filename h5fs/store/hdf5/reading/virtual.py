"""Virtual datasets: in which bytes of which sources their elements are.

Functions over open identifiers; they keep nothing. Under the store's lock.

The library goes through all mappings at each read (H5Dvirtual.c). Most virtual datasets join a few
files, each of which has long runs of the elements; those are told here, so that they can be read as
their sources are. What is not told here is left to the library: sources that are missing or of
another type, elements that no source has, mappings that overlap or grow.
"""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from h5py import h5d, h5p, h5s

from h5fs.model.objects import Virtual, VirtualSource
from h5fs.store.hdf5.reading.outside_data import Outside

_Integers = npt.NDArray[np.int64]

_MOST_SOURCES = 4096
_MOST_RUNS = 2**16
_LEAST_RUN_BYTES = 2**15
"""Many runs that are shorter than this, on average, the library reads faster."""
_FEW_RUNS = 256


def describe_virtual(
    dataset_id: h5d.DatasetID,
    creation: h5p.PropDCID,
    outside: Outside,
    dtype: np.dtype[Any],
) -> Virtual | None:
    """Return where the elements of a virtual dataset are; None where only the library can tell.

    ``dtype`` is that of its elements.
    """
    shape = dataset_id.get_space().get_simple_extent_dims()
    names = outside.mapped
    if not names or not shape or not prod(shape):
        return None
    if len(outside.datasets) > _MOST_SOURCES or len(names) > _MOST_RUNS:
        return None
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    sources = []
    for name in numbers:
        refs = outside.datasets.get(name, ())
        if len(refs) != 1:
            return None  # it is missing, or the library chooses one
        source = outside.described.get(refs[0])
        if source is None or source.dtype != dtype or not source.shape:
            return None
        sources.append(VirtualSource(refs[0], source))
    starts, places, counts, lengths, most = [], [], [], [], _MOST_RUNS
    for index, name in enumerate(names):
        source_shape = sources[numbers[name]].dataset.shape
        assert source_shape is not None
        runs = _match_runs(
            _find_runs(creation.get_virtual_vspace(index), shape, most),
            _find_runs(creation.get_virtual_srcspace(index), source_shape, most),
            most,
        )
        if runs is None:
            return None
        starts.append(runs[0])
        places.append(runs[1])
        lengths.append(runs[2])
        counts.append(len(runs[0]))
        most -= counts[-1]
    numbered = [[numbers[name] for name in names], lengths]
    each = np.repeat(np.array(numbered, np.int64), counts, axis=1)
    rows = np.stack([np.concatenate(starts), each[0], np.concatenate(places), each[1]], axis=1)
    joined = _join(rows, prod(shape), dtype.itemsize)
    return None if joined is None else Virtual(tuple(sources), joined)


def _find_runs(
    space: h5s.SpaceID, shape: tuple[int, ...], most: int
) -> tuple[_Integers, int] | None:
    """Return where the runs of a selection begin in an array of ``shape``, and their length.

    In elements, and in the selection's order. None for more than ``most``, and for what is no
    regular selection of such an array.
    """
    kind = space.get_select_type()
    if kind == h5s.SEL_ALL:
        return np.zeros(1, np.int64), prod(shape)
    if kind != h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    slab = list(zip(*space.get_regular_hyperslab(), strict=True))
    if len(slab) != len(shape):
        return None
    starts, length = np.zeros(1, np.int64), 1
    is_whole = True  # so far, a run is whole rows
    for (start, stride, count, block), size, row in reversed(
        list(zip(slab, shape, _row_elements(shape), strict=True))
    ):
        blocks, elements = (1, count * block) if stride == block else (count, block)
        if not count or not block or start + (count - 1) * stride + block > size:
            return None
        if blocks * (1 if is_whole else elements) * len(starts) > most:
            return None
        firsts = start + stride * np.arange(blocks)
        if is_whole:
            length, is_whole = elements * row, elements == size
        else:
            firsts = (firsts[:, None] + np.arange(elements)).reshape(-1)
        starts = (firsts[:, None] * row + starts).reshape(-1)
    return starts, length


def _row_elements(shape: tuple[int, ...]) -> list[int]:
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _match_runs(
    those: tuple[_Integers, int] | None, these: tuple[_Integers, int] | None, most: int
) -> tuple[_Integers, _Integers, int] | None:
    """Return where runs of the same elements begin in one array and in another, and how long."""
    if those is None or these is None:
        return None
    (starts, length), (places, other_length) = those, these
    if len(starts) * length != len(places) * other_length:
        return None
    common = gcd(length, other_length)
    if len(starts) * (length // common) > most:
        return None
    return _split(starts, length, common), _split(places, other_length, common), common


def _split(starts: _Integers, length: int, into: int) -> _Integers:
    if length == into:
        return starts
    return (starts[:, None] + np.arange(0, length, into)).reshape(-1)


def _join(runs: _Integers, element_count: int, item_bytes: int) -> bytes | None:
    """Return all runs in the form that ``Virtual`` has, neighbours joined.

    ``runs`` are rows of start, source, place in the source, and length. None unless each element is
    in one of them, and only in one.
    """
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    starts, numbers, places, lengths = runs.T
    ends = starts + lengths
    if starts[0] or ends[-1] != element_count or (ends[:-1] != starts[1:]).any():
        return None
    begins = np.ones(len(runs), np.bool_)
    begins[1:] = (numbers[1:] != numbers[:-1]) | (places[1:] != places[:-1] + lengths[:-1])
    count = int(begins.sum())
    if count > max(_FEW_RUNS, element_count * item_bytes // _LEAST_RUN_BYTES):
        return None
    found = runs[begins, :3] * np.array([item_bytes, 1, item_bytes])
    joined: bytes = found.astype("<i8").tobytes()
    return joined

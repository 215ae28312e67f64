"""Elements on their way to the service: large pieces of whole chunks, a few at a time."""

from __future__ import annotations

import base64
import mmap
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from itertools import pairwise
from math import prod
from typing import Any, Final, Protocol

import numpy as np

from h5fs.errors import InvalidArrayError, UnsupportedTypeError
from h5fs.model.datatypes import Datatype, SequenceType
from h5fs.model.objects import Hyperslab
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.datatype_json import wire_bytes
from h5fs.store.hsds.object_descriptions import path_of
from h5fs.store.hsds.reading import selection_of
from h5fs.store.hsds.writing.new_types import natural_type
from h5fs.store.hsds.writing.packing import pack_array
from h5fs.store.interface import ArrayFile

_PIECE_BYTES: Final = 16 << 20
_PIECES_AT_ONCE: Final = 2  # more of them make the service slower, as measured
_FEW_RANGES: Final = 8
_MOST_IN_A_ROW: Final = 64
_POINTS_AT_ONCE: Final = 1 << 14
_APPENDED_BYTES: Final = 64 << 20  # the service takes 100 MB
_TEXTS_AT_ONCE: Final = 1 << 16


class Elements(Protocol):
    """What becomes the elements of a dataset of ``shape``."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def elements(self, start: int, stop: int) -> bytes | memoryview:
        """Return elements ``[start, stop)``, as the service takes them."""


class LentArray:
    """The elements of a ``.npy`` file that is lent, row-major, as the service takes them.

    ``trailing``: how many of the array's last dimensions are part of an element.
    """

    def __init__(self, array: ArrayFile, datatype: Datatype, trailing: int = 0) -> None:
        self._datatype = datatype
        rank = len(array.shape) - trailing
        whole = array.shape + array.dtype.shape
        self.shape = array.shape[:rank]
        self._array = np.ascontiguousarray(_whole(array))
        self._item_shape = whole[rank:]
        self.item_bytes = array.dtype.base.itemsize * prod(self._item_shape)

    def elements(self, start: int, stop: int) -> bytes | memoryview:
        """Return elements ``[start, stop)``. Raises ``InvalidArrayError``."""
        flat = self._array.reshape(-1, *self._item_shape)[start:stop]
        return pack_array(flat, self._datatype)


class LentSequences:
    """Sequences of variable length: sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Raises ``InvalidArrayError``, ``UnsupportedTypeError``.
    """

    def __init__(self, values: ArrayFile, offsets: ArrayFile) -> None:
        if not values.shape:
            raise InvalidArrayError("the values of sequences have no dimension")
        base = natural_type(np.dtype((values.dtype, values.shape[1:])))
        if wire_bytes(base) is None:
            raise UnsupportedTypeError("sequences of text")
        where = _whole(offsets)
        if (
            where.ndim != 1
            or not len(where)
            or where[0]
            or where[-1] != values.shape[0]
            or (np.any(np.diff(where) < 0))
        ):
            raise InvalidArrayError(f"offsets that do not lead from 0 to {values.shape[0]}")
        self.datatype = SequenceType(base)
        self.shape = (len(where) - 1,)
        self._values = LentArray(values, base, len(values.shape) - 1)
        self._offsets = where

    def elements(self, start: int, stop: int) -> bytes:
        """Return sequences ``[start, stop)``, each after its length."""
        edges = self._offsets[start : stop + 1]
        data = memoryview(self._values.elements(int(edges[0]), int(edges[-1])))
        size = self._values.item_bytes
        parts: list[bytes | memoryview] = []
        for low, high in pairwise((edges - edges[0]).tolist()):
            part = data[low * size : high * size]
            parts += [len(part).to_bytes(4, "little"), part]
        return b"".join(parts)


class ArraySender:
    """Writes to datasets, which are named by their ids."""

    def __init__(self, client: Client, executor: Executor, query: Mapping[str, str]) -> None:
        self._client = client
        self._executor = executor
        self._query = query

    def write_range(
        self, object_id: str, shape: tuple[int, ...], start: int, data: bytes | memoryview,
        item_bytes: int,
    ) -> None:  # fmt: skip
        """Write whole elements of a fixed size from element ``start`` on."""
        stop, filled = start + len(data) // item_bytes, 0
        view = memoryview(data)
        for slab in split_into_hyperslabs(shape, start, stop):
            size = prod(slab.count) * item_bytes
            self._put(object_id, slab, view[filled : filled + size])
            filled += size

    def write_ranges(
        self, object_id: str, shape: tuple[int, ...], array: LentArray,
        ranges: Sequence[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Write ranges of an array's elements; many short ones, as single elements, together."""
        are_few = len(ranges) <= _FEW_RANGES
        points: list[int] = []
        for start, stop in ranges:
            if are_few or stop - start > _MOST_IN_A_ROW:
                data = array.elements(start, stop)
                self.write_range(object_id, shape, start, data, array.item_bytes)
            else:
                points += range(start, stop)
        for first in range(0, len(points), _POINTS_AT_ONCE):
            part = points[first : first + _POINTS_AT_ONCE]
            places = np.column_stack(np.unravel_index(part, shape))
            data = b"".join(array.elements(each, each + 1) for each in part)
            body = {
                "points": (places[:, 0] if len(shape) == 1 else places).tolist(),
                "value_base64": base64.b64encode(data).decode("ascii"),
            }
            self._client.change("PUT", f"{path_of(object_id)}/value", self._query, body)

    def write_all(
        self, object_id: str, array: Elements, datatype: Datatype,
        chunk_shape: tuple[int, ...] | None,
    ) -> None:  # fmt: skip
        """Write a whole array. Raises the error of the first piece that fails."""
        underway: deque[Future[None]] = deque()
        problem: BaseException | None = None
        for start, stop in _pieces(array.shape, datatype, chunk_shape):
            while len(underway) >= _PIECES_AT_ONCE:
                problem = problem or underway.popleft().exception()
            if problem is not None:
                break
            underway.append(self._executor.submit(self._write_piece, object_id, array, start, stop))
        for each in underway:
            problem = problem or each.exception()
        if problem is not None:
            raise problem

    def append(self, object_id: str, array: LentArray, first_row: int) -> None:
        """Add the rows from ``first_row`` on behind those that the dataset has then.

        In one step, as long as they are no more than what the service takes at once.
        """
        row = prod(array.shape[1:])
        step = max(_APPENDED_BYTES // max(row * array.item_bytes, 1), 1)
        for first in range(first_row, array.shape[0], step):
            last = min(first + step, array.shape[0])
            query = {**self._query, "append": str(last - first)}
            data = array.elements(first * row, last * row)
            self._client.write(f"{path_of(object_id)}/value", query, data, once=True)

    def _write_piece(self, object_id: str, array: Elements, start: int, stop: int) -> None:
        for slab in split_into_hyperslabs(array.shape, start, stop):
            size = prod(slab.count)
            self._put(object_id, slab, array.elements(start, start + size))
            start += size

    def _put(self, object_id: str, slab: Hyperslab, data: bytes | memoryview) -> None:
        query = {**self._query, **selection_of(slab)}
        self._client.write(f"{path_of(object_id)}/value", query, data)


def _whole(array: ArrayFile) -> np.ndarray[Any, Any]:
    """Return an array over the mapped file: elements are read when they are used."""
    shape, base = array.shape + array.dtype.shape, array.dtype.base
    if not prod(shape) or not base.itemsize:
        return np.zeros(shape, base)
    # The mapping lives as long as the array that shows it.
    mapped = array.data or mmap.mmap(array.descriptor, array.size_bytes, prot=mmap.PROT_READ)
    flat = np.frombuffer(mapped, base, prod(shape), array.data_start)
    return flat.reshape(shape, order="F" if array.is_fortran_order else "C")


def _pieces(
    shape: tuple[int, ...], datatype: Datatype, chunk_shape: tuple[int, ...] | None
) -> Iterator[tuple[int, int]]:
    """Yield ranges of elements: whole bands of chunks, as long as those are not too large."""
    count, item_bytes = prod(shape), wire_bytes(datatype)
    if item_bytes is None:
        step = _TEXTS_AT_ONCE
    else:
        band = (chunk_shape[0] if chunk_shape else 1) * prod(shape[1:])
        most = max(_PIECE_BYTES // item_bytes, 1)
        step = most // band * band if band <= most else most
    for start in range(0, count, step):
        yield start, min(start + step, count)

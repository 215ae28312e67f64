"""Datasets that were opened to be read, each as it was described then."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Final

import numpy as np

from h5fs.errors import StaleError, UnsupportedTypeError
from h5fs.model.datatypes import Datatype
from h5fs.model.objects import DatasetInfo, Hyperslab
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.element_ranges import OFFSET_BYTES, ReadElements, read_through_library
from h5fs.store.hsds.answers import ObjectAnswer
from h5fs.store.hsds.client import Client, RefusedRequestError
from h5fs.store.hsds.object_descriptions import describe_array, path_of
from h5fs.store.hsds.remote_array import RemoteArray, RemoteBlocks
from h5fs.store.hsds.unpacking import Array, TargetOf, to_array, unpack
from h5fs.store.interface import ArrayPart
from h5fs.store.variable_datasets import (
    SequenceDataset,
    VariableDataset,
    make_variable_dataset,
)

_MOST_OPEN: Final = 256
_MOST_VARIABLE_BYTES: Final = 100 << 20  # the service answers no more
_MOST_OBJECT_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class _Source:
    """Where elements of variable length are read."""

    client: Client
    object_id: str
    query: dict[str, str]
    shape: tuple[int, ...]
    datatype: Datatype
    target_of: TargetOf

    def read(self, start: int, stop: int) -> Array:
        """Return elements ``[start, stop)`` as h5py reads them."""
        pieces = []
        for slab in split_into_hyperslabs(self.shape, start, stop):
            query = {**self.query, **selection_of(slab)}
            with _noticing_another_shape(self.client, self.object_id, self.query, self.shape):
                data = self.client.read(_values_of(self.object_id), query, _MOST_VARIABLE_BYTES)
            elements = unpack(data, self.datatype, prod(slab.count), self.target_of)
            pieces.append(to_array(elements, self.datatype))
        return np.concatenate(pieces) if pieces else to_array([], self.datatype)


@dataclass(frozen=True)
class _Opened:
    """What reads a dataset: an array, or elements of variable length and their source.

    ``lock`` protects the elements of variable length, which keep what was read last. It is held
    while the service is asked; ``is_outdated`` says without it that this is to be forgotten.
    """

    object_id: str
    info: DatasetInfo
    array: RemoteArray | None
    variable: tuple[VariableDataset | SequenceDataset, _Source] | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_outdated: threading.Event = field(default_factory=threading.Event)

    def read_into(self, part: ArrayPart, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with bytes of a file's data."""
        is_sequences = self.variable is not None and isinstance(self.variable[0], SequenceDataset)
        if is_sequences != (part is not ArrayPart.ELEMENTS):
            raise UnsupportedTypeError(f"a dataset that has no {part.value}")
        if not buffer:
            return
        if self.array is not None:
            self.array.read_into(offset, buffer)
            return
        assert self.variable is not None
        dataset, source = self.variable
        item_bytes = OFFSET_BYTES if part is ArrayPart.OFFSETS else self.info.dtype.itemsize
        read: ReadElements
        if isinstance(dataset, VariableDataset):
            read = functools.partial(dataset.read, source)
        elif part is ArrayPart.OFFSETS:
            read = functools.partial(dataset.read_offsets, source)
        else:
            read = functools.partial(dataset.read_values, source)
        with self.lock:
            if self.is_outdated.is_set():
                self.is_outdated.clear()
                dataset.forget()
            buffer[:] = read_through_library(read, item_bytes, offset, len(buffer))


class DatasetReaders:
    """The readers of the datasets that were opened last.

    The very ``DatasetInfo`` that ``open`` has returned leads to the dataset as it was opened then.
    ``_lock`` protects ``_opened``; nothing else is taken while it is held.
    """

    def __init__(self, client: Client, executor: Executor, cache_bytes: int) -> None:
        self._client = client
        self._executor = executor
        self.cache = RemoteBlocks(cache_bytes)
        self._lock = threading.Lock()
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._numbers = itertools.count()

    def open(
        self, answer: ObjectAnswer, query: Mapping[str, str], target_of: TargetOf
    ) -> DatasetInfo:
        """Return how a dataset looks; elements of variable length are all read once for that."""
        opened = self._open(answer, query, target_of)
        self._keep(opened)
        return opened.info

    def open_as(
        self,
        info: DatasetInfo,
        answer: ObjectAnswer,
        query: Mapping[str, str],
        target_of: TargetOf,
    ) -> None:
        """Open a dataset again, which must still be as ``info`` says, or have more rows.

        Raises ``StaleError`` when it is not.
        """
        if _has_grown(answer, info):
            array = self._array(answer, info.shape or (), info, query)
            self._keep(_Opened(answer.id, info, array, None))
            return
        opened = self._open(answer, query, target_of)
        if (opened.info.shape, opened.info.dtype, opened.info.value_count) != (
            info.shape, info.dtype, info.value_count,
        ):  # fmt: skip
            raise StaleError(f"{answer.id} has another shape or type by now; open the file again")
        self._keep(dataclasses.replace(opened, info=info))

    def read_into(
        self, info: DatasetInfo, part: ArrayPart, offset: int, buffer: memoryview
    ) -> bool:
        """Fill a buffer; False when the dataset is not open (any more)."""
        with self._lock:
            opened = self._opened.get(id(info))
            if opened is None:
                return False
            self._opened.move_to_end(id(info))
        opened.read_into(part, offset, buffer)
        return True

    def forget_values(self, object_id: str) -> None:
        """Forget what was read of a dataset, by whomever: reads that begin now ask for it."""
        with self._lock:
            opened = [each for each in self._opened.values() if each.object_id == object_id]
        for each in opened:
            if each.array is not None:
                self.cache.forget(each.array.number)
            each.is_outdated.set()

    def _keep(self, opened: _Opened) -> None:
        gone: list[_Opened] = []
        with self._lock:
            self._opened[id(opened.info)] = opened
            while len(self._opened) > _MOST_OPEN:
                gone.append(self._opened.popitem(last=False)[1])
        for each in gone:
            if each.array is not None:
                self.cache.forget(each.array.number)

    def _open(self, answer: ObjectAnswer, query: Mapping[str, str], target_of: TargetOf) -> _Opened:
        info, datatype = describe_array(answer)
        shape = (0,) if info.shape is None else info.shape
        if not info.dtype.hasobject:
            array = self._array(answer, shape, info, query)
            return _Opened(answer.id, info, array, None)
        source = _Source(self._client, answer.id, dict(query), shape, datatype, target_of)
        dataset = make_variable_dataset(info.dtype, _Source.read, prod(shape), _text_of)
        count: int | None = None
        if isinstance(dataset, SequenceDataset):
            dataset.scan(source, _ignore)
            count = dataset.value_count
        else:
            dataset.scan(source, prod(shape), _ignore)
        size_bytes = (prod(shape) if count is None else count) * dataset.dtype.itemsize
        per_element = dataset.per_element if isinstance(dataset, SequenceDataset) else 1
        info = DatasetInfo(
            info.shape, dataset.dtype, size_bytes, count, per_element, is_scanned=True
        )
        return _Opened(answer.id, info, None, (dataset, source))

    def _array(
        self, answer: ObjectAnswer, shape: tuple[int, ...], info: DatasetInfo,
        query: Mapping[str, str],
    ) -> RemoteArray:  # fmt: skip
        read = functools.partial(self._read_slab, answer.id, dict(query), shape)
        return RemoteArray(
            next(self._numbers), shape, info.dtype.itemsize, answer.chunk_shape(len(shape)), read,
            self._executor, self.cache,
        )  # fmt: skip

    def _read_slab(
        self, object_id: str, query: dict[str, str], shape: tuple[int, ...], slab: Hyperslab,
        buffer: memoryview,
    ) -> None:  # fmt: skip
        with _noticing_another_shape(self._client, object_id, query, shape):
            self._client.read_into(_values_of(object_id), {**query, **selection_of(slab)}, buffer)


@contextmanager
def _noticing_another_shape(
    client: Client, object_id: str, query: Mapping[str, str], shape: tuple[int, ...]
) -> Iterator[None]:
    """Raise ``StaleError`` where elements are refused since others have made the dataset shorter.

    ``shape``: the one that it had when it was opened. Nothing is asked unless they are refused.
    """
    try:
        yield
    except RefusedRequestError:
        answer = client.get(path_of(object_id), ObjectAnswer, query, most_bytes=_MOST_OBJECT_BYTES)
        now = describe_array(answer)[0].shape
        if now == shape:
            raise
        raise StaleError(f"{object_id} has the shape {now} by now; open the file again") from None


def _has_grown(answer: ObjectAnswer, info: DatasetInfo) -> bool:
    """Whether a dataset whose elements have one size has got more rows, and nothing else."""
    now = describe_array(answer)[0]
    if not now.shape or not info.shape or now.dtype.hasobject or now.dtype != info.dtype:
        return False
    return now.shape[1:] == info.shape[1:] and now.shape[0] > info.shape[0]


def _values_of(object_id: str) -> str:
    return f"{path_of(object_id)}/value"


def selection_of(slab: Hyperslab) -> dict[str, str]:
    """Return the part of a query that names a hyperslab."""
    if not slab.count:  # a scalar
        return {}
    edges = zip(slab.start, slab.count, strict=True)
    return {"select": "[" + ",".join(f"{start}:{start + count}" for start, count in edges) + "]"}


def _text_of(reference: bytes | None) -> bytes:
    """Return the text that stands for a reference: its target's path, empty where it has none."""
    return reference if isinstance(reference, bytes) else b""


def _ignore() -> None:
    """Hear of progress, and do nothing."""

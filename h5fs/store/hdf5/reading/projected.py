"""Datasets as ``.npy`` files hold them: one way to read for each kind of type.

Where a type has variable-length parts, a scan reads every element once, a run of elements at a time
(called a block in this module), and keeps some numbers for each run but no element. Under the
store's lock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5f, h5i, h5o, h5r

from h5fs.errors import UnreadableError
from h5fs.model.objects import RegionTarget
from h5fs.store.chunks.geometry import Box, Grid
from h5fs.store.hdf5.objects.references import PathOf, describe_region
from h5fs.store.hdf5.reading.chunk_index import WrittenChunks, list_written_chunks
from h5fs.store.hdf5.reading.datasets import creation_of
from h5fs.store.hdf5.reading.variable import Part, as_elements, make_part, sequence_base
from h5fs.store.hdf5.types.elements import (
    MemoryType,
    memory_type,
    npy_dtype,
    read_box,
    read_fixed,
    read_objects,
)

Array = np.ndarray[Any, Any]

_LARGE_ELEMENT_BYTES = 2**18

BLOCK_ELEMENTS = 4096
"""Most elements read at a time: enough that the cost of a call vanishes."""

_MAX_SEQUENCES = 2**32  # each has an entry in a table, a block of them at a time

_BLOCK_BYTES = 2**23  # about as much as a block of variable-length elements takes


@dataclass
class FixedDataset:
    """A dataset of elements of one size: the file holds what HDF5 gives."""

    memory: MemoryType
    _kept: tuple[int, bytearray] = (-1, bytearray())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the file."""
        return npy_dtype(self.memory.dtype)

    def read(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> bytearray:
        """Return elements ``[start, stop)`` as the file holds them.

        HDF5 reads whole elements only. A large element (of an HDF5 array type), which takes many
        requests, is kept: otherwise each request would read all of it again.
        """
        if stop - start != 1 or self.memory.dtype.itemsize <= _LARGE_ELEMENT_BYTES:
            return read_fixed(dataset_id, self.memory, start, stop)
        if self._kept[0] != start:
            self._kept = (start, read_fixed(dataset_id, self.memory, start, stop))
        return self._kept[1]

    def forget(self) -> None:
        """Let go of the element that was kept."""
        self._kept = (-1, bytearray())


@dataclass
class VariableDataset:
    """A dataset of one ``.npy`` file whose elements have variable-length parts."""

    memory: MemoryType
    part: Part
    _kept: tuple[int, bytes] = (-1, b"")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the file."""
        return self.part.dtype()

    def read(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> bytes:
        """Return elements ``[start, stop)`` as the file holds them."""
        is_large = stop - start == 1 and self.dtype.itemsize > _LARGE_ELEMENT_BYTES
        if is_large and self._kept[0] == start:
            return self._kept[1]
        data = self.part.convert(read_objects(dataset_id, self.memory, start, stop)).tobytes()
        if is_large:
            self._kept = (start, data)
        return data

    def forget(self) -> None:
        """Let go of the element that was kept."""
        self._kept = (-1, b"")


@dataclass
class SequenceDataset:
    """A dataset of variable-length sequences: ``.values.npy`` and ``.offsets.npy``.

    ``first_elements[i]`` and ``first_values[i]`` say at which element block i starts, and at which
    of all values; both have one more entry for the end. Each of the ``element_count`` elements
    holds ``per_element`` sequences: more than one where the type is an array of them.
    """

    memory: MemoryType
    base: np.dtype[Any]
    part: Part
    element_count: int
    per_element: int
    first_elements: list[int] = field(default_factory=lambda: [0])
    first_values: list[int] = field(default_factory=lambda: [0])
    _kept: tuple[int, list[Array]] = (-1, [])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of one value."""
        return self.part.dtype()

    @property
    def value_count(self) -> int:
        """The number of values in all sequences."""
        return self.first_values[-1]

    def read_offsets(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> bytes:
        """Return offsets ``[start, stop)``, as ``<i8``; there is one more than sequences."""
        firsts = [element * self.per_element for element in self.first_elements]
        pieces = []
        block = bisect_right(firsts, start) - 1
        while start < stop:
            is_last = block == len(firsts) - 1
            lengths = [] if is_last else [len(each) for each in self._block(dataset_id, block)]
            offsets = np.cumsum([self.first_values[block], *lengths], dtype="<i8")
            # A block's last offset is the first one of the next block; the entry after the last
            # block has that of the last one.
            end = stop if is_last else min(stop, firsts[block + 1])
            pieces.append(offsets[start - firsts[block] : end - firsts[block]])
            start, block = end, block + 1
        return np.concatenate(pieces).tobytes() if pieces else b""

    def read_values(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> bytes:
        """Return values ``[start, stop)`` of all sequences, one after another."""
        pieces: list[Array] = []
        block = max(bisect_right(self.first_values, start) - 1, 0)
        while start < stop:
            position = self.first_values[block]
            for sequence in self._block(dataset_id, block):
                if position < stop and position + len(sequence) > start:
                    pieces.append(sequence[max(start - position, 0) : stop - position])
                position += len(sequence)
            start = max(start, position)
            block += 1
        converted = [self.part.convert(piece) for piece in pieces]
        return b"".join(np.ascontiguousarray(piece).tobytes() for piece in converted)

    def forget(self) -> None:
        """Let go of the block that was kept."""
        self._kept = (-1, [])

    def _block(self, dataset_id: h5d.DatasetID, block: int) -> list[Array]:
        """Return the sequences of a block. The last block is kept, since reads go on in it."""
        if self._kept[0] != block:
            start, stop = self.first_elements[block], self.first_elements[block + 1]
            self._kept = (block, self._read(dataset_id, start, stop))
        return self._kept[1]

    def _read(self, dataset_id: h5d.DatasetID, start: int, stop: int) -> list[Array]:
        objects = read_objects(dataset_id, self.memory, start, stop)
        return [as_elements(value, self.base) for value in objects.ravel().tolist()]

    def scan(self, dataset_id: h5d.DatasetID, on_progress: Callable[[], None]) -> None:
        """Read every sequence once: learn widths and where each block's values begin."""
        start, count = 0, 1
        while start < self.element_count:
            on_progress()
            stop = min(start + count, self.element_count)
            sequences = self._read(dataset_id, start, stop)
            measured = sum(self.part.measure(sequence) for sequence in sequences)
            self.first_elements.append(stop)
            self.first_values.append(self.first_values[-1] + sum(map(len, sequences)))
            start, count = stop, _next_count(stop - start, measured)


ProjectedDataset = FixedDataset | VariableDataset | SequenceDataset


def project_dataset(
    dataset_id: h5d.DatasetID, *, path_of: PathOf, on_progress: Callable[[], None]
) -> ProjectedDataset:
    """Return what reads a dataset, after a scan when its type has variable-length parts.

    ``path_of`` names the targets of references; ``on_progress`` is called as the scan goes on.
    Raises ``UnsupportedTypeError``.
    """
    memory = memory_type(dataset_id.get_type())
    if not memory.dtype.hasobject:
        return FixedDataset(memory)
    element_count = dataset_id.get_space().get_simple_extent_npoints()
    file_id = h5i.get_file_id(dataset_id)

    def text_of_reference(reference: Any) -> bytes:
        return _describe_reference(reference, file_id, path_of)

    # Arrays of sequences are sequences too; an array's dimensions trail those of the dataset.
    innermost, per_element = memory.dtype, 1
    while innermost.subdtype is not None:
        per_element *= prod(innermost.shape)
        innermost = innermost.base
    base = sequence_base(innermost)
    if base is not None:
        if element_count > _MAX_SEQUENCES:
            raise UnreadableError(f"{element_count} sequences, more than {_MAX_SEQUENCES}")
        part = make_part(base, text_of_reference)
        sequences = SequenceDataset(memory, base, part, element_count, per_element)
        sequences.scan(dataset_id, on_progress)
        return sequences
    array = VariableDataset(memory, make_part(memory.dtype, text_of_reference))
    _measure_elements(dataset_id, memory, array.part, on_progress)
    return array


def _measure_elements(
    dataset_id: h5d.DatasetID, memory: MemoryType, part: Part, on_progress: Callable[[], None]
) -> None:
    """Let a part measure every written element, and one of those that were never written.

    A dataset may claim a trillion elements of which a few were written.
    """
    creation = creation_of(dataset_id)
    space = dataset_id.get_space()
    element_count = space.get_simple_extent_npoints()
    if creation.get_layout() == h5d.CHUNKED and element_count:
        grid = Grid(space.get_simple_extent_dims(), creation.get_chunk(), 1)
        is_sparse = dataset_id.get_num_chunks() < grid.chunk_count
        written = list_written_chunks(dataset_id, grid, on_progress) if is_sparse else None
        if written is not None:
            for box in _written_boxes(written, grid):
                on_progress()
                part.measure(read_box(dataset_id, memory, box))
            return
    elif creation.get_layout() == h5d.CONTIGUOUS and not dataset_id.get_storage_size():
        element_count = min(element_count, 1)
    start, count = 0, 1
    while start < element_count:
        on_progress()
        stop = min(start + count, element_count)
        measured = part.measure(read_objects(dataset_id, memory, start, stop))
        start, count = stop, _next_count(stop - start, measured)


def _written_boxes(written: WrittenChunks, grid: Grid) -> Iterator[Box]:
    """Yield boxes that cover the chunks that were written, and one element that was not."""
    numbers = written.numbers
    missing = np.flatnonzero(numbers != np.arange(len(numbers)))
    first = int(missing[0]) if len(missing) else len(numbers)
    if first < grid.chunk_count:
        start = grid.box(first).start
        yield Box(start, (1,) * len(start))
    for number in numbers.tolist():
        yield from _split_box(grid.box(number))


def _split_box(box: Box) -> Iterator[Box]:
    """Yield parts of a box of at most about ``BLOCK_ELEMENTS`` each, cut along one dimension."""
    rows = max(1, BLOCK_ELEMENTS * box.count[0] // prod(box.count))
    for first in range(0, box.count[0], rows):
        count = min(rows, box.count[0] - first)
        yield Box((box.start[0] + first, *box.start[1:]), (count, *box.count[1:]))


def _next_count(count: int, measured_bytes: int) -> int:
    """Return how many elements to read next, after ``count`` took so many bytes."""
    fitting = count * _BLOCK_BYTES // max(measured_bytes, 1)
    return max(1, min(2 * count, fitting, BLOCK_ELEMENTS))


def _describe_reference(reference: Any, file_id: h5f.FileID, path_of: PathOf) -> bytes:
    """Return the path that a reference leads to, with its selection; empty for a null one."""
    if not isinstance(reference, h5r.Reference) or not reference:
        return b""
    try:
        address = h5o.get_info(h5r.dereference(reference, file_id)).addr
    except Exception:  # any of h5py's: its target has been deleted
        return b""
    path = path_of(address)
    if not path:
        return b""
    if isinstance(reference, h5r.RegionReference):
        return format_region(describe_region(h5r.get_region(reference, file_id), path))
    return path


def format_region(region: RegionTarget) -> bytes:
    """Return a region as text: ``/d[0:2,3:5]``, more blocks after ``;``, points in braces.

    ``/d[...]`` is the whole dataset and ``/d[]`` nothing of it.
    """
    if region.everything:
        return region.path + b"[...]"
    if region.points:
        return region.path + b"{%s}" % b";".join(
            b",".join(b"%d" % index for index in point) for point in region.points
        )
    return region.path + b"[%s]" % b";".join(
        b",".join(b"%d:%d" % edges for edges in zip(start, stop, strict=True))
        for start, stop in region.blocks
    )

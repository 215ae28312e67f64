"""Datasets whose elements have variable-length parts, as ``.npy`` files hold them.

A scan reads every element once, a run of elements at a time, and keeps some numbers for each run
but no element. Whoever reads elements gives ``read_objects``; the ``source`` that it is called with
is the reader's own, and passes through here. Not safe to use from several threads at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from h5fs.errors import UnreadableError
from h5fs.store.variable_elements import Part, TextOf, as_elements, make_part, sequence_base

Array = np.ndarray[Any, Any]

ReadObjects = Callable[[Any, int, int], Array]
"""Returns elements ``[start, stop)`` of a source, row-major, as a flat array with objects in it."""

_LARGE_ELEMENT_BYTES = 2**18

RUN_ELEMENTS = 4096
"""Most elements read at a time: enough that the cost of a call vanishes."""

_MAX_SEQUENCES = 2**32  # each has an entry in a table, a run of them at a time

_RUN_BYTES = 2**23  # about as much as a run of variable-length elements takes


@dataclass
class VariableDataset:
    """A dataset of one ``.npy`` file whose elements have variable-length parts."""

    read_objects: ReadObjects
    part: Part
    _kept: tuple[int, bytes] = (-1, b"")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the file."""
        return self.part.dtype()

    def read(self, source: Any, start: int, stop: int) -> bytes:
        """Return elements ``[start, stop)`` as the file holds them."""
        is_large = stop - start == 1 and self.dtype.itemsize > _LARGE_ELEMENT_BYTES
        if is_large and self._kept[0] == start:
            return self._kept[1]
        data = self.part.convert(self.read_objects(source, start, stop)).tobytes()
        if is_large:
            self._kept = (start, data)
        return data

    def scan(self, source: Any, element_count: int, on_progress: Callable[[], None]) -> None:
        """Measure the first ``element_count`` elements."""
        start, count = 0, 1
        while start < element_count:
            on_progress()
            stop = min(start + count, element_count)
            measured = self.part.measure(self.read_objects(source, start, stop))
            start, count = stop, _next_count(stop - start, measured)

    def forget(self) -> None:
        """Let go of the element that was kept."""
        self._kept = (-1, b"")


@dataclass
class SequenceDataset:
    """A dataset of variable-length sequences: ``.values.npy`` and ``.offsets.npy``.

    ``first_elements[i]`` and ``first_values[i]`` say at which element run i starts, and at which
    of all values; both have one more entry for the end. Each of the ``element_count`` elements
    holds ``per_element`` sequences: more than one where the type is an array of them.
    """

    read_objects: ReadObjects
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

    def read_offsets(self, source: Any, start: int, stop: int) -> bytes:
        """Return offsets ``[start, stop)``, as ``<i8``; there is one more than sequences."""
        firsts = [element * self.per_element for element in self.first_elements]
        pieces = []
        run = bisect_right(firsts, start) - 1
        while start < stop:
            is_last = run == len(firsts) - 1
            lengths = [] if is_last else [len(each) for each in self._run(source, run)]
            offsets = np.cumsum([self.first_values[run], *lengths], dtype="<i8")
            # A run's last offset is the first one of the next run; the entry after the last
            # run has that of the last one.
            end = stop if is_last else min(stop, firsts[run + 1])
            pieces.append(offsets[start - firsts[run] : end - firsts[run]])
            start, run = end, run + 1
        return np.concatenate(pieces).tobytes() if pieces else b""

    def read_values(self, source: Any, start: int, stop: int) -> bytes:
        """Return values ``[start, stop)`` of all sequences, one after another."""
        pieces: list[Array] = []
        run = max(bisect_right(self.first_values, start) - 1, 0)
        while start < stop:
            position = self.first_values[run]
            for sequence in self._run(source, run):
                if position < stop and position + len(sequence) > start:
                    pieces.append(sequence[max(start - position, 0) : stop - position])
                position += len(sequence)
            start = max(start, position)
            run += 1
        converted = [self.part.convert(piece) for piece in pieces]
        return b"".join(np.ascontiguousarray(piece).tobytes() for piece in converted)

    def forget(self) -> None:
        """Let go of the run that was kept."""
        self._kept = (-1, [])

    def _run(self, source: Any, run: int) -> list[Array]:
        """Return the sequences of a run. The last run is kept, since reads go on in it."""
        if self._kept[0] != run:
            start, stop = self.first_elements[run], self.first_elements[run + 1]
            self._kept = (run, self._read(source, start, stop))
        return self._kept[1]

    def _read(self, source: Any, start: int, stop: int) -> list[Array]:
        objects = self.read_objects(source, start, stop)
        return [as_elements(value, self.base) for value in objects.ravel().tolist()]

    def scan(self, source: Any, on_progress: Callable[[], None]) -> None:
        """Read every sequence once: learn widths and where each run's values begin."""
        start, count = 0, 1
        while start < self.element_count:
            on_progress()
            stop = min(start + count, self.element_count)
            sequences = self._read(source, start, stop)
            measured = sum(self.part.measure(sequence) for sequence in sequences)
            self.first_elements.append(stop)
            self.first_values.append(self.first_values[-1] + sum(map(len, sequences)))
            start, count = stop, _next_count(stop - start, measured)


def make_variable_dataset(
    dtype: np.dtype[Any], read_objects: ReadObjects, element_count: int, text_of_reference: TextOf
) -> VariableDataset | SequenceDataset:
    """Return what reads a dataset of elements that h5py reads as ``dtype``; it is to be scanned.

    Raises ``UnreadableError``.
    """
    # Arrays of sequences are sequences too; an array's dimensions trail those of the dataset.
    innermost, per_element = dtype, 1
    while innermost.subdtype is not None:
        per_element *= prod(innermost.shape)
        innermost = innermost.base
    base = sequence_base(innermost)
    if base is None:
        return VariableDataset(read_objects, make_part(dtype, text_of_reference))
    if element_count > _MAX_SEQUENCES:
        raise UnreadableError(f"{element_count} sequences, more than {_MAX_SEQUENCES}")
    part = make_part(base, text_of_reference)
    return SequenceDataset(read_objects, base, part, element_count, per_element)


def _next_count(count: int, measured_bytes: int) -> int:
    """Return how many elements to read next, after ``count`` took so many bytes."""
    fitting = count * _RUN_BYTES // max(measured_bytes, 1)
    return max(1, min(2 * count, fitting, RUN_ELEMENTS))

"""Files of arrays, lent to the worker that writes: it maps them, so that no element is sent.

Small ones are sent all the same, which takes less than to open and map a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from h5fs.store.interface import ArrayFile
from h5fs.store.library_interface import NewArray
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.shared_buffers import SharedBuffer

_FIRST_SHARED_BUFFER = 1 << 40  # those of decoded chunks count from 0


class Lender:
    """Lends files to the workers of a pool, each under a number of its own. Thread-safe."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._numbers = itertools.count(_FIRST_SHARED_BUFFER)

    @contextmanager
    def lend(
        self, *arrays: ArrayFile
    ) -> Iterator[tuple[tuple[SharedBuffer, ...], tuple[NewArray, ...]]]:
        """Yield the files of arrays as shared buffers that the worker may map, and what is in
        them."""
        numbers = [next(self._numbers) for _ in arrays]
        shared_buffers = tuple(
            SharedBuffer(number, array.descriptor, array.size_bytes, is_on_disk=True)
            for number, array in zip(numbers, arrays, strict=True)
            if array.data is None
        )
        try:
            yield shared_buffers, tuple(
                NewArray(
                    array.shape, array.dtype, array.is_fortran_order, array.data_start, number,
                    array.is_read, array.data,
                )
                for number, array in zip(numbers, arrays, strict=True)
            )  # fmt: skip
        finally:
            for shared_buffer in shared_buffers:
                self._pool.forget_shared_buffer(shared_buffer)

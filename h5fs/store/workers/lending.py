"""Files of arrays, lent to the worker that writes: it maps them, so that no element is sent.

Small ones are sent all the same, which takes less than to open and map a file.
"""

from __future__ import annotations

import itertools

from msgspec import Struct

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

    def lend(self, *arrays: ArrayFile) -> _Loan:
        """Lend the files of arrays for a block, which gets them as shared buffers that the worker
        may map, and what is in them."""
        shared_buffers, new = [], []
        for array in arrays:
            number = next(self._numbers)
            if array.data is None:
                shared_buffers.append(
                    SharedBuffer(number, array.descriptor, array.size_bytes, is_on_disk=True)
                )
            new.append(
                NewArray(
                    array.shape, array.dtype, array.is_fortran_order, array.data_start, number,
                    array.is_read, array.data, array.stored_like,
                )
            )  # fmt: skip
        return _Loan(self._pool, tuple(shared_buffers), tuple(new))


class _Loan(Struct, eq=False):
    """The block of ``Lender.lend``."""

    pool: WorkerPool
    shared_buffers: tuple[SharedBuffer, ...]
    new: tuple[NewArray, ...]

    def __enter__(self) -> tuple[tuple[SharedBuffer, ...], tuple[NewArray, ...]]:
        return self.shared_buffers, self.new

    def __exit__(self, *_error: object) -> None:
        for shared_buffer in self.shared_buffers:
            self.pool.forget_shared_buffer(shared_buffer)

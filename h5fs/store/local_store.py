"""The store in this process, for debugging (`-o workers=0`): slower, and no safer than the library.

Everything goes through the HDF5 library, one call at a time.
"""

from __future__ import annotations

from h5fs.objects import DatasetInfo, ObjectRef
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.statistics import StoreStatistics


class LocalStore(Hdf5Store):
    """Answers the questions of ``h5fs.store.interface.Store``."""

    def statistics(self) -> StoreStatistics:
        """There is no cache, no worker and no quarantine to tell of."""
        return StoreStatistics()

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        buffer[:] = self.read_data(ref, part, offset, len(buffer))

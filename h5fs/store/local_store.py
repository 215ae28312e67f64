"""The store in this process, for debugging (`-o workers=0`): slower, and no safer than the library.

Everything goes through the HDF5 library, one call at a time.
"""

from __future__ import annotations

from typing import Any

from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.objects import DatasetInfo, ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.locks.own_lock import take_own_lock
from h5fs.store.statistics import StoreStatistics


class LocalStore(Hdf5Store):
    """Answers what ``h5fs.store.interface.Store`` promises."""

    def __init__(self, options: StoreOptions, **others: Any) -> None:
        super().__init__(options, **others)
        self._options = options

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        super().open()
        take_own_lock(self._files.descriptor(0), self._options.file, writes=False)

    def file_status(self, file: int) -> FileStatus:
        with self._lock, reading("the file's owner and mode"):
            return self._files.local_file(file).status()

    def file_system_status(self) -> SpaceStatus:
        with self._lock, reading("the room on the file system"):
            return self._files.local_file(0).space()

    def statistics(self) -> StoreStatistics:
        """Return empty statistics: there is no cache, no worker and no quarantine."""
        return StoreStatistics()

    def attributes_at_hand(self, ref: ObjectRef) -> bytes | None:
        """Return None: nothing is asked for before somebody needs it."""
        return None

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        buffer[:] = self.read_data(ref, part, offset, len(buffer), dataset.shape)

    def make_view(
        self, ref: ObjectRef, request: ViewRequest, data: bytes, buffer: memoryview
    ) -> None:
        buffer[:] = self.render_view(ref, request, data)

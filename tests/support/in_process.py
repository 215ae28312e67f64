"""The store of a mount without processes: the library in this one, everything else as it is.

Chunks are listed, decoded into shared buffers and kept in blocks as in a mount, so that thousands
of datasets can be read in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from h5fs.model.objects import Chunked, DatasetInfo, ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.store.chunks.reader import ChunkReader
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.interface import ArrayPart
from h5fs.store.local_store import LocalStore
from h5fs.store.workers.shared_buffers import SharedBuffer, SharedBufferViews


class InProcessStore(LocalStore):
    """A ``Store`` that reads chunks as a mount does, by one worker that is this process."""

    def __init__(self, options: StoreOptions) -> None:
        self._views = SharedBufferViews()
        super().__init__(options, shared_buffers=self._views)
        self._chunks = ChunkReader(_Worker(self, self._views), options.cache_bytes)  # type: ignore[arg-type]

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        if isinstance(dataset.data, Chunked):
            self._chunks.read_into(ref, dataset, dataset.data, offset, buffer)
        else:
            super().read_into(ref, dataset, part, offset, buffer)

    def close(self) -> None:
        self._chunks.close()
        super().close()


class _Worker:
    """Stands for a pool of workers; calls come one at a time, since the store has one lock."""

    count = 1

    def __init__(self, store: Hdf5Store, views: SharedBufferViews) -> None:
        self._store = store
        self._views = views

    def call(
        self, method: str, *arguments: Any, shared_buffers: Sequence[SharedBuffer] = (), **_: Any
    ) -> Any:
        for shared_buffer in shared_buffers:
            descriptor = os.dup(shared_buffer.descriptor)
            self._views.add(
                shared_buffer.number, descriptor, shared_buffer.size_bytes,
                on_disk=shared_buffer.is_on_disk,
            )  # fmt: skip
        return getattr(self._store, method)(*arguments)

    def forget_shared_buffer(self, shared_buffer: SharedBuffer) -> None:
        self._views.remove(shared_buffer.number)

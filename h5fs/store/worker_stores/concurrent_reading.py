"""Reads of the data of a file that is being written, without a word to the worker that writes.

Contiguous data are read by the daemon itself, through the log; chunks by workers that read beside
the one that writes, into blocks that are kept. Whatever was found out or decoded is used only as
long as the object's version is the same (`committed_state`): a read during which its object has
changed is made again, so that no answer mixes two states. Safe to call from any thread.
"""

from __future__ import annotations

from collections.abc import Callable

from h5fs.errors import H5fsError, UnreadableError
from h5fs.lru_cache import LruCache
from h5fs.model.objects import Chunked, Contiguous, DatasetInfo, ObjectRef
from h5fs.store.chunks.reader import ChunkReader
from h5fs.store.interface import DataVersion
from h5fs.store.log.reading.committed_state import CommittedState, Version

_DATASETS_KEPT = 4096
_TRIES = 3


class ConcurrentReading:
    """``describe`` asks the worker that writes how a dataset is stored now."""

    def __init__(
        self,
        state: CommittedState,
        chunks: ChunkReader,
        describe: Callable[[ObjectRef], DatasetInfo],
    ) -> None:
        self._state = state
        self._chunks = chunks
        self._describe = describe
        self._described: LruCache[ObjectRef, tuple[Version, DatasetInfo]] = LruCache(_DATASETS_KEPT)

    def describe(self, ref: ObjectRef) -> DatasetInfo:
        """Return how a dataset is stored now. Raises ``H5fsError``."""
        version = self._state.version_of(ref)
        found = self._describe(ref)
        self._described.put(ref, (version, found))
        return found

    def data_version(self, ref: ObjectRef) -> DataVersion | None:
        """See ``WritingStore.data_version``."""
        if ref.file or not self._state.is_known:
            return None
        version, known = self._state.version_of(ref), self._described.get(ref)
        data = known[1].data if known is not None and known[0] == version else None
        return DataVersion(version, data is not None)

    def read_into(
        self, ref: ObjectRef, dataset: DatasetInfo, offset: int, buffer: memoryview
    ) -> bool:
        """Fill ``buffer`` with a dataset's data from byte ``offset`` on.

        ``dataset``: what the caller takes it for. Returns False where only the library can read
        it, or where the dataset is another one by now. Raises ``H5fsError``.
        """
        for _ in range(_TRIES):
            version, commit = self._state.version_of(ref), self._state.last_commit()
            try:
                is_read = self._read(ref, dataset, version, offset, buffer)
            except H5fsError:
                # What a reader has open is overwritten at the earliest by the second commit after.
                if self._state.last_commit() == commit:
                    raise
                continue
            if not is_read or self._state.version_of(ref) == version:
                return is_read
        return False  # it changes all the time: whoever changes it reads it, too

    def _read(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        version: Version,
        offset: int,
        buffer: memoryview,
    ) -> bool:
        if not self._state.is_known:
            return False
        known = self._described.get(ref)
        found = known[1] if known is not None and known[0] == version else self.describe(ref)
        if found is not dataset and (found.shape, found.dtype) != (dataset.shape, dataset.dtype):
            return False
        if isinstance(found.data, Contiguous) and not ref.file:
            return self._read_contiguous(found.data, offset, buffer)
        if isinstance(found.data, Chunked):
            self._chunks.read_into(ref, found, found.data, offset, buffer, version)
            return True
        return False

    def _read_contiguous(self, data: Contiguous, offset: int, buffer: memoryview) -> bool:
        """Read through the log; False where the file is shorter than it says."""
        try:
            with self._state.gate:
                self._state.catch_up()
                start = data.file_offset + offset
                return self._state.file.read_into(buffer, start) == len(buffer)
        except OSError as error:
            self._state.give_up(error)
            raise UnreadableError(f"the file or its log: {error.strerror}") from None

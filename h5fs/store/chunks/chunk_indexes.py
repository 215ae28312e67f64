"""Which chunks of arrays were ever written, as workers say."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from h5fs.errors import UnreadableError, show_path
from h5fs.model.objects import ChunkIndex
from h5fs.store.chunks.batches import ReadArray
from h5fs.store.chunks.read_arrays import ReadArrays
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.quarantine import Subject


class ChunkIndexes:
    """Asks for the index of an array once, as long as the array has not grown. Thread-safe."""

    def __init__(self, pool: WorkerPool, arrays: ReadArrays) -> None:
        self._pool = pool
        self._arrays = arrays

    def sizes_of(self, array: ReadArray, chunks: Sequence[int]) -> bytes | None:
        """Return the chunks' sizes in the file, right for these; None where the library must look
        up each chunk."""
        array = array.chunked
        if array.data.filters is None:
            return None
        index = array.index
        if index is None or max(chunks, default=0) >= array.indexed_chunks:
            with array.index_lock:
                index = array.index
                if index is None or array.indexed_chunks < array.grid.chunk_count:
                    index = self._load_index(array)
                    array.index, array.indexed_chunks = index, array.grid.chunk_count
        if index.sizes is None:  # from now on everything is left to the library
            array.data = msgspec.structs.replace(array.data, filters=None)
        return index.sizes

    def _load_index(self, array: ReadArray) -> ChunkIndex:
        ref, count = array.ref, array.grid.chunk_count
        index: ChunkIndex = self._pool.call(
            "index_chunks", ref, array.grid.shape, subject=Subject(ref), asked_bytes=20 * count
        )
        columns = [each for each in (index.sizes, index.offsets) if each is not None]
        if any(len(column) != 8 * count for column in columns):
            raise UnreadableError(f"{show_path(array.ref.path)}: an index of another grid")
        self._arrays.forget_indexes(array)
        return index

"""Arrays in chunks, read as the bytes of their elements: decoded in workers, kept in blocks.

Each chunk is decoded once for as long as its block is kept, and never by two readers at once. For a
sequential reader the next blocks are made ahead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from h5fs.errors import H5fsError, StaleError, UnreadableError, show_path
from h5fs.model.objects import Chunked, ChunkIndex, DatasetInfo, ObjectRef
from h5fs.store.chunks.batches import (
    AHEAD_BATCH_BYTES,
    BATCH_BYTES,
    ReadArray,
    find_unwritten,
    make_batch,
    split_chunks,
)
from h5fs.store.chunks.block_cache import ABSENT, FAILED, PENDING, PRESENT, Block, BlockCache
from h5fs.store.chunks.chunk_fetcher import ChunkFetcher
from h5fs.store.chunks.geometry import BLOCK_BYTES
from h5fs.store.chunks.read_arrays import ReadArrays
from h5fs.store.chunks.streams import Stream
from h5fs.store.library_interface import ChunkFailure
from h5fs.store.statistics import CacheStatistics
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.quarantine import Subject
from h5fs.store.workers.shared_buffers import (
    LARGE_PAGE_BYTES,
    SharedBuffer,
    SharedBufferReader,
)

_log = logging.getLogger(__name__)

# Read-ahead is limited to one block for each worker to decode, and as many blocks that wait to be
# read; all readers together share these. More makes no reader faster, and touching fresh memory
# costs five times as much as decoding into used memory (four readers at once, each 16 MiB ahead:
# 120 MB of fresh memory, and a fourth of the workers' time).
_WAITING_BYTES_PER_WORKER = BLOCK_BYTES
# A reader that has paused for so long gets no room for read-ahead.
_STREAM_SECONDS = 1


class ChunkReader:
    """Reads chunked arrays through the workers. Safe to use from any thread."""

    def __init__(
        self, pool: WorkerPool, cache_bytes: int, fetcher: ChunkFetcher | None = None
    ) -> None:
        """``fetcher``: for a remote file."""
        self._pool = pool
        self._fetcher = fetcher
        self._shared_buffers = SharedBufferReader()
        self._cache = BlockCache(cache_bytes, on_gone=self._forget_shared_buffer)
        self._arrays = ReadArrays(self._cache)
        self._waiting_bytes = _WAITING_BYTES_PER_WORKER * pool.count
        self._helpers = ThreadPoolExecutor(pool.count, thread_name_prefix="decode")

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        data: Chunked,
        offset: int,
        buffer: memoryview,
        version: int = 0,
    ) -> None:
        """Fill ``buffer`` with an array's data from byte ``offset`` on. Raises ``H5fsError``."""
        array = self._arrays.get(ref, dataset, data, version)
        grid = array.grid
        stream = array.streams.note(offset, offset + len(buffer))
        done = 0
        while done < len(buffer):
            block = self._pin(array, grid.block_of(offset + done))
            bounds = block.bounds
            part = buffer[done : max(min(len(buffer), bounds.stop - offset), 0)]
            if not part:  # the worker's answers about this array contradict each other
                self._cache.unpin(block)
                raise UnreadableError(f"{show_path(ref.path)}: it is described in two ways")
            is_passing = stream is not None
            self._read_block(array, block, offset + done - bounds.start, part, is_passing)
            done += len(part)
            if stream is not None and bounds.number > stream.ahead_block:
                stream.ahead_block = bounds.number
                self._read_ahead(array, stream, bounds.stop)

    def statistics(self) -> CacheStatistics:
        """Return what the cache holds now, and how often it had what was read."""
        return self._cache.statistics()

    def note_change(
        self, first: Mapping[int, int] | None, versions: Mapping[int, tuple[int, int]]
    ) -> None:
        """Give back the memory of what has changed: see ``ReadArrays.note_change``."""
        self._arrays.note_change(first, versions)

    def close(self) -> None:
        """Stop, and give the memory back."""
        self._helpers.shutdown(wait=False, cancel_futures=True)
        self._cache.close()
        self._shared_buffers.close()

    def _forget_shared_buffer(self, shared_buffer: SharedBuffer) -> None:
        self._shared_buffers.forget(shared_buffer)
        self._pool.forget_shared_buffer(shared_buffer)

    def _sizes_of(self, array: ReadArray, chunks: Sequence[int]) -> bytes | None:
        """Return the chunks' sizes in the file, right for these; None where the library must look
        up each chunk."""
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

    def _read_block(
        self, array: ReadArray, block: Block, offset: int, buffer: memoryview, is_passing: bool
    ) -> None:
        """Fill ``buffer`` from byte ``offset`` of a pinned block on, and unpin it."""
        passed_bytes = 0
        try:
            if block.is_whole:
                self._cache.hits += 1
            else:
                self._make_under(array, block, offset, len(buffer), is_passing)
            if self._shared_buffers.read_into(block.shared_buffer, buffer, offset) != len(buffer):
                raise UnreadableError(f"{show_path(array.ref.path)}: a block is too short")
            passed_bytes = len(buffer) if is_passing else 0
        finally:
            self._cache.unpin(block, passed_bytes)

    def _make_under(
        self, array: ReadArray, block: Block, offset: int, size: int, is_passing: bool
    ) -> None:
        """Return when the chunks under some bytes of a block are there."""
        grid = array.grid
        start = block.bounds.start + offset
        first, last = start // grid.item_bytes, -(-(start + size) // grid.item_bytes)
        under = [chunk for part in grid.chunks_under(first, last) for chunk in part]
        is_for_all = is_passing and self._cache.fits(grid.block_bytes)
        wanted = block.bounds.chunks if is_for_all else under
        if any(block.states[chunk - block.first_chunk] in (ABSENT, PENDING) for chunk in wanted):
            self._cache.misses += 1
            self._make(array, block, wanted)
        else:
            self._cache.hits += 1
        for chunk in under if block.failures else ():
            if chunk in block.failures:
                raise UnreadableError(f"{show_path(array.ref.path)}: {block.failures[chunk]}")

    def _pin(self, array: ReadArray, number: int) -> Block:
        try:
            return self._cache.pin(array.key, array.grid, number, array.block_room_bytes)
        except OSError as error:
            raise _no_room(array, error) from None

    def _make(self, array: ReadArray, block: Block, wanted: Sequence[int]) -> None:
        """Return when the chunks of a block are there. Raises what making them raised."""
        unwritten = find_unwritten(array, block, wanted, self._sizes_of)
        missing = self._claim(block, wanted, len(unwritten))
        if missing and block.is_being_laid_out:
            self._lay_out(array, block, missing)
        if unwritten:
            there = dict.fromkeys(unwritten.intersection(missing), PRESENT)
            self._set_states(block, there, {})
            missing = [chunk for chunk in missing if chunk not in there]
        if missing:
            if self._fetcher is not None and self._sizes_of(array, missing) is not None:
                self._fetcher.begin(array.index, array.grid, missing)
            batches = split_chunks(missing, array, BATCH_BYTES, self._pool.count)
            others = [self._submit(array, block, batch) for batch in batches[1:]]
            try:
                self._decode(array, block, batches[0])
            finally:
                # The block must not go while somebody writes into it. Not by ``wait``, which does
                # not end for a future that the executor has cancelled as it was shut down.
                for other in others:
                    with suppress(CancelledError):
                        other.exception()
            for other in others:
                if other.cancelled():
                    raise StaleError(f"{show_path(array.ref.path)}: the file has been closed")
                other.result()
        if len(missing) < len(wanted):
            self._await(array, block, wanted)

    def _claim(self, block: Block, wanted: Sequence[int], unwritten: int = 0) -> list[int]:
        """Return the chunks that no thread is making yet; from now on the caller makes them.

        ``unwritten``: how many of the wanted chunks are zeros, and are not made.
        """
        states, first = block.states, block.first_chunk
        with self._cache.changed:
            while block.is_being_laid_out:
                self._cache.changed.wait()
            is_fresh = not any(states)
            missing = [chunk for chunk in wanted if states[chunk - first] == ABSENT]
            for chunk in missing:
                states[chunk - first] = PENDING
            # Laying out the whole block pays only when most of its chunks are to be made.
            block.is_being_laid_out = (
                block.shared_buffer.is_on_disk
                and is_fresh
                and 2 * (len(missing) - unwritten) > len(states)
            )
        return missing

    def _lay_out(self, array: ReadArray, block: Block, claimed: list[int]) -> None:
        """Prepare the shared buffer of a block in which only the caller has claimed chunks."""
        state = ABSENT
        try:
            block.shared_buffer.lay_out()
            state = PENDING
        except OSError as error:
            raise _no_room(array, error) from None
        finally:
            with self._cache.changed:
                for chunk in claimed:
                    block.states[chunk - block.first_chunk] = state
                block.is_being_laid_out = False
                self._cache.changed.notify_all()

    def _await(self, array: ReadArray, block: Block, wanted: Sequence[int]) -> None:
        first = block.first_chunk
        with self._cache.changed:
            while any(block.states[chunk - first] == PENDING for chunk in wanted):
                self._cache.changed.wait()
            absent = [chunk for chunk in wanted if block.states[chunk - first] == ABSENT]
        if absent:  # the thread that was making them has failed: find out why
            self._make(array, block, absent)

    def _decode(self, array: ReadArray, block: Block, chunks: list[int]) -> None:
        state, failures = ABSENT, {}
        try:
            batch = make_batch(array, self._sizes_of(array, chunks), block, chunks)
            # With what other workers are making of it now.
            if block.states.count(PENDING) * array.grid.chunk_bytes >= LARGE_PAGE_BYTES:
                block.shared_buffer.prepare_to_fill()
            if self._fetcher is not None:
                self._fetcher.wait(array.index, array.grid, chunks)
            failed: tuple[ChunkFailure, ...] = self._pool.call(
                "decode_chunks",
                batch,
                subject=Subject(array.ref),
                shared_buffers=(block.shared_buffer,),
                asked_bytes=len(chunks) * array.grid.chunk_bytes,
            )
            state, failures = PRESENT, {failure.number: failure.reason for failure in failed}
        finally:
            states = {chunk: FAILED if chunk in failures else state for chunk in chunks}
            self._set_states(block, states, failures)

    def _set_states(self, block: Block, states: dict[int, int], failures: dict[int, str]) -> None:
        with self._cache.changed:
            for chunk, state in states.items():
                block.states[chunk - block.first_chunk] = state
            block.failures |= failures
            block.is_whole = block.states.count(PRESENT) == len(block.states)
            self._cache.changed.notify_all()

    def _submit(self, array: ReadArray, block: Block, chunks: list[int]) -> Future[None]:
        """Have chunks decoded; the future is cancelled when the reader is closed before that."""
        try:
            future = self._helpers.submit(self._decode, array, block, chunks)
        except RuntimeError:  # the executor has been shut down
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()

        def give_up(ended: Future[None]) -> None:
            if ended.cancelled():  # other threads may be waiting for these chunks
                self._set_states(block, dict.fromkeys(chunks, ABSENT), {})

        future.add_done_callback(give_up)
        return future

    def _read_ahead(self, array: ReadArray, stream: Stream, offset: int) -> None:
        """Have the next blocks made, as many as workers can decode and other readers leave room."""
        grid = array.grid
        if not self._cache.fits(grid.block_bytes) or offset >= grid.data_bytes:
            return
        if self._fetcher is not None:
            self._fetcher.read_ahead(array.index, grid, stream, offset)
        busy_bytes = self._pool.count * grid.block_bytes
        ahead = busy_bytes + max(self._waiting_bytes - self._waiting_for_others(stream), 0)
        ahead = max(min(ahead, self._cache.capacity_bytes // 4), 1)
        last = grid.block_of(min(offset + ahead, grid.data_bytes) - 1)
        stream.ahead_stop = grid.block(last).stop
        for number in range(grid.block_of(offset), last + 1):
            if not self._cache.holds(array.key, number):
                self._start_block(array, number)

    def _waiting_for_others(self, stream: Stream) -> int:
        """Return how many bytes are made ahead, or soon will be, for other readers."""
        now = stream.ahead_time = time.monotonic()
        waiting = 0
        for array in self._arrays.all():
            busy_bytes = self._pool.count * array.grid.block_bytes
            for other in array.streams.all():
                if other is not stream and now - other.ahead_time < _STREAM_SECONDS:
                    waiting += max(other.ahead_stop - other.stop - busy_bytes, 0)
        return waiting

    def _start_block(self, array: ReadArray, number: int) -> None:
        try:
            block = self._pin(array, number)
        except UnreadableError:
            return  # no room to read ahead; the read itself will raise
        missing = self._claim(block, block.bounds.chunks)
        batches = split_chunks(missing, array, AHEAD_BATCH_BYTES, 1)
        futures = [self._submit(array, block, batch) for batch in batches]
        remaining = [len(futures)]
        if not futures:
            self._cache.unpin(block)
        for future in futures:
            future.add_done_callback(lambda f: self._end_batch(f, array, block, remaining))

    def _end_batch(
        self, future: Future[Any], array: ReadArray, block: Block, remaining: list[int]
    ) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, H5fsError):
            _log.error("reading ahead in %s: %r", show_path(array.ref.path), error)
        with self._cache.changed:
            remaining[0] -= 1
            is_last = not remaining[0]
        if is_last:
            self._cache.unpin(block)


def _no_room(array: ReadArray, error: OSError) -> UnreadableError:
    return UnreadableError(f"{show_path(array.ref.path)}: no room for decoded chunks: {error}")

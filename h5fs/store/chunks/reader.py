"""Arrays in chunks, read as the bytes of their elements: decoded in workers, kept in blocks.

Each chunk is decoded once for as long as its block is kept, and never by two readers at once. For a
sequential reader the next blocks are made ahead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any

from h5fs.errors import H5fsError, NoRoomError, StaleError, UnreadableError, show_path
from h5fs.model.objects import Chunked, DatasetInfo, ObjectRef
from h5fs.store.chunks.band_files import RowGrid
from h5fs.store.chunks.batches import (
    AHEAD_BATCH_BYTES,
    BATCH_BYTES,
    ReadArray,
    find_unwritten,
    make_batch,
    make_row_batch,
    part_of,
    read_pieces,
    split_chunks,
)
from h5fs.store.chunks.block_cache import ABSENT, FAILED, PENDING, PRESENT, Block, BlockCache
from h5fs.store.chunks.chunk_fetcher import ChunkFetcher
from h5fs.store.chunks.chunk_indexes import ChunkIndexes
from h5fs.store.chunks.geometry import BLOCK_BYTES, BlockBounds
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


class _ForgottenError(UnreadableError):
    """The array has changed, and blocks of rows cannot be made any more of a band that is read."""


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
        self._indexes = ChunkIndexes(pool, self._arrays)
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
        read = self._read_block if array.bands is None else self._read_rows
        done = 0
        while done < len(buffer):
            start = offset + done
            bounds = read(array, grid.block_of(start), start, buffer[done:], stream is not None)
            done += min(len(buffer) - done, bounds.stop - start)
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

    def _read_rows(
        self, array: ReadArray, number: int, start: int, buffer: memoryview, is_passing: bool
    ) -> BlockBounds:
        """As ``_read_block``, of an array whose bands are too large for memory.

        Whoever reads whole rows, or goes through the array, gets them from a block of rows, once
        all chunks of the band are there. Other reads take a few bytes of a few chunks, and need no
        others: they get these from the band file. So do all where a band is a single chunk. While
        the disk has no room for that, slabs are read.
        """
        bands, bounds = array.chunked, array.grid.block(number)
        if self._cache.has_whole(array.key, number):
            with suppress(_ForgottenError):  # it may be forgotten just now
                return self._read_block(array, number, start, buffer, is_passing)
        if time.monotonic() < array.slabs_until:
            return self._read_slab(array, start, buffer, is_passing)
        part, band = part_of(array, bounds, start, buffer), None
        try:
            band = self._pin(bands, bands.grid.block_of(start))
            self._make_under(bands, band, start, len(part), is_passing)
            assert isinstance(array.grid, RowGrid)
            pays = is_passing or len(part) >= array.grid.row_bytes
            if band.is_whole and pays and self._gathers(array):
                with suppress(_ForgottenError):
                    return self._read_block(array, number, start, part, is_passing)
            if not read_pieces(bands.grid, band, start, part):
                raise UnreadableError(f"{show_path(array.ref.path)}: a band file is too short")
            return bounds
        except NoRoomError as error:
            if band is not None:
                self._cache.forget_pinned(band)  # the disk gets its room back
            self._arrays.read_slabs(array, error)
        finally:
            if band is not None:
                self._cache.unpin(band)
        return self._read_slab(array, start, buffer, is_passing)

    def _read_slab(
        self, array: ReadArray, start: int, buffer: memoryview, is_passing: bool
    ) -> BlockBounds:
        slabs = array.slabs
        assert slabs is not None and isinstance(slabs.grid, RowGrid)
        slabs.ref = array.ref
        number = slabs.grid.block_of(start)
        needs_few = not is_passing and len(buffer) < slabs.grid.row_bytes
        is_made = needs_few or self._cache.has_whole(slabs.key, number)
        with nullcontext() if is_made else self._arrays.slab_places:
            return self._read_block(slabs, number, start, buffer, is_passing)

    def _read_block(
        self, array: ReadArray, number: int, start: int, buffer: memoryview, is_passing: bool
    ) -> BlockBounds:
        """Read from byte ``start`` of an array on, as far as one block goes; return its bounds."""
        block = self._pin(array, number)
        bounds, passed_bytes = block.bounds, 0
        try:
            part = part_of(array, bounds, start, buffer)
            if block.is_whole:
                self._cache.hits += 1
            else:
                self._make_under(array, block, start, len(part), is_passing)
            offset = start - bounds.start
            if self._shared_buffers.read_into(block.shared_buffer, part, offset) != len(part):
                raise UnreadableError(f"{show_path(array.ref.path)}: a block is too short")
            passed_bytes = len(part) if is_passing else 0
        finally:
            self._cache.unpin(block, passed_bytes)
        return bounds

    def _make_under(
        self, array: ReadArray, block: Block, start: int, size: int, is_passing: bool
    ) -> None:
        """Return when the chunks of a block that are under some bytes of the array are there."""
        grid = array.grid
        first, last = start // grid.item_bytes, -(-(start + size) // grid.item_bytes)
        under = [chunk for part in grid.chunks_under(first, last) for chunk in part]
        is_for_all = is_passing and self._cache.fits(grid.block_bytes)
        wanted = block.bounds.chunks if is_for_all else under
        if any(block.states[chunk - block.first_chunk] in (ABSENT, PENDING) for chunk in wanted):
            self._cache.misses += not array.is_gathered  # else the read was counted with its band
            self._make(array, block, wanted)
        else:
            self._cache.hits += not array.is_gathered
        for chunk in under if block.failures else ():
            if chunk in block.failures:
                raise UnreadableError(f"{show_path(array.ref.path)}: {block.failures[chunk]}")

    def _pin(self, array: ReadArray, number: int) -> Block:
        try:
            return self._cache.pin(array.key, array.grid, number, array.block_room_bytes)
        except OSError as error:
            kind = UnreadableError if self._cache.fits(array.grid.block_bytes) else NoRoomError
            path = show_path(array.ref.path)
            raise kind(f"{path}: no room for decoded chunks: {error}") from None

    def _make(self, array: ReadArray, block: Block, wanted: Sequence[int]) -> None:
        """Return when the chunks of a block are there. Raises what making them raised."""
        unwritten = find_unwritten(array, block, wanted, self._indexes.sizes_of)
        missing = self._claim(block, wanted)
        if unwritten:
            there = dict.fromkeys(unwritten.intersection(missing), PRESENT)
            self._set_states(block, there, {})
            missing = [chunk for chunk in missing if chunk not in there]
        if missing:
            fetcher = None if array.is_gathered else self._fetcher
            if fetcher is not None and self._indexes.sizes_of(array, missing) is not None:
                fetcher.begin(array.chunked.index, array.chunked.grid, missing)
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

    def _claim(self, block: Block, wanted: Sequence[int]) -> list[int]:
        """Return the chunks that no thread is making yet; from now on the caller makes them."""
        states, first = block.states, block.first_chunk
        with self._cache.changed:
            missing = [chunk for chunk in wanted if states[chunk - first] == ABSENT]
            for chunk in missing:
                states[chunk - first] = PENDING
        return missing

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
            # With what other workers are making of it now.
            size_bytes = block.bounds.size_bytes
            made_bytes = block.states.count(PENDING) * size_bytes // len(block.states)
            if made_bytes >= max(LARGE_PAGE_BYTES, size_bytes // 2):
                block.shared_buffer.prepare_to_fill()
            failed = (
                self._gather(array, block)
                if array.is_gathered
                else self._decode_chunks(array, block, chunks)
            )
            state, failures = PRESENT, {failure.number: failure.reason for failure in failed}
        finally:
            states = {chunk: FAILED if chunk in failures else state for chunk in chunks}
            self._set_states(block, states, failures)

    def _decode_chunks(
        self, array: ReadArray, block: Block, chunks: list[int]
    ) -> tuple[ChunkFailure, ...]:
        batch = make_batch(array, self._indexes.sizes_of(array, chunks), block, chunks)
        if self._fetcher is not None:
            self._fetcher.wait(array.chunked.index, array.chunked.grid, chunks)
        failed: tuple[ChunkFailure, ...] = self._pool.call(
            "decode_chunks",
            batch,
            subject=Subject(array.ref),
            shared_buffers=(block.shared_buffer,),
            asked_bytes=len(chunks) * array.chunked.grid.chunk_bytes,
        )
        return failed

    def _gather(self, array: ReadArray, block: Block) -> tuple[()]:
        """Make a block of rows; whoever asks for it has pinned the band, whose chunks are there."""
        band = self._find_whole_band(array, block.bounds.number)
        if band is None:
            raise _ForgottenError(f"{show_path(array.ref.path)}: its chunks were forgotten")
        try:
            self._pool.call(
                "gather_rows",
                make_row_batch(array, block, band),
                subject=Subject(array.ref),
                shared_buffers=(block.shared_buffer, band.shared_buffer),
                asked_bytes=block.bounds.size_bytes,
            )
        finally:
            self._cache.unpin(band)
        return ()

    def _gathers(self, array: ReadArray) -> bool:
        return self._cache.fits(array.grid.block_bytes) and array.chunked.grid.chunks_per_band > 1

    def _find_whole_band(self, array: ReadArray, number: int) -> Block | None:
        """Return the band of a block of rows, pinned, if all its chunks are there."""
        bands = array.chunked
        band = self._cache.find(bands.key, bands.grid.block_of(array.grid.block(number).start))
        if band is not None and not band.is_whole:
            self._cache.unpin(band)
            return None
        return band

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
        others = self._arrays.ahead_of_others(stream, self._pool.count)
        ahead = busy_bytes + max(self._waiting_bytes - others, 0)
        ahead = max(min(ahead, self._cache.capacity_bytes // 4), 1)
        stop = min(offset + ahead, grid.data_bytes)
        while offset < stop:
            bounds = grid.block(grid.block_of(offset))
            offset = stream.ahead_stop = bounds.stop
            if not self._cache.holds(array.key, bounds.number):
                self._start_block(array, bounds.number)

    def _start_block(self, array: ReadArray, number: int) -> None:
        pinned = []
        if array.bands is not None:
            band = self._find_whole_band(array, number) if self._gathers(array) else None
            if band is None:
                return  # it is made by the read itself
            pinned.append(band)
        try:
            block = self._pin(array, number)
        except UnreadableError:  # no room to read ahead; the read itself will raise
            self._unpin(pinned)
            return
        pinned.append(block)
        missing = self._claim(block, block.bounds.chunks)
        batches = split_chunks(missing, array, AHEAD_BATCH_BYTES, 1)
        futures = [self._submit(array, block, batch) for batch in batches]
        remaining = [len(futures)]
        if not futures:
            self._unpin(pinned)
        for future in futures:
            future.add_done_callback(lambda f: self._end_batch(f, array, pinned, remaining))

    def _unpin(self, blocks: list[Block]) -> None:
        for block in blocks:
            self._cache.unpin(block)

    def _end_batch(
        self, future: Future[Any], array: ReadArray, pinned: list[Block], remaining: list[int]
    ) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, H5fsError):
            _log.error("reading ahead in %s: %r", show_path(array.ref.path), error)
        with self._cache.changed:
            remaining[0] -= 1
            is_last = not remaining[0]
        if is_last:
            self._unpin(pinned)

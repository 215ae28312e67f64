"""The arrays that are read by their chunks, and what stays of one that has changed in a part.

Another version of an array's data is another array, with blocks of its own. Where only the data
from some byte on have changed, as when rows were appended, it takes over what lies before: the
blocks, or those of their chunks, the list of the chunks' sizes, and who reads it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import msgspec

from h5fs.errors import NoRoomError
from h5fs.model.objects import Chunked, DatasetInfo, ObjectRef
from h5fs.store.chunks.band_files import row_grid, slab_grid
from h5fs.store.chunks.batches import ReadArray
from h5fs.store.chunks.block_cache import BlockCache
from h5fs.store.chunks.geometry import BLOCK_BYTES, Grid
from h5fs.store.chunks.streams import Stream

_log = logging.getLogger(__name__)

_ARRAYS_KEPT = 256
_INDEX_BYTES_KEPT = 64 * 2**20
_ROOM_TO_GROW = 2
# After so long the disk may have room again; to find out fills it once more.
_SLAB_SECONDS = 60
# So many are made at once, each a fourth of the memory; who needs another one waits.
_SLABS_AT_ONCE = 2
# A reader that has paused for so long gets no room for read-ahead.
_STREAM_SECONDS = 1

_Key = tuple[ObjectRef, int]
_Versions = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Changed:
    """An array whose data have changed from byte ``start`` on; nobody has read it since."""

    before: ReadArray
    start: int


class ReadArrays:
    """Arrays by object and version; those read longest ago are forgotten. Safe from any thread.

    ``_lock`` protects all that is here, ``_slabs_until`` too, which is that of arrays of any
    version; the cache's lock may be taken while it is held.
    """

    def __init__(self, cache: BlockCache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._arrays: OrderedDict[_Key, ReadArray] = OrderedDict()
        self._changed: OrderedDict[_Key, _Changed] = OrderedDict()
        self._slabs_until: dict[ObjectRef, float] = {}
        self.slab_places = threading.Semaphore(_SLABS_AT_ONCE)

    def get(self, ref: ObjectRef, dataset: DatasetInfo, data: Chunked, version: int) -> ReadArray:
        """Return an array that is to be read."""
        key = ref, version
        with self._lock:
            array = self._arrays.get(key)
            if array is None:
                array = self._arrays[key] = self._make(ref, dataset, data, version)
                if len(self._arrays) > _ARRAYS_KEPT:
                    self._arrays.popitem(last=False)
            self._arrays.move_to_end(key)
            array.ref = array.chunked.ref = ref  # by the path that the object has now
        return array

    def read_slabs(self, array: ReadArray, error: NoRoomError) -> None:
        """Let an array be read by its slabs for a while. Raises ``error`` if it cannot be."""
        slabs = self._make_slabs(array)
        if not self._cache.fits(slabs.grid.block_bytes):
            raise error
        now = time.monotonic()
        if now >= array.slabs_until:  # others may have found the same
            _log.warning("%s; it is read more slowly", error)
        array.slabs, array.slabs_until = slabs, now + _SLAB_SECONDS
        with self._lock:
            kept = {ref: until for ref, until in self._slabs_until.items() if until > now}
            self._slabs_until = {**kept, array.ref: array.slabs_until}

    def _make_slabs(self, array: ReadArray) -> ReadArray:
        bands = array.chunked
        grid = slab_grid(bands.grid, self._cache.capacity_bytes // 4)
        return ReadArray(array.ref, array.version, bands.data, grid, bands=bands)

    def ahead_of_others(self, stream: Stream, workers: int) -> int:
        """Return how many bytes are made ahead, or soon will be, for other readers than that of a
        stream."""
        now = stream.ahead_time = time.monotonic()
        waiting = 0
        for array in self.all():
            busy_bytes = workers * array.grid.block_bytes
            for other in array.streams.all():
                if other is not stream and now - other.ahead_time < _STREAM_SECONDS:
                    waiting += max(other.ahead_stop - other.stop - busy_bytes, 0)
        return waiting

    def all(self) -> list[ReadArray]:
        """Return those that are known, the one read longest ago first."""
        with self._lock:
            return list(self._arrays.values())

    def forget_indexes(self, newest: ReadArray) -> None:
        """Forget lists of chunks where they have become too long together, but the newest."""
        size_bytes = 8 * newest.grid.chunk_count
        with self._lock:
            for each in reversed(self._arrays.values()):
                array = each.chunked
                if array.index is None or array is newest:
                    continue
                size_bytes += 8 * array.grid.chunk_count
                if size_bytes > _INDEX_BYTES_KEPT:
                    array.index = None

    def note_change(
        self, first: Mapping[int, int] | None, versions: Mapping[int, _Versions]
    ) -> None:
        """Take note that data in the mounted file have changed; None: of any object.

        ``first``: from which byte on, by the object's id. ``versions``: of those objects of which
        that is known, the version until now and the one from now on.
        """
        if not (self._arrays or self._changed):
            return
        with self._lock:
            keys = {*self._arrays, *self._changed}
            gone = [
                key for key in keys if first is None or (key[0].file == 0 and key[0].id in first)
            ]
            for key in gone:
                array = self._arrays.pop(key, None)
                changed = self._changed.pop(key, None)
                ref, version = key
                start = 0 if first is None else first[ref.id]
                old, new = versions.get(ref.id, (-1, -1))
                if start and version == old:
                    if array is not None:
                        changed = _Changed(array, start)
                    elif changed is not None:
                        changed = _Changed(changed.before, min(start, changed.start))
                    if changed is not None:
                        self._changed[ref, new] = changed
                        continue
                before = changed.before if changed is not None else array
                if before is not None:
                    _forget(before, self._cache)
            while len(self._changed) > _ARRAYS_KEPT:
                _, changed = self._changed.popitem(last=False)
                _forget(changed.before, self._cache)

    def _make(self, ref: ObjectRef, dataset: DatasetInfo, data: Chunked, version: int) -> ReadArray:
        assert dataset.shape is not None
        # Some blocks must fit into the cache, however small it is.
        block_bytes = min(BLOCK_BYTES, max(self._cache.capacity_bytes // 4, 1))
        grid = Grid(dataset.shape, data.chunk_shape, dataset.dtype.itemsize, block_bytes)
        array = ReadArray(ref, version, data, grid)
        if not self._cache.fits(grid.block_bytes):
            array = ReadArray(ref, version, data, row_grid(grid), bands=array)
            slabs = self._make_slabs(array)
            if self._cache.fits(slabs.grid.block_bytes):
                array.slabs, array.slabs_until = slabs, self._slabs_until.get(ref, 0)
        changed = self._changed.pop((ref, version), None)
        if changed is not None:
            _take_over(array, changed, self._cache)
        return array


def _forget(array: ReadArray, cache: BlockCache) -> None:
    for each in (array, array.bands, array.slabs):
        if each is not None:
            cache.forget(each.key)


def _take_over(taker: ReadArray, changed: _Changed, cache: BlockCache) -> None:
    """Let an array have what was there of it before its data changed from some byte on."""
    before, array = changed.before.chunked, taker.chunked
    old, new = before.grid, array.grid
    like = msgspec.structs.replace(before.data, filters=array.data.filters)
    is_alike = (
        like == array.data
        and cache.fits(old.block_bytes) == cache.fits(new.block_bytes)
        and (old.shape[1:], old.item_bytes) == (new.shape[1:], new.item_bytes)
        and (old.chunk_shape, old.bands_per_block) == (new.chunk_shape, new.bands_per_block)
    )
    # All chunks of a row of chunks that has changed may be stored anew, also those of an old end.
    row_bytes = prod(new.shape[1:]) * new.item_bytes
    chunk_row = changed.start // row_bytes // new.chunk_shape[0] if row_bytes else 0
    chunks = chunk_row * prod(new.counts[1:])
    if not is_alike or not chunks:
        _forget(changed.before, cache)
        return
    for each in (changed.before, changed.before.slabs):
        if each is not None and each is not before:  # rows are gathered anew
            cache.forget(each.key)
    cache.take_over(before.key, array.key, new, chunks)
    taker.streams = changed.before.streams
    # What has grown once will most likely grow again: its last block then stays where it is.
    most = new.bands_per_block * new.band_bytes
    array.block_room_bytes = max(new.block_bytes, min(most, _ROOM_TO_GROW * new.data_bytes))
    index = before.index
    if index is not None and index.sizes is not None:
        array.index, array.indexed_chunks = index, min(chunks, before.indexed_chunks)

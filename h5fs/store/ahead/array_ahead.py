"""Fetches contiguous arrays of a remote file ahead of their sequential readers."""

from __future__ import annotations

import threading
from collections import OrderedDict

from h5fs.model.objects import Contiguous, DatasetInfo, ObjectRef
from h5fs.store.chunks.streams import Stream, Streams
from h5fs.store.sources.interface import Source

_ARRAYS_KEPT = 256
# With 16 requests at a time, each is for 8 MiB: latency is then a small part of its time.
_WINDOW_BYTES = 128 * 2**20
_WINDOWS_PER_CACHE = 4  # what is fetched ahead must not drive itself out of the cache
_STEPS_PER_WINDOW = 4
# A reader that has only begun may not go on: a program that maps an array reads its beginning.
_WINDOW_PER_READ = 4


class ArrayAhead:
    """Watches the reads of contiguous arrays. Safe to use from any thread.

    ``_lock`` protects ``_streams``, and how far each stream was asked for; nothing else is taken
    while it is held.
    """

    def __init__(self, source: Source, *, cache_bytes: int) -> None:
        self._source = source
        self._window_bytes = min(_WINDOW_BYTES, cache_bytes // _WINDOWS_PER_CACHE)
        self._lock = threading.Lock()
        self._streams: OrderedDict[ObjectRef, Streams] = OrderedDict()

    def note(self, ref: ObjectRef, dataset: DatasetInfo, offset: int, size: int) -> None:
        """Take in a read of an array's bytes; fetch what a sequential reader will read next."""
        assert isinstance(dataset.data, Contiguous)
        with self._lock:
            streams = self._streams.setdefault(ref, Streams())
            self._streams.move_to_end(ref)
            if len(self._streams) > _ARRAYS_KEPT:
                self._streams.popitem(last=False)
        stream = streams.note(offset, offset + size)
        if stream is None:
            return
        with self._lock:
            ahead = _next_step(stream, dataset.storage_size_bytes, self._window_bytes)
        if ahead is not None:
            begin = dataset.data.file_offset
            self._source.fetch_ahead([(begin + ahead[0], begin + ahead[1])])


def _next_step(stream: Stream, data_bytes: int, most_bytes: int) -> tuple[int, int] | None:
    """Return which bytes of the array to fetch now; None where enough is under way."""
    window = min(most_bytes, _WINDOW_PER_READ * stream.fresh_bytes)
    start = max(stream.ahead_stop, stream.stop)
    stop = min(stream.stop + window, data_bytes)
    is_whole_step = stop - start >= window // _STEPS_PER_WINDOW
    if stop <= start or not (is_whole_step or stop == data_bytes):
        return None
    stream.ahead_stop = stop
    return start, stop

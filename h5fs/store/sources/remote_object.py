"""A remote object as a ``Source``: one version of it, kept block by block in the cache on disk.

Lives in the daemon. Readers wait for blocks; the fetcher's thread brings them. A block is asked for
once, however many readers want it.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt

from h5fs.errors import (
    DeniedError,
    H5fsError,
    NoSpaceError,
    StaleError,
    UnreachableError,
)
from h5fs.store.sources.cache_entry import CacheEntry
from h5fs.store.sources.cached_bytes import BLOCK_BYTES, CachedBytes
from h5fs.store.sources.disk_cache import DiskCache
from h5fs.store.sources.fetcher import Counts, Fetcher, Outage, RangeToFetch
from h5fs.store.sources.object_head import ObjectHead
from h5fs.store.sources.transport import (
    FailureKind,
    ObjectVersion,
    Piece,
    RequestError,
    Transport,
)

_GAP_BLOCKS = 4
_LEAST_PART_BYTES = 2**20
_MOST_PART_BYTES = 8 * 2**20
_WAIT_SECONDS = 1.0


class RemoteObject:
    """A ``Source``; ``shown`` is its URL without secrets.

    ``_arrived`` protects ``_in_flight``, ``_is_closed`` and ``_users``, and is notified when
    blocks have come or a part has ended. Nothing else is taken while it is held.
    """

    def __init__(
        self, shown: str, transport: Transport, version: ObjectVersion, entry: CacheEntry,
        cache: DiskCache, fetcher: Fetcher, timeout_seconds: float, counts: Counts,
    ) -> None:  # fmt: skip
        self.version: Final = version
        self.size_bytes: Final = version.size_bytes
        self.counts: Final = counts
        self.is_replaced = False  # the server has had another version since
        self._shown = shown
        self._transport = transport
        self._entry = entry
        self._cache = cache
        self._fetcher = fetcher
        self._timeout_seconds = timeout_seconds
        self._outage = Outage(self._shown)
        self._arrived = threading.Condition()
        self._in_flight: dict[int, RangeToFetch] = {}
        self._is_closed = False
        self._users = 1  # readers, and one more while the object is open
        self._bytes = CachedBytes(
            entry.data, entry.presence, size_bytes=self.size_bytes, version=version,
            fetch=self._bring,
        )  # fmt: skip

    def take_head(self, data: bytes) -> None:
        """Keep the first bytes of the object, which came before it was open. Raises ``OSError``."""
        size = len(data) if len(data) == self.size_bytes else len(data) // BLOCK_BYTES * BLOCK_BYTES
        self._put(memoryview(data)[:size], 0)

    def open_read_only(self) -> tuple[int, int]:
        """Return new descriptors of data and map, for a process that may only read them."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        data = os.open(f"/proc/self/fd/{self._entry.data}", flags)
        try:
            return data, os.open(f"/proc/self/fd/{self._entry.presence}", flags)
        except BaseException:
            os.close(data)
            raise

    def ensure(self, ranges: Iterable[tuple[int, int]], *, unit_bytes: int = 1) -> None:
        ranges = tuple(ranges)
        with self._in_use():
            self._bytes.ensure(ranges, unit_bytes=unit_bytes)
            for start, stop in ranges:
                self._entry.touch(start, stop)

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        with self._arrived:
            if self._is_closed or self.is_replaced:
                return
            parts = self._plan(self._bytes.missing_blocks(ranges), self._timeout_seconds)
        for part in parts:
            self._fetcher.submit(part, is_ahead=True)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        with self._in_use():
            count = self._bytes.read_into(buffer, offset)
            self._entry.touch(offset, offset + count)
            return count

    def revalidate(self) -> bool:
        """Ask the server whether the object is still the same version. Raises ``H5fsError``."""
        head = ObjectHead(self._transport, self.counts, size_bytes=1)
        try:
            is_same = self.version.is_same(head.read(self._fetcher, self._timeout_seconds))
        except RequestError as error:
            if error.kind is not FailureKind.GONE:
                raise self._refusal(error) from None
            is_same = False
        self._outage.worked()
        self.is_replaced = not is_same
        return is_same

    def close(self) -> None:
        """Let go of the cache. Who still waits gets an error; waits for no network."""
        with self._arrived:
            if self._is_closed:
                return
            self._is_closed = True
            self._arrived.notify_all()
        self._leave()

    def _leave(self) -> None:
        with self._arrived:
            self._users -= 1
            is_last = not self._users
        if is_last:
            self._cache.close_entry(self._entry)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the descriptors open as long as the block runs. Raises ``UnreachableError``."""
        with self._arrived:
            if self._is_closed:
                raise UnreachableError(f"{self._shown}: the mount is ending")
            self._users += 1
            self.counts.reads += 1
        try:
            yield
        finally:
            self._leave()

    def _bring(self, ranges: Sequence[tuple[int, int]], unit_bytes: int) -> None:
        """Return when all that was missing has come. Raises ``H5fsError``.

        Where the ranges are larger than the cache, some of it is gone again by then.
        """
        self.counts.misses += 1
        deadline = time.monotonic() + self._timeout_seconds
        blocks = self._bytes.missing_blocks(ranges)
        while len(blocks):
            seconds = deadline - time.monotonic()
            if self._outage.is_fresh:
                raise _quiet(UnreachableError(f"{self._shown}: the server does not answer"))
            with self._arrived:
                self._check_usable()
                wider = self._bytes.missing_blocks(ranges, unit_bytes)
                # Another process may have brought blocks between the two looks.
                own = self._plan(np.union1d(blocks, wider), seconds)
                awaited: dict[RangeToFetch, list[int]] = {}
                for block in blocks.tolist():
                    awaited.setdefault(self._in_flight[block], []).append(block)
            for part in {*awaited, *own}:
                if not part.is_begun:
                    self._fetcher.submit(part)
            self._wait({part: np.array(its) for part, its in awaited.items()}, set(own))
            # A part that others have begun may fail, since their time is up.
            failed = {part: its for part, its in awaited.items() if part.error is not None}
            blocks = np.array([block for its in failed.values() for block in its], np.int64)
            blocks = self._bytes.missing_among(blocks)
            if len(blocks) and time.monotonic() > deadline - self._timeout_seconds / 4:
                raise self._refusal(next(part.error for part in failed if part.error is not None))

    def _wait(
        self, awaited: dict[RangeToFetch, npt.NDArray[np.int64]], own: set[RangeToFetch]
    ) -> None:
        """Wait until the blocks of each part are here, or it has ended.

        Raises ``H5fsError``: one of the own parts has failed.
        """
        with self._arrived:
            while True:
                for part, blocks in list(awaited.items()):
                    if part.error is not None and part in own:
                        raise self._refusal(part.error)
                    if part.is_ended or not len(self._bytes.missing_among(blocks)):
                        del awaited[part]
                if not awaited:
                    return
                self._check_usable()
                self._arrived.wait(_WAIT_SECONDS)

    def _check_usable(self) -> None:
        """Raise ``H5fsError`` when nothing can be fetched any more."""
        if self._is_closed:
            raise UnreachableError(f"{self._shown}: the mount is ending")
        if self.is_replaced:
            raise StaleError(f"{self._shown} was replaced")

    def _plan(self, missing: npt.NDArray[np.int64], seconds: float) -> list[RangeToFetch]:
        """Make parts for blocks that nobody has asked for yet, under ``_arrived``.

        ``seconds``: a part is given up when nothing has come for so long.
        """
        blocks = np.array([b for b in missing.tolist() if b not in self._in_flight], np.int64)
        if not len(blocks):
            return []
        # As many parts as there may be requests at a time, of all that is under way.
        total = (len(self._in_flight) + len(blocks)) * BLOCK_BYTES
        size = min(max(total // self._fetcher.streams, _LEAST_PART_BYTES), _MOST_PART_BYTES)
        part_blocks = size // BLOCK_BYTES
        parts = []
        # To fetch what lies between two blocks costs less than another request, up to some length.
        for run in np.split(blocks, np.flatnonzero(np.diff(blocks) > _GAP_BLOCKS) + 1):
            first, end = int(run[0]), int(run[-1]) + 1
            for at in range(first, end, part_blocks):
                stop = min(at + part_blocks, end)
                part = RangeToFetch(
                    self._transport, at * BLOCK_BYTES, min(stop * BLOCK_BYTES, self.size_bytes),
                    self.version, self.counts, seconds, self._take, self._end,
                )  # fmt: skip
                parts.append(part)
                for block in range(at, stop):
                    self._in_flight.setdefault(block, part)
        return parts

    def _take(self, part: RangeToFetch, piece: Piece) -> None:
        """Put whole blocks of what has come into the cache; on the fetcher's thread."""
        data = part.rest + piece.data if part.rest else piece.data
        offset = piece.offset - len(part.rest)
        stop = offset + len(data)
        size = len(data) if stop == self.size_bytes else len(data) - stop % BLOCK_BYTES
        if size > 0:
            self._put(memoryview(data)[:size], offset)
        part.rest = data[max(size, 0) :]
        self._outage.worked()
        with self._arrived:
            self._arrived.notify_all()

    def _put(self, data: memoryview, offset: int) -> None:
        try:
            self._entry.put(data, offset)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._cache.make_room()
            self._entry.put(data, offset)
        self._cache.note(len(data))

    def _end(self, part: RangeToFetch, error: RequestError | H5fsError | OSError | None) -> None:
        if isinstance(error, RequestError):
            if error.kind in (FailureKind.REPLACED, FailureKind.GONE):
                self.is_replaced = True
            else:
                self._outage.failed(error)
        with self._arrived:
            for block in range(part.start // BLOCK_BYTES, -(-part.stop // BLOCK_BYTES)):
                if self._in_flight.get(block) is part:
                    del self._in_flight[block]
            part.is_ended, part.error = True, error
            self._arrived.notify_all()

    def _refusal(self, error: RequestError | H5fsError | OSError) -> H5fsError:
        """Return the error that readers get, of the error that ended a part."""
        if isinstance(error, H5fsError):
            return error
        if isinstance(error, OSError):
            return NoSpaceError(
                f"{self._shown}: the cache cannot be written ({error.strerror}): make room on that "
                "disk, or use -o disk_cache=SIZE:DIR"
            )
        text = f"{self._shown}: {error.reason}"
        if error.kind in (FailureKind.REPLACED, FailureKind.GONE):
            return StaleError(text)
        if error.kind is FailureKind.DENIED:
            return _quiet(DeniedError(f"{text}; have the credentials expired?"))
        return _quiet(UnreachableError(text))


def _quiet(error: H5fsError) -> H5fsError:
    """Return an error that is not logged: the outage has a line in the log already."""
    error.is_news = False
    return error

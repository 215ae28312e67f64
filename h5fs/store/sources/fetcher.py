"""Requests in flight: parts of remote objects, fetched on a thread of their own, many at a time.

A part that fails is tried again after a pause of random length, until nothing has come for as long
as the timeout. Nobody waits here for another: readers wait for blocks (``remote_object``).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from h5fs.errors import H5fsError, UnreachableError
from h5fs.store.sources.transport import (
    USUAL_PIECE_BYTES,
    FailureKind,
    ObjectVersion,
    Piece,
    RequestError,
    Transport,
)

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_AWAY_SECONDS = 2.0
_SMALL_PIECE_BYTES = 16 * 1024
_MOST_LIES = 5  # an answer that cannot be true is not asked for again and again
_END_SECONDS = 2.0
_ENDING = "the mount is ending"
_M_ARENA_MAX = -8  # of glibc's <malloc.h>

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """What the requests of a fetcher, or of an object, have come to.

    ``reads``: how often bytes were asked for; ``misses``: how often some of them were not here.
    """

    requests: int = 0
    bytes: int = 0
    in_flight: int = 0
    retries: int = 0
    last_error: str = ""
    reads: int = 0
    misses: int = 0


class Outage:
    """Whether a server is out of reach: one line in the log when that begins, one when it ends."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._began: float | None = None
        self._is_away_until = 0.0

    def failed(self, error: RequestError) -> None:
        """Note that a request was given up."""
        now = time.monotonic()
        if error.kind is FailureKind.AGAIN:
            self._is_away_until = now + _AWAY_SECONDS
        if self._began is None:
            self._began = now
            _log.warning("%s: %s; reads fail until it can be read", self._address, error.reason)

    def worked(self) -> None:
        """Note that bytes have come."""
        self._is_away_until = 0.0
        began, self._began = self._began, None
        if began is not None:
            seconds = time.monotonic() - began
            _log.warning("%s can be read again, after %.0f s", self._address, seconds)

    @property
    def is_fresh(self) -> bool:
        """Whether a request was tried for as long as it may be, and given up just now.

        The kernel asks a second time for what it could not read.
        """
        return time.monotonic() < self._is_away_until


@dataclass(eq=False, slots=True)
class RangeToFetch:
    """A range of one object that is to be fetched; *part* for short.

    ``start`` and ``stop`` count bytes. ``most_seconds``: when nothing has come for so long, the
    part is given up. ``take`` is given the bytes as they come; ``end`` is called once, with the
    error that ended the part. Both are called on the fetcher's thread.
    """

    transport: Transport
    start: int
    stop: int
    version: ObjectVersion | None
    counts: Counts
    most_seconds: float
    take: Callable[[RangeToFetch, Piece], None]
    end: Callable[[RangeToFetch, RequestError | H5fsError | OSError | None], None]
    is_begun: bool = False
    is_ended: bool = False
    error: RequestError | H5fsError | OSError | None = None
    rest: bytes = b""  # what has come of a block that is not whole yet


def _pause_after(tries: int) -> float:
    return random.uniform(0, min(_FIRST_PAUSE_SECONDS * 2**tries, _LONGEST_PAUSE_SECONDS))


def _share_one_heap() -> None:
    """Have threads take memory from one heap, where the C library keeps one for each of them.

    The buffers of requests move through the library's threads, the fetcher's and the readers'; what
    each heap keeps of those for later came to 25 MB.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


class Fetcher:
    """Fetches parts, at most ``streams`` of them at a time: first those that a reader waits for.

    The thread begins with the first part, so that a fetcher may be made before a fork.
    """

    def __init__(self, streams: int) -> None:
        self.streams: Final = streams
        self.counts: Final = Counts()
        self._lock = threading.Lock()  # protects _loop and _is_closed; nothing is taken under it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        # Only the thread uses what follows.
        self._waiting: list[tuple[int, int, RangeToFetch]] = []
        self._numbers = itertools.count()
        self._tasks: dict[asyncio.Task[None], RangeToFetch] = {}
        self._ending: asyncio.Task[None] | None = None

    def submit(self, part: RangeToFetch, *, is_ahead: bool = False) -> None:
        """Have a part fetched, or fetched earlier than it would be. Waits for nothing."""
        with self._lock:
            if not self._is_closed:
                loop = self._begin_thread()
                loop.call_soon_threadsafe(self._add, part, int(is_ahead))
                return
        part.end(part, UnreachableError(_ENDING))

    def ask(self, request: Callable[[], Coroutine[Any, Any, T]], most_seconds: float) -> T:
        """Return what a request answers, tried again like a part; it is outside of ``streams``.

        Raises ``RequestError``, ``UnreachableError``: the mount is ending.
        """
        with self._lock:
            if self._is_closed:
                raise UnreachableError(_ENDING)
            loop = self._begin_thread()
            future = asyncio.run_coroutine_threadsafe(self._insist(request, most_seconds), loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UnreachableError(_ENDING) from None

    async def _insist(
        self, request: Callable[[], Coroutine[Any, Any, T]], most_seconds: float
    ) -> T:
        deadline, tries = time.monotonic() + most_seconds, 0
        while True:
            self.counts.requests += 1
            try:
                return await request()
            except RequestError as error:
                pause = _pause_after(tries)
                tries += 1
                if error.kind is not FailureKind.AGAIN or time.monotonic() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)

    def _begin_thread(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the thread, which is begun where it is not there; under ``_lock``."""
        if self._loop is None:
            _share_one_heap()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run_loop, args=(self._loop,), name="h5fs-fetch", daemon=True
            )
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Give up what is in flight. Does not wait for the network."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._is_closed, self._loop, self._thread = True, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(self._end)
        thread.join(_END_SECONDS)

    def _add(self, part: RangeToFetch, priority: int) -> None:
        if not part.is_begun:
            heapq.heappush(self._waiting, (priority, next(self._numbers), part))
            self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._tasks) < self.streams:
            part = heapq.heappop(self._waiting)[2]
            if part.is_begun:
                continue  # it was submitted twice: ahead, and then because a reader waits
            part.is_begun = True
            task = asyncio.get_running_loop().create_task(self._run(part))
            self._tasks[task] = part
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not self._is_closed:
            self._begin()

    def _end(self) -> None:
        error = UnreachableError(_ENDING)
        for _, _, part in self._waiting:
            if not part.is_begun:
                part.end(part, error)
        self._waiting.clear()
        tasks = list(asyncio.all_tasks())
        for task in tasks:
            task.cancel()
        self._ending = asyncio.get_running_loop().create_task(self._stop(tasks))

    async def _stop(self, tasks: list[asyncio.Task[Any]]) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS / 2)
        asyncio.get_running_loop().stop()

    async def _run(self, part: RangeToFetch) -> None:
        error: RequestError | H5fsError | OSError | None = UnreachableError(_ENDING)
        try:
            error = await self._fetch(part)
        except Exception:
            _log.exception("a part of a remote file")
            error = UnreachableError("an unexpected error (the log has it)")
        finally:
            part.end(part, error)

    async def _fetch(self, part: RangeToFetch) -> RequestError | H5fsError | OSError | None:
        """Fetch a part, however many tries that takes; return the error that ended it."""
        at, end, tries, lies = part.start, part.stop, 0, 0
        deadline = time.monotonic() + part.most_seconds
        while True:
            for counts in (self.counts, part.counts):
                counts.requests += 1
                counts.in_flight += 1
            try:
                # Small pieces after a failure: on a slow line, too, there is some progress.
                pieces = part.transport.read(
                    at, part.stop, part.version,
                    piece_bytes=_SMALL_PIECE_BYTES if tries else USUAL_PIECE_BYTES,
                    most_silence_seconds=deadline - time.monotonic(),
                )  # fmt: skip
                async with aclosing(pieces):
                    async for piece in pieces:
                        part.take(part, piece)
                        for counts in (self.counts, part.counts):
                            counts.bytes += len(piece.data)
                        at = piece.offset + len(piece.data)
                        end = min(part.stop, piece.version.size_bytes)
                        deadline = time.monotonic() + part.most_seconds
                return None
            except (H5fsError, OSError) as error:  # the cache on disk is full
                return error
            except RequestError as error:
                if at == end:  # all bytes had come before the error
                    return None
                lies += error.kind is FailureKind.LIE
                is_over = error.kind not in (FailureKind.AGAIN, FailureKind.LIE)
                pause = _pause_after(tries)
                tries += 1
                for counts in (self.counts, part.counts):
                    counts.last_error = error.reason
                if is_over or lies == _MOST_LIES or time.monotonic() + pause >= deadline:
                    return error
            finally:
                for counts in (self.counts, part.counts):
                    counts.in_flight -= 1
            for counts in (self.counts, part.counts):
                counts.retries += 1
            await asyncio.sleep(pause)

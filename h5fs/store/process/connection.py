"""One worker as the daemon sees it: a request goes out, an answer comes back, or it is dead.

Used by one thread at a time, but for ``interrupt`` and ``runs``.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from h5fs.errors import UnreadableError
from h5fs.options import StoreOptions
from h5fs.store.process import messages
from h5fs.store.process.messages import METHODS
from h5fs.store.process.nursery import Nursery
from h5fs.store.process.segments import Segment, make_memory_file

_log = logging.getLogger(__name__)

# A request that makes progress may take this many deadlines, and no more: files can promise work
# without end.
_MOST_DEADLINES = 100


_END_SECONDS = 5  # within which a process ends that was killed, unless a disk holds it


class WorkerHungError(Exception):
    """No answer within the deadline."""


class WorkerDiedError(Exception):
    """The connection broke. ``was_killed``: by SIGKILL, which is no fault of the request."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.was_killed = reason.endswith("SIGKILL")


class WorkerConnection:
    """Starts a worker through the nursery, talks to it, ends it.

    ``on_file(number, path)`` hears of files that the worker has numbered. ``_ending`` keeps two
    threads from ending it at once.
    """

    def __init__(
        self,
        nursery: Nursery,
        options: StoreOptions,
        on_file: Callable[[int, bytes], None],
        files: tuple[int, ...] = (),
    ) -> None:
        self._nursery = nursery
        self._on_file = on_file
        self._window = make_memory_file("window", messages.NOTE_BYTES)
        try:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self.pid, self._process = nursery.spawn(options, theirs, self._window, files)
        except OSError:
            os.close(self._window)
            raise
        self._buffer = bytearray(4 * messages.MAX_PACKET_BYTES)
        self._view = memoryview(self._buffer)
        self._ending = threading.Lock()
        self._is_ended = False
        self._segments: set[int] = set()
        self._gone: list[int] = []
        self._files: set[int] = set()
        self.is_last_answer = False  # the worker ends after what it answered

    def wait_until_open(self, seconds: float) -> None:
        """Wait until the worker has opened the file. Raises what opening raised."""
        self._receive(None, seconds, None)

    def call(
        self,
        method: str,
        arguments: tuple[Any, ...],
        *,
        seconds: float,
        into: memoryview | None,
        files: dict[int, bytes],
        segments: tuple[Segment, ...],
    ) -> Any:
        """Return the result of a call; with ``into``, the number of data bytes put there.

        Raises an ``H5fsError`` that the worker raised, ``WorkerHungError``, ``WorkerDiedError``.
        """
        known = tuple((n, path) for n, path in files.items() if n not in self._files)
        unknown = [segment for segment in segments if segment.number not in self._segments]
        new = tuple((segment.number, segment.size_bytes) for segment in unknown)
        encoded = messages.encode(arguments)
        descriptors = [segment.descriptor for segment in unknown]
        large_bytes = len(encoded) if len(encoded) > messages.MAX_PACKET_BYTES else 0
        memory_file = None
        if large_bytes:
            memory_file = _put_in_memory_file(encoded)
            descriptors.insert(0, memory_file)
            encoded = b"\xc0"  # msgpack's nil
        request = messages.Request(
            method, msgspec.Raw(encoded), known, new, tuple(self._gone), large_bytes
        )
        packet = messages.encode(request)
        try:
            socket.send_fds(self._socket, [packet], descriptors)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise UnreadableError(f"a request of {len(packet)} bytes is too long") from None
            # A process that ends closes its socket before it is seen to have ended.
            raise self._died() from None
        finally:
            if memory_file is not None:
                os.close(memory_file)
        self._segments.difference_update(self._gone)
        self._gone.clear()
        result = self._receive(METHODS[method], seconds, into)
        # After a failure they are sent again: it may have been in taking them over.
        self._files.update(number for number, _ in known)
        self._segments.update(number for number, _ in new)
        return result

    def forget_segment(self, number: int) -> None:
        """Let the worker know, with the next request, that a segment is gone."""
        if number in self._segments:
            self._gone.append(number)

    def note(self) -> bytes:
        """Return what the worker noted that it would look at next."""
        head = os.pread(self._window, messages.NOTE_BYTES, 0)
        return head[2 : 2 + int.from_bytes(head[:2], "little")]

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self._has_ended_within(0)

    def runs(self) -> bool:
        """Whether the process runs and is not being ended; from any thread, waits for none."""
        if not self._ending.acquire(blocking=False):
            return False
        try:
            return not self._is_ended and self.is_alive()
        finally:
            self._ending.release()

    def interrupt(self) -> None:
        """End the worker at once, from any thread; who waits for its answer sees it die."""
        with self._ending:
            if not self._is_ended:
                self._send_kill()

    def kill(self) -> None:
        """End the worker at once, wait until it holds nothing any more, and forget it."""
        with self._ending:
            if self._is_ended:
                return
            self._is_ended = True
            self._send_kill()
            if self._has_ended_within(_END_SECONDS):
                self._nursery.end_of(self.pid)  # or it would stay as a zombie
            self._socket.close()
            os.close(self._process)
            os.close(self._window)

    def _has_ended_within(self, seconds: float) -> bool:
        # select() knows no descriptor beyond 1023, and blocks of the cache have one each.
        process = select.poll()
        process.register(self._process, select.POLLIN)
        return bool(process.poll(seconds * 1000))

    def _send_kill(self) -> None:
        try:
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        except ProcessLookupError:
            _log.debug("worker %d is gone already", self.pid)

    def _receive(
        self, method: messages.Method | None, seconds: float, into: memoryview | None
    ) -> Any:
        last = time.monotonic() + seconds * _MOST_DEADLINES
        self._socket.settimeout(seconds)
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except TimeoutError:
                raise WorkerHungError(f"no answer within {seconds:.3g} s") from None
            except OSError:
                raise self._died() from None
            if not size:
                raise self._died()
            kind, body = self._buffer[0], self._view[1:size]
            if kind == messages.RESULT:
                return method.decode_result(body) if method is not None and size > 1 else None
            if kind == messages.RESULT_IN_WINDOW and method is not None:
                return method.decode_result(self._from_window(body))
            if kind == messages.DATA and into is not None:
                return self._copy(body, into)
            if kind == messages.DATA_IN_WINDOW and into is not None:
                return self._copy_from_window(body, into)
            if kind in (messages.FAILURE, messages.LAST_FAILURE):
                self.is_last_answer = kind == messages.LAST_FAILURE
                raise messages.decode_failure(body)
            self._note_message(kind, body)
            if time.monotonic() > last:
                raise WorkerHungError(f"no answer within {seconds * _MOST_DEADLINES:.3g} s")

    def _note_message(self, kind: int, body: memoryview) -> None:
        if kind == messages.LOG:
            level, text = messages.decode_log(body)
            _log.log(level, "%s", text)
        elif kind == messages.FILE:
            number, path = messages.decode_file(body)
            self._files.add(number)
            self._on_file(number, path)
        elif kind != messages.PROGRESS:
            raise UnreadableError(f"the worker's answer is of no kind known: {kind}")

    def _from_window(self, body: memoryview) -> bytes:
        size = int.from_bytes(body, "little")
        if size > os.fstat(self._window).st_size:
            raise UnreadableError("the worker's answer is longer than its window")
        return os.pread(self._window, size, messages.NOTE_BYTES)

    def _copy(self, data: memoryview, into: memoryview) -> int:
        size = min(len(data), len(into))
        into[:size] = data[:size]
        return size

    def _copy_from_window(self, body: memoryview, into: memoryview) -> int:
        size = min(int.from_bytes(body, "little"), len(into))
        return os.preadv(self._window, [into[:size]], messages.NOTE_BYTES)

    def _died(self) -> WorkerDiedError:
        return WorkerDiedError(f"the worker process was {self._nursery.end_of(self.pid)}")


def _put_in_memory_file(data: bytes) -> int:
    descriptor = make_memory_file("arguments", len(data))
    os.pwrite(descriptor, data, 0)
    return descriptor

"""Packets from a worker: waiting for one, and what it means when none comes.

One thread at a time may use a reader.
"""

from __future__ import annotations

import select
import socket
import struct
import time

from h5fs.store.workers import messages
from h5fs.store.workers.starting.process_handle import ProcessHandle
from h5fs.store.workers.worker_errors import WorkerHungError

# The longest that one system call waits. So a request that is answered soon needs no limit of its
# own, and nobody has to know how much the worker has computed before.
_WAIT_SECONDS = 0.1
# A worker that has computed for less than this share of a deadline has waited: an endless loop
# computes all the time.
_WORKING_SHARE = 0.1
# A worker that was held up answers within this time once it goes on.
_GRACE_SECONDS = 1

_TIMEVAL = struct.Struct("@ll")
_IS_CUT = int(socket.MSG_TRUNC)  # Python's flags are calculated with in Python


class PacketReader:
    """Receives the packets of ``process`` from ``connection``, a blocking socket."""

    def __init__(self, connection: socket.socket, process: ProcessHandle) -> None:
        self._socket = connection
        self._process = process
        self._buffer = bytearray(4 * messages.MAX_PACKET_BYTES)
        self._view = memoryview(self._buffer)
        self._wait_seconds = 0.0  # the socket's limit

    def receive(self, seconds: float) -> memoryview | None:
        """Return the next packet, valid until the next call; None when the other end is closed.

        Raises ``WorkerHungError`` when none comes within ``seconds``, ``ValueError`` for what is no
        packet.
        """
        wait_seconds = min(_WAIT_SECONDS, seconds / 4)
        if wait_seconds != self._wait_seconds:
            self._limit_waits(wait_seconds)
        since, clocks = time.monotonic(), None
        while True:
            try:
                size, _, flags, _ = self._socket.recvmsg_into([self._buffer])
            except BlockingIOError:  # the socket's limit
                if clocks is None:
                    clocks = self._read_clocks()
                elif time.monotonic() - since >= seconds:
                    self._judge_silence(seconds, since, clocks)
                    since, clocks = time.monotonic(), self._read_clocks()
                continue
            except OSError:
                size, flags = 0, 0
            if not size:
                if _has_hung_up(self._socket):
                    return None
                raise ValueError("an empty packet")
            if flags & _IS_CUT:
                raise ValueError("a packet that is too long")
            return self._view[:size]

    def _limit_waits(self, seconds: float) -> None:
        """Let the socket wait so long at most.

        With Python's own timeout, each call would be two system calls, and one more to set it.
        """
        limit_waits(self._socket, socket.SO_RCVTIMEO, seconds)
        self._wait_seconds = seconds

    def _read_clocks(self) -> tuple[float, float]:
        """Return the time, and how much of it the worker has computed."""
        return time.monotonic(), self._process.cpu_seconds()

    def _judge_silence(self, seconds: float, since: float, clocks: tuple[float, float]) -> None:
        """Return while an answer may still come. Raises ``WorkerHungError`` when none will.

        ``since``: when waiting began; ``clocks``: those soon after that.
        """
        reason = f"no answer within {seconds:.3g} s"
        now, computed = self._read_clocks()
        if computed - clocks[1] >= _WORKING_SHARE * (now - clocks[0]):
            raise WorkerHungError(reason)
        if now - since > seconds + _GRACE_SECONDS:
            return  # this process was held up as well, so that time does not count
        if not _is_readable_within(self._socket, _GRACE_SECONDS):
            raise WorkerHungError(
                f"{reason}: the worker waited, for the disk perhaps",
                has_waited=True, was_stopped=self._process.is_stopped(),
            )  # fmt: skip


def limit_waits(connection: socket.socket, option: int, seconds: float) -> None:
    """Let calls of a blocking socket raise ``BlockingIOError`` when they have waited so long.

    ``option``: SO_RCVTIMEO or SO_SNDTIMEO.
    """
    microseconds = max(round(seconds * 1_000_000), 1)  # 0 would be no limit
    value = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, option, value)


def _is_readable_within(connection: socket.socket, seconds: float) -> bool:
    """Whether there is something to read now, or soon."""
    answer = select.poll()
    answer.register(connection, select.POLLIN)
    return bool(answer.poll(seconds * 1000))


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    closed = select.poll()
    closed.register(connection, select.POLLRDHUP)
    return bool(closed.poll(0))

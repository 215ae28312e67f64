"""One worker as the daemon sees it: a request goes out, an answer comes back or the worker ends.

Trusts nothing that comes from the worker: a message that is no valid answer to the request ends the
worker. Every wait has a limit. One thread at a time may use a connection, except for ``interrupt``,
``runs`` and ``forget_shared_buffer``.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from h5fs.errors import H5fsError, UnreadableError
from h5fs.model.file_status import NumberedFile
from h5fs.model.settings import StoreOptions
from h5fs.store.library_interface import ChangedObjects
from h5fs.store.workers import answer_checks, messages
from h5fs.store.workers.messages import METHODS
from h5fs.store.workers.packet_reader import PacketReader, limit_waits
from h5fs.store.workers.reply_buffer import ReplyBuffer, copy_data
from h5fs.store.workers.shared_buffers import SharedBuffer, put_in_memory_file
from h5fs.store.workers.starting.process_handle import ProcessHandle
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.store.workers.worker_errors import (
    FilesNeededError,
    WorkerDiedError,
    WorkerHungError,
    WorkerLiedError,
)
from h5fs.store.workers.worker_file import WorkerFile

_log = logging.getLogger(__name__)

# A request that makes progress may take this many deadlines, and no more: a file can ask for work
# without end.
_MOST_DEADLINES = 100
# A process that ends closes its socket some time before the system says that it has ended.
_OWN_END_SECONDS = 1
_END_SECONDS = 2  # a killed process ends within this time, unless it waits for a disk
_MOST_LOG_LINES = 100_000  # for one request


class WorkerConnection:
    """Starts a worker through the worker starter, talks to it, ends it.

    ``on_file(number, file)`` is called for files that the worker has numbered;
    ``on_change(changed, stop)`` when it has committed a change. ``_ending`` keeps
    two threads from ending the worker at once; ``_sharing`` protects ``_shared_buffers``,
    ``_sending`` and ``_gone``. No other lock is taken while either is held.
    """

    def __init__(
        self,
        starter: WorkerStarter,
        options: StoreOptions,
        on_file: Callable[[int, NumberedFile], None],
        file: WorkerFile,
        grants: tuple[bytes, ...] = (),
        on_change: Callable[[ChangedObjects, int], None] | None = None,
    ) -> None:
        self._starter = starter
        self._fetch_ranges = file.fetch
        self._not_fetched: H5fsError | None = None
        self._on_file = on_file
        self._on_change = on_change
        self._most_item_bytes = options.limits.max_chunk_bytes
        self._reply_buffer = ReplyBuffer(options.limits.memory_bytes // 4)
        try:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = starter.spawn(
                    options, theirs, self._reply_buffer.descriptor, file, grants
                )
        except OSError:
            self._reply_buffer.close()
            raise
        limit_waits(self._socket, socket.SO_SNDTIMEO, options.limits.deadline_seconds)
        self._process = ProcessHandle(*process)
        self.pid = self._process.pid
        self._packets = PacketReader(self._socket, self._process)
        self._ending = threading.Lock()
        self._is_ended = False
        self._sharing = threading.Lock()
        self._shared_buffers: set[int] = set()
        self._sending: set[int] = set()
        self._gone: list[int] = []
        self._files: set[int] = set()
        self._number = 0
        self._end = ""  # how it ended, once that is known
        self.is_ready = False  # the worker is confined, and has begun to open the file
        self.is_last_answer = False  # the worker ends after this answer

    def wait_until_open(self, seconds: float) -> None:
        """Wait until the worker has opened the file. Raises what opening raised, or as ``call``."""
        self._receive(None, (), seconds, None)

    def call(
        self,
        method: str,
        arguments: tuple[Any, ...],
        *,
        seconds: float,
        into: memoryview | None,
        files: dict[int, NumberedFile],
        shared_buffers: tuple[SharedBuffer, ...],
        commit: tuple[int, int] | None = None,
    ) -> Any:
        """Return the result of a call; with ``into``, the number of data bytes put there.

        ``commit``: what the worker must have caught up with. Raises the ``H5fsError`` that the
        worker raised, or that kept this process from fetching bytes for the worker;
        ``WorkerHungError``, ``WorkerDiedError``, ``FilesNeededError``.
        """
        known: tuple[tuple[int, NumberedFile], ...] = ()
        if files:
            known = tuple((n, file) for n, file in files.items() if n not in self._files)
        self._number += 1
        unknown: list[SharedBuffer] = []
        gone: tuple[int, ...] = ()
        if shared_buffers or self._gone:
            unknown, gone = self._begin_sharing(shared_buffers)
        new = (
            tuple([(each.number, each.size_bytes, each.is_on_disk) for each in unknown])
            if unknown
            else ()
        )
        encoded = messages.encode(arguments)
        large_bytes = len(encoded) if len(encoded) > messages.MAX_PACKET_BYTES else 0
        request = messages.Request(
            method, msgspec.Raw(b"\xc0" if large_bytes else encoded),  # msgpack's nil
            self._number, known, new, gone, large_bytes, commit,
        )  # fmt: skip
        try:
            self._send(request, unknown, encoded if large_bytes else b"")
            result = self._receive(METHODS[method], arguments, seconds, into)
        except BaseException:
            # The worker may not know yet which shared buffers are new, or gone: it is told again.
            with self._sharing:
                self._gone += self._sending
                self._sending = set()
            raise
        if known:
            self._files.update(number for number, _ in known)
        if unknown:
            with self._sharing:
                self._shared_buffers |= self._sending
                self._sending = set()
        return result

    def _begin_sharing(
        self, shared_buffers: tuple[SharedBuffer, ...]
    ) -> tuple[list[SharedBuffer], tuple[int, ...]]:
        """Return those shared buffers that the worker does not know, and the numbers of those that
        are gone, to be sent now."""
        with self._sharing:
            unknown = [each for each in shared_buffers if each.number not in self._shared_buffers]
            self._sending = {shared_buffer.number for shared_buffer in unknown}
            gone, self._gone = self._gone, []
            self._shared_buffers.difference_update(gone)
        return unknown, tuple(gone)

    def _send(
        self,
        request: messages.Request,
        shared_buffers: list[SharedBuffer],
        large: bytes,
    ) -> None:
        packet = messages.encode(request)
        descriptors = [each.descriptor for each in shared_buffers] if shared_buffers else []
        memory_file = put_in_memory_file(large) if large else None
        if memory_file is not None:
            descriptors.insert(0, memory_file)
        try:
            if descriptors:
                socket.send_fds(self._socket, [packet], descriptors)
            else:
                self._socket.send(packet)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise UnreadableError(f"a request of {len(packet)} bytes is too long") from None
            raise WorkerDiedError(self._how_it_ended(), was_asked=False) from None
        finally:
            if memory_file is not None:
                os.close(memory_file)

    def forget_shared_buffer(self, number: int) -> None:
        """Let the worker know, with the next request, that a shared buffer is gone."""
        with self._sharing:
            if number in self._shared_buffers or number in self._sending:
                self._gone.append(number)

    def note(self) -> bytes:
        """Return the worker's last note: the object that it was going to look at."""
        return self._reply_buffer.note()

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return not self._process.has_ended_within(0)

    def runs(self) -> bool:
        """Whether the process runs and is not being ended. Any thread may ask; never waits."""
        if not self._ending.acquire(blocking=False):
            return False
        try:
            return not self._is_ended and self.is_alive()
        finally:
            self._ending.release()

    def interrupt(self) -> None:
        """End the worker at once, from any thread; the thread that waits for it sees it die."""
        with self._ending:
            if not self._is_ended:
                self._process.kill()

    def kill(self) -> bool:
        """End the worker; return whether the process has ended.

        A worker that waits for a disk does not end in time: ask ``is_gone`` later.
        """
        with self._ending:
            if not self._is_ended:
                self._is_ended = True
                self._process.kill()
                self._socket.close()
                self._reply_buffer.close()
        return self.is_gone(_END_SECONDS)

    def is_gone(self, seconds: float = 0) -> bool:
        """Whether a killed worker has ended, or ends within ``seconds``."""
        if not self._process.has_ended_within(seconds):
            return False
        self._learn_end()  # without this the process would stay as a zombie
        return True

    def close(self) -> None:
        """Close the connection to a worker that has ended, or that is given up."""
        self._process.close()

    def _receive(
        self,
        method: messages.Method | None,
        arguments: tuple[Any, ...],
        seconds: float,
        into: memoryview | None,
    ) -> Any:
        last = time.monotonic() + seconds * _MOST_DEADLINES
        lines = 0
        while True:
            kind, body = self._next_packet(seconds)
            if kind == messages.FETCH:
                last += self._fetch(body)
            if kind in messages.ANSWERS and self._not_fetched is not None:
                # The worker has gone on with zeros for missing bytes: its answer is not believed.
                self.is_last_answer = True
                raise self._not_fetched
            refusal: H5fsError | None = None
            try:
                if kind in messages.ANSWERS:
                    body = self._check_number(body, is_opening=method is None)
                    refusal = None if kind == messages.RESULT else self._refusal_in(kind, body)
                    if refusal is None:
                        result = self._result_in(kind, body, method, into)
                        if method is not None:
                            most = self._most_item_bytes
                            answer_checks.check(arguments, result, most)
                        return result
                else:
                    self._note_message(kind, body, is_opening=method is None)
            except FilesNeededError:
                raise
            # Any exception, since the worker chooses what it sends.
            except Exception as error:
                raise self._lied(f"{type(error).__name__}: {error}") from None
            if refusal is not None:
                raise refusal
            lines += kind == messages.LOG
            if lines > _MOST_LOG_LINES:
                raise self._lied("lines for the log without end")
            if time.monotonic() > last:
                raise WorkerHungError(f"no answer within {seconds * _MOST_DEADLINES:.3g} s")

    def _fetch(self, body: memoryview) -> float:
        """Bring here what the worker lacks; return how many seconds it waited for that."""
        since = time.monotonic()
        answer = messages.FETCHED
        try:
            ranges, unit_bytes = messages.decode_fetch(body)
            if self._fetch_ranges is None:
                raise UnreadableError("there is nothing to fetch")
        except Exception as error:  # the worker chooses what it sends
            raise self._lied(f"{type(error).__name__}: {error}") from None
        try:
            self._fetch_ranges(ranges, unit_bytes)
        except H5fsError as error:
            self._not_fetched, answer = error, messages.NOT_FETCHED
        with suppress(OSError):  # it has ended: the next packet will show it
            self._socket.send(answer)
        return time.monotonic() - since

    def _check_number(self, body: memoryview, *, is_opening: bool) -> memoryview:
        """Check the request's number in an answer, and return the rest."""
        size = messages.NUMBER_BYTES
        if int.from_bytes(body[:size], "little") != (0 if is_opening else self._number):
            raise ValueError("the answer to another request")
        return body[size:]

    def _next_packet(self, seconds: float) -> tuple[int, memoryview]:
        """Return kind and content of the next packet."""
        try:
            packet = self._packets.receive(seconds)
        except ValueError as error:
            raise self._lied(str(error)) from None
        if packet is None:
            raise WorkerDiedError(self._how_it_ended())
        kind, body = packet[0], packet[1:]
        return self._note_change(body) if kind == messages.CHANGED else (kind, body)

    def _refusal_in(self, kind: int, body: memoryview) -> H5fsError | None:
        """Return the refusal that an answer is; None when it is a result."""
        if kind == messages.NEEDS:
            raise FilesNeededError(messages.decode_needs(body))
        if kind not in (messages.FAILURE, messages.LAST_FAILURE):
            return None
        refusal = messages.decode_failure(body)
        self.is_last_answer = kind == messages.LAST_FAILURE
        return refusal

    def _result_in(
        self, kind: int, body: memoryview, method: messages.Method | None, into: memoryview | None
    ) -> Any:
        if kind == messages.RESULT and method is None:
            return None
        if kind == messages.RESULT and method is not None and not method.returns_data:
            return method.decode_result(body)
        if kind == messages.RESULT_IN_BUFFER and method is not None:
            return method.decode_result(self._reply_buffer.read(body))
        if kind == messages.DATA and into is not None:
            return copy_data(body, into)
        if kind == messages.DATA_IN_BUFFER and into is not None:
            return self._reply_buffer.read_into(body, into)
        raise ValueError(f"an answer of another kind than was asked for: {kind}")

    def _note_change(self, body: memoryview) -> tuple[int, memoryview]:
        """Pass on what a worker tells of a commit; return kind and content of what follows."""
        try:
            if self._on_change is None:
                raise ValueError("a change by a worker that only reads")
            changed, stop, packet = messages.split_changed(body)
            self._on_change(changed, stop)
            return packet[0], packet[1:]
        except Exception as error:  # the worker chooses what it sends
            raise self._lied(f"{type(error).__name__}: {error}") from None

    def _note_message(self, kind: int, body: memoryview, *, is_opening: bool) -> None:
        if kind == messages.LOG:
            level, text = messages.decode_log(body)
            _log.log(level, "%s", text)
        elif kind == messages.FILE:
            number, file = messages.decode_file(body)
            self._on_file(number, file)
            self._files.add(number)
        elif kind == messages.READY and is_opening:
            self.is_ready = True
        elif kind not in (messages.PROGRESS, messages.FETCH):
            raise ValueError(f"an answer of no kind known: {kind}")

    def _lied(self, reason: str) -> WorkerLiedError:
        self._process.kill()
        return WorkerLiedError(f"the worker's answer is not one: {reason[:400]}")

    def _how_it_ended(self) -> str:
        """Return how a worker ended whose socket is closed; kill it if it still runs."""
        if self._process.has_ended_within(_OWN_END_SECONDS):
            return f"the worker process was {self._learn_end()}"
        self._process.kill()
        return "the worker process hung up without ending"

    def _learn_end(self) -> str:
        if not self._end:
            self._end = self._starter.end_of(self.pid)
        return self._end

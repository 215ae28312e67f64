"""A worker: one process that reads the file through the HDF5 library, one request at a time.

Owns the process that it runs in. Single-threaded, since the library has one lock; a worker that is
killed must leave nothing behind but its memory. It trusts the daemon; the daemon trusts nothing
that a worker sends.
"""

from __future__ import annotations

import errno
import gc
import logging
import mmap
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from h5fs.errors import H5fsError, UnreadableError, show_path
from h5fs.model.file_status import NumberedFile
from h5fs.model.settings import StoreOptions
from h5fs.store.external_policy import FilesToAskForError
from h5fs.store.hdf5.store_choice import make_library_store
from h5fs.store.library_interface import ChangedObjects
from h5fs.store.workers import messages
from h5fs.store.workers.shared_buffers import SharedBufferViews
from h5fs.store.workers.worker_file import FileKind

_log = logging.getLogger(__name__)

if TYPE_CHECKING:  # few workers write
    from h5fs.store.hdf5.stepwise_store import StepwiseStore

_PROGRESS_SECONDS = 0.2
_DESCRIPTORS_ROOM = socket.CMSG_LEN(64 * 4)


class Worker:
    """Answers requests from ``connection`` until it closes; ``reply_buffer``: its memory file.

    ``files``: descriptors of the mounted file, as its ``kind`` says.
    ``granted``: device and inode numbers of the other files that this process may read.
    """

    def __init__(
        self,
        options: StoreOptions,
        connection: socket.socket,
        reply_buffer: int,
        kind: FileKind,
        files: Sequence[int],
        *,
        granted: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        self._connection = connection
        self._number = 0  # of the request that is being answered
        self._change: tuple[ChangedObjects, int] | None = None  # not told yet
        self._reply_buffer = _ReplyBuffer(reply_buffer)
        self._shared_buffers = SharedBufferViews()
        self._last_progress = time.monotonic()
        self._store = make_library_store(
            options,
            kind,
            files,
            fetch=self._fetch,
            on_progress=self._tell_progress,
            on_look=self._reply_buffer.note,
            on_file=self._tell_file,
            on_change=self._tell_change,
            shared_buffers=self._shared_buffers,
            granted=granted,
        )

    def run(self) -> None:
        """Open the file, then answer requests until the daemon closes the connection."""
        self._connection.send(bytes([messages.READY]))
        self._answer(self._open)
        gc.freeze()  # what there is by now stays, so that no search for garbage goes through it
        buffer = bytearray(4 * messages.MAX_PACKET_BYTES)
        view = memoryview(buffer)
        while True:
            size, descriptors = _receive(self._connection, buffer)
            if not size:
                return
            self._last_progress = time.monotonic()
            packet = bytes(view[:size])
            self._answer(self._call, packet, descriptors)
            if self._store.is_broken:
                return

    def _open(self) -> bytes:
        self._store.open()
        return self._head(messages.RESULT)

    def _call(self, packet: bytes, descriptors: list[int]) -> bytes:
        request = messages.decode_request(packet)
        self._number = request.number
        if request.large_bytes:
            request = messages.with_arguments(request, _read_all(descriptors.pop(0)))
        for number in request.gone:
            self._shared_buffers.remove(number)
        for new, descriptor in zip(request.shared_buffers, descriptors, strict=True):
            number, size, is_on_disk = new
            self._shared_buffers.add(number, descriptor, size, on_disk=is_on_disk)
        for number, file in request.files:
            self._store.know_file(number, file)
        if request.commit is not None:
            self._store.catch_up(*request.commit)
        method = messages.METHODS[request.method]
        arguments = method.decode_arguments(request.arguments)
        self._reply_buffer.note(b"")
        if request.method == messages.CHANGES:
            return self._make_changes(arguments)
        result = getattr(self._store, request.method)(*arguments)
        self._store.confirm_reads()
        if method.returns_data:
            return self._pack(messages.DATA, messages.DATA_IN_BUFFER, result)
        encoded = messages.encode_result(result)
        return self._pack(messages.RESULT, messages.RESULT_IN_BUFFER, encoded)

    def _make_changes(self, changes: tuple[tuple[str, tuple[Any, ...]], ...]) -> bytes:
        """Make several changes, and commit them together.

        One that is refused before its step leaves the others alone. One that fails within its step
        takes all with it, by its exception: the daemon then asks for each of them alone.
        """
        from h5fs.store.hdf5.stepwise_store import StepwiseStore

        if not isinstance(self._store, StepwiseStore):
            raise UnreadableError("this worker only reads")
        outcomes: list[messages.Outcome] = []
        with self._store.together():
            for method, arguments in changes:
                outcomes.append(self._outcome_of(self._store, method, arguments))
            self._store.confirm_reads()
            # Before the commit: if this process is killed after it, the daemon knows what was done.
            self._reply_buffer.note(bytes(each.result is not None for each in outcomes))
        encoded = messages.encode_outcomes(messages.Outcomes(tuple(outcomes)))
        return self._pack(messages.RESULT, messages.RESULT_IN_BUFFER, encoded)

    def _outcome_of(
        self, store: StepwiseStore, method: str, arguments: tuple[Any, ...]
    ) -> messages.Outcome:
        self._tell_progress()  # each change has a deadline of its own
        try:
            result = getattr(store, method)(*arguments)
            return messages.Outcome(method, messages.encode_result(result))
        except FilesToAskForError:
            if store.is_broken:
                raise
            return messages.Outcome(method, goes_alone=True)
        except Exception as error:
            if store.is_broken:
                raise
            return messages.Outcome(method, refusal=_refusal_of(error))

    def _head(self, kind: int) -> bytes:
        return bytes([kind]) + self._number.to_bytes(messages.NUMBER_BYTES, "little")

    def _pack(self, inline: int, in_buffer: int, data: bytes | bytearray) -> bytes:
        if len(data) < messages.MAX_PACKET_BYTES:
            return self._head(inline) + data
        self._reply_buffer.write(data)
        return self._head(in_buffer) + len(data).to_bytes(8, "little")

    def _answer(self, work: Callable[..., bytes], *arguments: Any) -> None:
        try:
            packet = work(*arguments)
        except FilesToAskForError as need:
            packet = self._ask_for(need.paths)
        except Exception as error:
            packet = self._pack_failure(_refusal_of(error))
        self._send(packet)

    def _send(self, packet: bytes) -> None:
        change, self._change = self._change, None
        self._connection.send(packet if change is None else messages.pack_changed(*change, packet))

    def _ask_for(self, paths: tuple[bytes, ...]) -> bytes:
        """Return the answer that names files; after it another worker replaces this one."""
        if not self._store.may_be_replaced:
            return self._pack_failure(
                UnreadableError(
                    f"{show_path(paths[0])} cannot be opened before what is being written, or was "
                    "removed while it is open, is closed; then try again"
                )
            )
        return self._head(messages.NEEDS) + messages.encode(_first_of(paths))

    def _pack_failure(self, error: H5fsError) -> bytes:
        kind = messages.LAST_FAILURE if self._store.is_broken else messages.FAILURE
        return self._head(kind) + messages.encode_failure(error)

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now - self._last_progress > _PROGRESS_SECONDS:
            self._last_progress = now
            self._connection.send(bytes([messages.PROGRESS]))

    def _fetch(self, ranges: Sequence[tuple[int, int]], unit_bytes: int) -> None:
        """Have the daemon fetch ranges of the mounted file. Raises ``OSError``."""
        for some in _split_ranges(ranges):
            request = messages.encode((some, unit_bytes))
            self._connection.send(bytes([messages.FETCH]) + request)
            if self._connection.recv(len(messages.FETCHED)) != messages.FETCHED:
                raise OSError(errno.EIO, "the daemon cannot fetch it")

    def _tell_file(self, number: int, file: NumberedFile) -> None:
        self._connection.send(bytes([messages.FILE]) + messages.encode((number, file)))

    def _tell_change(self, changed: ChangedObjects, stop: int) -> None:
        if self._change is not None:
            self._send(bytes([messages.PROGRESS]))
        self._change = changed, stop


class _ReplyBuffer:
    """The memory file for large answers; it begins with the worker's note."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._note = mmap.mmap(descriptor, messages.NOTE_BYTES)
        self._noted: bytes | None = None  # it may hold a note of another worker

    def note(self, text: bytes) -> None:
        """Write down which object is looked at next, so that the daemon knows it after a crash."""
        if text == self._noted:  # as before nearly every request: nothing
            return
        self._noted = text = text[: messages.NOTE_BYTES - 2]
        self._note[: 2 + len(text)] = len(text).to_bytes(2, "little") + text

    def write(self, data: bytes | bytearray) -> None:
        view, at = memoryview(data), messages.NOTE_BYTES
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view, at = view[written:], at + written


class ConnectionHandler(logging.Handler):
    """Sends log lines to the daemon, whose log they belong in."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = messages.encode((record.levelno, self.format(record)[:20_000]))
            self._connection.send(bytes([messages.LOG]) + line)
        except (BrokenPipeError, ConnectionResetError):
            return  # the daemon is gone, and its log; the worker ends with its next answer
        except OSError:
            self.handleError(record)


def _refusal_of(error: Exception) -> H5fsError:
    """Return what the daemon is told of an exception."""
    if isinstance(error, H5fsError):
        return error
    if isinstance(error, MemoryError):
        return UnreadableError("it needs more memory than -o memory allows")
    _log.error("unexpected", exc_info=error)
    return UnreadableError(f"unexpected {type(error).__name__}: {error}")


def _first_of(paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return as many paths as fit into a packet; the others are asked for the next time."""
    room = 2 * messages.MAX_PACKET_BYTES
    first = [path for path, size in zip(paths, accumulate(map(len, paths)), strict=True)
             if size < room]  # fmt: skip
    return tuple(first)


def _split_ranges(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield lists of ranges, each of no more than may be asked for at once."""
    some: list[tuple[int, int]] = []
    size = 0
    for start, stop in ranges:
        for at in range(start, stop, messages.MOST_FETCHED_BYTES):
            end = min(at + messages.MOST_FETCHED_BYTES, stop)
            if some and (
                len(some) == messages.MOST_RANGES or size + end - at > messages.MOST_FETCHED_BYTES
            ):
                yield some
                some, size = [], 0
            some.append((at, end))
            size += end - at
    if some:
        yield some


def _read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def _receive(connection: socket.socket, buffer: bytearray) -> tuple[int, list[int]]:
    size, ancillary, _, _ = connection.recvmsg_into([buffer], _DESCRIPTORS_ROOM)
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(data) - len(data) % 4
            descriptors += memoryview(data[:whole]).cast("i").tolist()
    return size, descriptors

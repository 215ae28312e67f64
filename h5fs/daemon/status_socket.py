"""The socket at which a daemon tells its status, and how to ask there.

A Unix stream socket beside the daemon's record, in a folder that only its user and root can reach.
Each client is sent one document, and the connection is closed; nothing is read from a client. The
kernel takes the document whole, since it is small, so that a client that does not read, or is gone,
holds up nobody. One thread serves one client after another; no lock is held while it sends.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from h5fs.daemon.registry import Daemon

_log = logging.getLogger(__name__)

_MOST_WAITING = 8  # clients; further ones get EAGAIN, and try again
_SEND_SECONDS = 1.0
_JOIN_SECONDS = 2.0
_PAUSE_SECONDS = 0.1
_MOST_ANSWER_BYTES = 2**22
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, of struct ucred


@contextmanager
def answering(path: Path, describe: Callable[[], bytes]) -> Iterator[None]:
    """Send what ``describe`` returns to whoever connects, as long as the block runs.

    ``describe`` is called in a thread of its own. When there can be no socket, the log says so, and
    the block runs without.
    """
    try:
        listener = _listen(path)
    except OSError as error:
        _log.warning("no status will be told at %s: %s", path, error)
        yield
        return
    ending = threading.Event()
    server = threading.Thread(
        target=_serve, args=(listener, describe, ending), name="status", daemon=True
    )
    server.start()
    try:
        yield
    finally:
        ending.set()
        with suppress(OSError):  # its folder may be gone, as after a logout
            path.unlink(missing_ok=True)
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread up
        server.join(_JOIN_SECONDS)  # bounded: `describe` may wait for a file on a dead network
        listener.close()


def ask(daemon: Daemon, seconds: float) -> bytes:
    """Return the document of a daemon.

    Raises ``FileNotFoundError`` when the daemon has no socket, ``ConnectionRefusedError`` when it
    is gone, ``TimeoutError`` when it does not answer, another ``OSError`` when this user may not
    ask it, or when another process answers than the record names.
    """
    deadline = time.monotonic() + seconds
    with ExitStack() as opened:
        asker = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        with _short_path(daemon.socket) as short:
            while True:
                asker.settimeout(_left(deadline))
                try:
                    asker.connect(short)
                    break
                except BlockingIOError:  # many others wait
                    time.sleep(min(_PAUSE_SECONDS, _left(deadline)))
        pid, uid = _peer_of(asker)
        if (pid, uid) != (daemon.pid, daemon.uid):
            raise ConnectionAbortedError(f"process {pid} of user {uid} answers in its place")
        answer = bytearray()
        while len(answer) < _MOST_ANSWER_BYTES:
            asker.settimeout(_left(deadline))
            data = asker.recv(65536)
            if not data:
                return bytes(answer)
            answer += data
    raise ConnectionAbortedError("its answer has no end")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _listen(path: Path) -> socket.socket:
    """Return a socket that listens at a path; it gets that name only once it listens."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        fresh = path.with_suffix(".sock.new")
        fresh.unlink(missing_ok=True)
        with _short_path(fresh) as short:
            listener.bind(short)
        fresh.chmod(0o600)  # until then the folder, which is this user's alone, protects it
        listener.listen(_MOST_WAITING)
        fresh.rename(path)
        opened.pop_all()
    return listener


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """Yield a short name of a path: the address of a Unix socket has 107 bytes at most."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(path.parent, flags)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _serve(listener: socket.socket, describe: Callable[[], bytes], ending: threading.Event) -> None:
    while not ending.is_set():
        try:
            client, _ = listener.accept()
        except OSError as error:
            if not ending.wait(_PAUSE_SECONDS):  # too many open files, perhaps
                _log.debug("status: %s", error)
            continue
        with client:
            try:
                if _peer_of(client)[1] in (os.getuid(), 0):
                    _send(client, describe())
            except OSError as error:
                _log.debug("status: a client is gone: %s", error)
            except Exception:
                _log.exception("status: unexpected")


def _send(client: socket.socket, document: bytes) -> None:
    """Send what the client takes within a second. Raises ``OSError``."""
    client.setblocking(False)
    client.shutdown(socket.SHUT_RD)
    deadline = time.monotonic() + _SEND_SECONDS
    room = select.poll()
    room.register(client, select.POLLOUT)
    rest = memoryview(document)
    while rest:
        try:
            rest = rest[client.send(rest) :]
        except BlockingIOError:
            room.poll(1000 * _left(deadline))


def _peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return the process id and the user id at the other end."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid

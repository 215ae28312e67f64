"""The nursery: a process that has imported the HDF5 library and forks workers when asked.

A worker that a file has killed is replaced in milliseconds, with nothing to import; and the daemon,
which has threads, never forks. The nursery opens no HDF5 file itself, so that no file can hurt it.
It ends when the daemon does, since the socket between them then closes, and its workers with it.
Format of what is said: one packet each way, see ``Nursery`` (daemon's side) and ``serve``.
"""

from __future__ import annotations

import array
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from h5fs.cores import count_cores
from h5fs.interpreter import isolated_command
from h5fs.options import StoreOptions
from h5fs.store.process.confinement import Confinement, confine, die_with_parent, prepare
from h5fs.store.process.grants import open_granted

_log = logging.getLogger(__name__)

_SPAWN, _STATUS = b"S", b"?"
_RUNNING = b"-"
_MAX_PACKET_BYTES = 4096
_MOST_DESCRIPTORS = 6  # a charge, a connection, a window, and of a logged file three
# It forks in milliseconds, but on a machine that has no time left.
_ANSWER_SECONDS = 30
_END_SECONDS = 5
_UNKNOWN_END = "killed with the process that starts workers, by SIGKILL"


class Nursery:
    """The daemon's end of a nursery. Safe to use from any thread.

    ``_lock`` protects the conversation with the process; nothing else is taken while it is held,
    and nothing waited for but an answer that comes at once: one that does not come is the process's
    end.
    """

    module = "h5fs.store.process.nursery"
    """What the process runs the ``main`` of."""

    def __init__(self, stderr: int | None = None) -> None:
        """``stderr``: a descriptor of what the processes have as theirs; None is this one's."""
        self._stderr = stderr
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the process; returns before it has imported anything."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                isolated_command(self.module, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
            )
        self._control = ours

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return self._process.pid if self._process is not None else None

    def spawn(
        self,
        options: StoreOptions,
        connection: socket.socket,
        window: int,
        files: tuple[int, ...] = (),
        grants: tuple[bytes, ...] = (),
    ) -> tuple[int, int]:
        """Fork a worker that talks through these; return its process id and a pidfd.

        ``files`` are descriptors of the mounted file and of its log, where it has one; ``grants``
        the real paths of what it may read beside them. Raises ``OSError`` when the nursery is gone.
        """
        charge = msgspec.msgpack.encode(_Charge(options, grants), enc_hook=os.fsencode)
        memory_file = os.memfd_create("h5fs-charge", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory_file, len(charge))
            os.pwrite(memory_file, charge, 0)  # the worker reads from where this stands
            given = [memory_file, connection.fileno(), window, *files]
            with self._lock:
                try:
                    return self._ask_for_worker(given)
                except OSError:  # it has been killed, or does not answer: a new one it is
                    self._end()
                    return self._ask_for_worker(given)
        finally:
            os.close(memory_file)

    def _ask_for_worker(self, given: list[int]) -> tuple[int, int]:
        if self._control is None:
            self._start()
        assert self._control is not None
        socket.send_fds(self._control, [_SPAWN], given)
        answer, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        if not answer or not descriptors:
            raise ConnectionError("the process that starts workers has ended")
        return int(answer), descriptors[0]

    def end_of(self, pid: int) -> str:
        """Return how a worker that is gone ended, in words. Waits for no end."""
        with self._lock:
            if self._control is None:
                return _UNKNOWN_END
            try:
                self._control.send(_STATUS + b"%d" % pid)
                packet = self._control.recv(64)
            except OSError:
                self._end()  # an answer that came later would be taken for the next one
                return _UNKNOWN_END
        if packet == _RUNNING:
            return "still running"
        return describe_end(int(packet)) if packet else _UNKNOWN_END

    def close(self) -> None:
        """End the process; workers that still run end with it."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                _log.warning("process %d, which starts workers, does not end", self._process.pid)
            self._process = None


class _Charge(msgspec.Struct, frozen=True):
    """What a worker is started with."""

    options: StoreOptions
    grants: tuple[bytes, ...]


def describe_end(status: int) -> str:
    """Return a wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def main() -> None:
    """Be a nursery; its only argument is the number of the socket's descriptor."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to understand
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import h5fs.store.process.worker  # noqa: F401  (what every worker would import)
    from h5fs.store.hdf5.store import register_plugins

    register_plugins()
    prepare()
    count_cores()
    serve(control, _run_worker)


def _to_path(_kind: type, path: bytes) -> Path:
    return Path(os.fsdecode(path))


def serve(control: socket.socket, run_worker: Callable[..., object]) -> None:
    """Fork a worker for each that is asked for, and be it in ``run_worker``, which ends it."""
    is_first, own_pid = True, os.getpid()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _MAX_PACKET_BYTES, _MOST_DESCRIPTORS)
        if not packet:
            os._exit(0)
        if packet.startswith(_SPAWN):
            pid = os.fork()
            if pid == 0:
                control.close()
                run_worker(descriptors, own_pid=own_pid, complains=is_first)
            is_first = False
            for descriptor in descriptors:
                os.close(descriptor)
            handle = os.pidfd_open(pid)
            control.sendmsg(
                [b"%d" % pid],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [handle]))],
            )
            os.close(handle)
        else:
            control.send(_look_at(int(packet[1:])))


def _look_at(pid: int) -> bytes:
    """Return how a child ended, if it has."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # a child of a nursery before this one, which took it along
        return b"%d" % signal.SIGKILL
    return b"%d" % status if found else _RUNNING


def _run_worker(descriptors: list[int], *, own_pid: int, complains: bool) -> None:
    """Be a worker; ``complains``: say what the system does not protect from."""
    from h5fs.store.process.segments import LARGE_VIEWS_BYTES
    from h5fs.store.process.worker import ConnectionHandler, Worker

    status = 1
    try:
        die_with_parent(own_pid)
        charge_descriptor, connection_descriptor, window, *files = descriptors
        with open(charge_descriptor, "rb") as file:
            charge = msgspec.msgpack.decode(file.read(), type=_Charge, dec_hook=_to_path)
        options = charge.options
        connection = socket.socket(fileno=connection_descriptor)
        root = logging.getLogger()
        root.handlers[:] = [ConnectionHandler(connection)]
        root.setLevel(logging.INFO)
        # Shared memory counts towards the address space.
        room = options.limits.memory_bytes + options.cache_bytes + LARGE_VIEWS_BYTES
        granted, known = open_granted(charge.grants)
        # The log, and what is remembered of the file, are never opened anew.
        missing = confine(Confinement((), room, descriptors=(*files[:1], *granted)))
        for descriptor in granted:
            os.close(descriptor)
        if missing and complains:
            _log.warning("workers go without some protections: %s", " | ".join(missing))
        Worker(options, connection, window, files, granted=known).run()
        status = 0
    except BaseException:
        _log.exception("the worker ends")
    finally:
        os._exit(status)

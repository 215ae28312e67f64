"""The nursery: a process that has imported the HDF5 library and forks workers when asked.

A worker that a file has killed is replaced in milliseconds, with nothing to import; and the daemon,
which has threads, never forks. The nursery opens no HDF5 file itself, so that no file can hurt it.
It ends when the daemon does, since the socket between them then closes, and its workers with it.
Format of what is said: one packet each way, see ``Nursery`` (daemon's side) and ``_serve``.
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
from pathlib import Path

import msgspec

from h5fs.interpreter import isolated_command
from h5fs.options import ExternalPolicy, StoreOptions
from h5fs.store.process.confinement import Confinement, confine, die_with_parent, prepare

_log = logging.getLogger(__name__)

_SPAWN, _STATUS = b"S", b"?"
_MAX_PACKET_BYTES = 65536  # options with a path; a path has 4096 bytes at most
_UNKNOWN_END = "killed with the process that starts workers, by SIGKILL"


class Nursery:
    """The daemon's end of a nursery. Safe to use from any thread.

    ``_lock`` protects the conversation with the process; nothing else is taken while it is held.
    """

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
        with theirs:
            self._process = subprocess.Popen(
                isolated_command("h5fs.store.process.nursery", str(theirs.fileno())),
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
    ) -> tuple[int, int]:
        """Fork a worker that talks through these; return its process id and a pidfd.

        ``files`` are descriptors of the mounted file and of its log, where it has one. Raises
        ``OSError`` when the nursery is gone.
        """
        packet = _SPAWN + msgspec.msgpack.encode(options, enc_hook=os.fsencode)
        with self._lock:
            try:
                return self._ask_for_worker(packet, [connection.fileno(), window, *files])
            except OSError:  # it has been killed: a new one it is
                self._end()
                return self._ask_for_worker(packet, [connection.fileno(), window, *files])

    def _ask_for_worker(self, packet: bytes, given: list[int]) -> tuple[int, int]:
        if self._control is None:
            self._start()
        assert self._control is not None
        socket.send_fds(self._control, [packet], given)
        answer, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        if not answer or not descriptors:
            raise ConnectionError("the process that starts workers has ended")
        return int(answer), descriptors[0]

    def end_of(self, pid: int) -> str:
        """Return how a worker that is gone ended, in words."""
        with self._lock:
            if self._control is None:
                return _UNKNOWN_END
            try:
                self._control.send(_STATUS + b"%d" % pid)
                packet = self._control.recv(64)
            except OSError:
                return _UNKNOWN_END
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
            self._process.wait()
            self._process = None


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
    _serve(control)


def _to_path(_kind: type, path: bytes) -> Path:
    return Path(os.fsdecode(path))


def _serve(control: socket.socket) -> None:
    is_first, own_pid = True, os.getpid()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _MAX_PACKET_BYTES, 5)
        if not packet:
            os._exit(0)
        if packet.startswith(_SPAWN):
            pid = os.fork()
            if pid == 0:
                control.close()
                options = msgspec.msgpack.decode(packet[1:], type=StoreOptions, dec_hook=_to_path)
                connection, window, *files = descriptors
                _run_worker(
                    options, connection, window, files, own_pid=own_pid, complains=is_first
                )
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
            control.send(b"%d" % _wait_for(int(packet[1:])))


def _wait_for(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:  # a child of a nursery before this one, which took it along
        return signal.SIGKILL


def _run_worker(
    options: StoreOptions,
    connection_descriptor: int,
    window: int,
    files: list[int],
    *,
    own_pid: int,
    complains: bool,
) -> None:
    """Be a worker; ``complains``: say what the system does not protect from."""
    from h5fs.store.process.segments import LARGE_VIEWS_BYTES
    from h5fs.store.process.worker import ConnectionHandler, Worker

    status = 1
    try:
        die_with_parent(own_pid)
        connection = socket.socket(fileno=connection_descriptor)
        root = logging.getLogger()
        root.handlers[:] = [ConnectionHandler(connection)]
        root.setLevel(logging.INFO)
        # Shared memory counts towards the address space.
        room = options.limits.memory_bytes + options.cache_bytes + LARGE_VIEWS_BYTES
        missing = confine(Confinement(_readable(options), room))
        if missing and complains:
            _log.warning("workers go without some protections: %s", " | ".join(missing))
        Worker(options, connection, window, files).run()
        status = 0
    except BaseException:
        _log.exception("the worker ends")
    finally:
        os._exit(status)


def _readable(options: StoreOptions) -> tuple[Path, ...] | None:
    file = Path(os.path.realpath(options.file))
    if options.external is ExternalPolicy.ALL:
        return None
    return (file,) if options.external is ExternalPolicy.NONE else (file, file.parent)

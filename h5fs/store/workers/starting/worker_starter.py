"""The daemon's end of the process that forks workers.

That process has imported everything, so that a worker that a file has killed is replaced in
milliseconds; and the daemon, which has threads, never forks. The messages between the two are in
``starter_messages`` and ``worker_setup``.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Protocol

from h5fs.store.workers.starting.starter_messages import RUNNING, SPAWN, STATUS
from h5fs.system.interpreter import isolated_command

if TYPE_CHECKING:  # a command starts workers before it imports what takes long
    from h5fs.model.settings import StoreOptions
    from h5fs.store.workers.worker_file import WorkerFile

_log = logging.getLogger(__name__)

# The starter forks in milliseconds, except on a machine that is overloaded.
_ANSWER_SECONDS = 30
_END_SECONDS = 5
_KILLS_ALLOWED = 5  # of starters, one after the other, while one worker is to be forked
_UNKNOWN_END = "killed with the process that starts workers, by SIGKILL"


class StarterProcess(Protocol):
    """The process, as ``subprocess.Popen`` has it."""

    pid: int

    def kill(self) -> None:
        """Send SIGKILL."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises ``subprocess.TimeoutExpired``."""


class WorkerStarter:
    """The daemon's end of a worker starter. Safe to use from any thread.

    ``_lock`` protects the conversation with the process; no other lock is taken while it is held.
    Under it a thread waits only for an answer that comes at once; if none comes, the process is
    ended.
    """

    module = "h5fs.store.worker_process.starter_process"
    """The module whose ``main`` the process runs; ``run`` after a fork."""

    def __init__(self, stderr: int | None = None, imports: tuple[str, ...] = ()) -> None:
        """``stderr``: the descriptor that becomes the processes' stderr; None: this process's.

        ``imports``: modules that the process imports, where they are installed, beyond its own.
        """
        self._stderr = stderr
        self._imports = imports
        self._lock = threading.Lock()
        self._process: StarterProcess | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the process; returns before it has imported anything."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_SECONDS)
        with theirs:
            self._process = self._run_process(ours, theirs)
        self._control = ours

    def _run_process(self, _ours: socket.socket, theirs: socket.socket) -> StarterProcess:
        """Start a process that runs ``main`` of the module, with one end of the conversation."""
        return subprocess.Popen(
            isolated_command(self.module, str(theirs.fileno()), *self._imports),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return self._process.pid if self._process is not None else None

    def spawn(
        self,
        options: StoreOptions,
        connection: socket.socket,
        reply_buffer: int,
        file: WorkerFile,
        grants: tuple[bytes, ...] = (),
    ) -> tuple[int, int]:
        """Fork a worker that talks through these; return its process id and a pidfd.

        ``file`` is the mounted file; ``grants`` are the real paths of what it may read beside it.
        Raises ``OSError`` when the worker starter is gone.
        """
        from h5fs.store.workers.starting.worker_setup import encode_setup

        setup = encode_setup(options, file.kind, grants)
        memory_file = os.memfd_create("h5fs-setup", os.MFD_CLOEXEC)
        try:
            os.pwrite(memory_file, setup, 0)
            given = [memory_file, connection.fileno(), reply_buffer, *file.descriptors]
            with self._lock:
                for _ in range(_KILLS_ALLOWED):
                    try:
                        return self._ask_for_worker(given)
                    except ConnectionError:  # it was killed: start another
                        self._end()
                    except OSError as error:
                        if error.errno == errno.EMFILE:
                            raise  # this process's own limit: the starter, and workers, are well
                        self._end()  # it does not answer
                        break
                return self._ask_for_worker(given)
        finally:
            os.close(memory_file)

    def _ask_for_worker(self, given: list[int]) -> tuple[int, int]:
        if self._control is None:
            self._start()
        assert self._control is not None
        socket.send_fds(self._control, [SPAWN], given)
        answer, descriptors, flags, _ = socket.recv_fds(self._control, 64, 1)
        if flags & socket.MSG_CTRUNC:
            # There is no room for the pidfd. The worker ends once its connection is closed.
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not answer or not descriptors:
            raise ConnectionError("the process that starts workers has ended")
        return int(answer), descriptors[0]

    def end_of(self, pid: int) -> str:
        """Return how a worker that is gone ended, in words. Waits for no end."""
        with self._lock:
            if self._control is None:
                return _UNKNOWN_END
            try:
                self._control.send(STATUS + b"%d" % pid)
                packet = self._control.recv(64)
            except OSError:
                self._end()  # a late answer would be taken for the answer to the next request
                return _UNKNOWN_END
        if packet == RUNNING:
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


def describe_end(status: int) -> str:
    """Return a wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"

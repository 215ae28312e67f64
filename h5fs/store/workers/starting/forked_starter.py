"""A worker starter that is forked, and need not import again what this process has imported.

For commands that end soon. A daemon has threads by then, and the memory of a mount.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import traceback
from importlib import import_module
from typing import NoReturn

from h5fs.store.workers.starting.worker_starter import StarterProcess, WorkerStarter


class ForkedStarter(WorkerStarter):
    """Must be started before this process has any thread. One that dies is started as usual."""

    _was_forked = False

    def _run_process(self, ours: socket.socket, theirs: socket.socket) -> StarterProcess:
        if self._was_forked:
            return super()._run_process(ours, theirs)
        self._was_forked = True
        pid = os.fork()
        if pid == 0:
            ours.close()  # else the end of this process would not end the starter
            _become_starter(self.module, theirs)
        return _Child(pid)


def _become_starter(module: str, control: socket.socket) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(nothing, stream)
        os.close(nothing)
        gc.enable()
        import_module(module).run(control)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # nothing of the process that it was forked from is to run here


class _Child:
    """A child of this process; nobody else waits for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        process = os.pidfd_open(self.pid)
        try:
            waiting = select.poll()
            waiting.register(process, select.POLLIN)
            if not waiting.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("worker starter", timeout or 0)
        finally:
            os.close(process)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

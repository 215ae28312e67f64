"""A handle on another process: a pidfd, which never refers to a later process of the same number.

No call waits longer than it is told to: a process that waits for a dead disk does not end, whatever
signal it is sent.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time

_log = logging.getLogger(__name__)

_CLOCK_OF_PROCESS = 2  # CPUCLOCK_SCHED, from linux/posix-timers.h


class ProcessHandle:
    """A process to watch and to end. Owns the pidfd ``descriptor``."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._clock = (~pid << 3) | _CLOCK_OF_PROCESS

    def has_ended_within(self, seconds: float) -> bool:
        """Whether the process has ended, or ends within ``seconds``."""
        # select() takes no descriptor beyond 1023, and each block of the cache has a descriptor.
        process = select.poll()
        process.register(self._descriptor, select.POLLIN)
        return bool(process.poll(seconds * 1000))

    def kill(self) -> None:
        """Send SIGKILL; waits for nothing."""
        try:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            _log.debug("process %d is gone already", self.pid)

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used; 0 once it is gone."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def is_stopped(self) -> bool:
        """Whether a signal (SIGSTOP) or a debugger has stopped the process."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                # The process's name stands before the state, and may have any bytes, even ")".
                return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
        except OSError:
            return False

    def close(self) -> None:
        """Close the handle; the process goes on."""
        os.close(self._descriptor)

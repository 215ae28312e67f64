"""The messages between the daemon and the worker starter: one packet each way.

What a packet for a worker brings along is in ``worker_setup``. Imports nothing that takes long:
commands start the worker starter before they import anything else.
"""

from __future__ import annotations

import array
import os
import signal
import socket
from collections.abc import Callable

SPAWN, STATUS = b"S", b"?"
RUNNING = b"-"
_MAX_PACKET_BYTES = 4096
_MOST_DESCRIPTORS = 6  # a setup, a connection, a reply buffer, and three of a logged file


# A command that looks into one file has two at most; one that goes through a folder many.
_FEW_WORKERS = 3


def serve(
    control: socket.socket, run_worker: Callable[..., object], before_many: Callable[[], None]
) -> None:
    """Fork a worker for each request; the child runs ``run_worker`` and ends with it.

    ``before_many`` is called once it is clear that there will be many workers.
    """
    count, own_pid = 0, os.getpid()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _MAX_PACKET_BYTES, _MOST_DESCRIPTORS)
        if not packet:
            os._exit(0)
        if packet.startswith(SPAWN):
            if count == _FEW_WORKERS:
                before_many()
            pid = os.fork()
            if pid == 0:
                control.close()
                run_worker(descriptors, own_pid=own_pid, complains=not count)
            count += 1
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
    except ChildProcessError:  # a child of an earlier worker starter, and ended with that
        return b"%d" % signal.SIGKILL
    return b"%d" % status if found else RUNNING

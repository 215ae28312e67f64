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


def serve(control: socket.socket, run_worker: Callable[..., object]) -> None:
    """Fork a worker for each request; the child runs ``run_worker`` and ends with it."""
    is_first, own_pid = True, os.getpid()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _MAX_PACKET_BYTES, _MOST_DESCRIPTORS)
        if not packet:
            os._exit(0)
        if packet.startswith(SPAWN):
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
    except ChildProcessError:  # a child of an earlier worker starter, and ended with that
        return b"%d" % signal.SIGKILL
    return b"%d" % status if found else RUNNING

"""The state of a socket, by ``poll``: nothing is read."""

from __future__ import annotations

import select
import socket


def is_readable_within(connection: socket.socket, seconds: float) -> bool:
    """Whether there is something to read now, or soon."""
    answer = select.poll()
    answer.register(connection, select.POLLIN)
    return bool(answer.poll(seconds * 1000))


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    closed = select.poll()
    closed.register(connection, select.POLLRDHUP)
    return bool(closed.poll(0))

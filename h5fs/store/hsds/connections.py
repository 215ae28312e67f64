"""Connections to a data service, whose answers' bytes go straight to where they are wanted.

urllib3 keeps connections, finds out which are dead, and does TLS; but whoever reads from one of its
answers gets new bytes, which have to be copied. Below it is an answer of ``http.client``, which
reads into memory that is there.
"""

from __future__ import annotations

import socket
from http.client import HTTPResponse
from typing import Any, Final, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError

from h5fs.store.hsds.access import Access

MOST_REQUESTS: Final = 16
"""How many requests are under way at most; more wait for one of these."""

CONNECT_SECONDS: Final = 5.0


def _make_answer(connection: _Direct, *arguments: Any, **named: Any) -> HTTPResponse:
    connection.body = HTTPResponse(*arguments, **named)
    return connection.body


class _Direct:
    """A connection that knows the answer which is being read from it; ``body`` is that."""

    body: HTTPResponse
    response_class: Any = _make_answer  # called by ``http.client``, as a method


class _ToHost(_Direct, HTTPConnection):
    pass


class _ToHostByTls(_Direct, HTTPSConnection):
    pass


class _ToSocket(_Direct, HTTPConnection):
    """A connection to a Unix socket, whose path is the pool's ``socket_path``."""

    socket_path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        try:
            self.sock.connect(self.socket_path)
        except OSError as error:
            raise NewConnectionError(self, f"{self.socket_path}: {error.strerror}") from error


def open_pool(access: Access) -> HTTPConnectionPool:
    """Return a pool of connections, none of which is open yet."""
    path = access.socket_path
    if path is None:
        parts = urlsplit(access.endpoint)
        made: HTTPConnectionPool = urllib3.connection_from_url(
            f"{parts.scheme}://{parts.netloc}", maxsize=MOST_REQUESTS, block=True
        )
        made.ConnectionCls = _ToHostByTls if parts.scheme == "https" else _ToHost
        return made
    pool = HTTPConnectionPool("localhost", maxsize=MOST_REQUESTS, block=True)
    pool.ConnectionCls = type("_ToOneSocket", (_ToSocket,), {"socket_path": path})
    return pool


def body_of(answer: urllib3.BaseHTTPResponse) -> HTTPResponse:
    """Return what is below an answer of which nothing was read yet; that has ``readinto``.

    urllib3 then knows nothing of what was read, which only matters to who goes on by ``answer``.
    """
    return cast(_Direct, answer.connection).body

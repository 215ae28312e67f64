"""Requests to a data service: each returns an answer of the form asked for, or an ``H5fsError``.

Answers are checked: their length is limited before they are read, JSON has the shape that the
caller names, and no wait is longer than ``timeout_seconds`` in all. A service that takes no
connection is asked again for some seconds; one that does not answer is not, since a program waits
in a system call. One that hangs up is asked again where that changes nothing, or nothing more:
services, and what is before them, close connections that were kept for some time. The log has one
line when the service is lost and one when it is back. Safe to use from any thread; threads share
connections.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError

from h5fs.errors import (
    CannotOpenError,
    ExistsError,
    ForbiddenError,
    GoneError,
    H5fsError,
    UnreadableError,
)
from h5fs.store.hsds.access import Access
from h5fs.store.hsds.connections import CONNECT_SECONDS, body_of, open_pool
from h5fs.store.hsds.data_nodes import DataNodes

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_Wanted = TypeVar("_Wanted")
_Got = TypeVar("_Got")

_AGAIN_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
_DEAD_SECONDS: Final = 5.0
_BUSY_SECONDS: Final = 0.3
_MOST_HANG_UPS: Final = 2
_PIECE_BYTES: Final = 1 << 20
_MOST_JSON_BYTES: Final = 1 << 28
_MOST_REASON_BYTES: Final = 400
_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"


class TooLongError(UnreadableError):
    """An answer that is longer than the caller takes."""


class RefusedRequestError(UnreadableError):
    """A request that the service takes for a wrong one, as of elements that there are not."""


class DeletedError(GoneError):
    """An object that there was, as its node knows."""


class Client:
    """One service, and who asks it.

    ``timeout_seconds``: how long a request may take in all, further tries included.
    """

    def __init__(self, access: Access, timeout_seconds: float = 30.0) -> None:
        self._access = access
        self._timeout_seconds = timeout_seconds
        self._pool = open_pool(access)
        self._prefix = urlsplit(access.endpoint).path if access.socket_path is None else ""
        self._headers = _credentials(access)
        self._lock = threading.Lock()  # protects the fields below; nothing is taken under it
        self._is_lost = False
        self._nodes = DataNodes(self.name, self._ask_shortly)
        self.request_count = 0

    @property
    def name(self) -> str:
        """The service, for messages."""
        return self._access.socket_path or self._access.endpoint

    def get(
        self,
        path: str,
        shape: type[_Answer],
        query: Mapping[str, str],
        *,
        most_bytes: int = _MOST_JSON_BYTES,
    ) -> _Answer:
        """Return the JSON of an answer. Raises ``H5fsError``s."""
        return self.ask("GET", path, shape, query, most_bytes=most_bytes)

    def ask(
        self,
        method: str,
        path: str,
        shape: type[_Answer],
        query: Mapping[str, str],
        body: object = None,
        *,
        most_bytes: int = _MOST_JSON_BYTES,
    ) -> _Answer:
        """Return the JSON of an answer to a request that has a body, or none. Raises as ``get``."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": _JSON} if data is not None else {}
        answer = bytearray()
        with _Request(self, method, path, query, data, {"Accept": _JSON, **headers}) as request:
            request.read_to(answer, most_bytes)
        return _decode(bytes(answer), shape, path)

    def read_into(self, path: str, query: Mapping[str, str], buffer: memoryview) -> None:
        """Fill a buffer with the bytes of an answer, which are neither fewer nor more."""
        with _Request(self, "GET", path, query, None, {"Accept": _BINARY}) as request:
            request.fill(buffer)

    def read(self, path: str, query: Mapping[str, str], most_bytes: int) -> bytes:
        """Return the bytes of an answer whose length only the service knows."""
        answer = bytearray()
        with _Request(self, "GET", path, query, None, {"Accept": _BINARY}) as request:
            request.read_to(answer, most_bytes)
        return bytes(answer)

    def write(
        self, path: str, query: Mapping[str, str], data: bytes | memoryview, *, once: bool = False
    ) -> None:
        """Send values, which the service has taken when this returns.

        ``once``: to be sent twice would change more, so that it is not tried again.
        """
        headers = {"Accept": _JSON, "Content-Type": _BINARY}
        with _Request(self, "PUT", path, query, data, headers, once=once) as request:
            request.read_to(bytearray(), _MOST_JSON_BYTES)

    def change(self, method: str, path: str, query: Mapping[str, str], body: object = None) -> int:
        """Send a change; return the status: 201 for something new, another when it was there."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": _JSON} if data is not None else {}
        with _Request(self, method, path, query, data, {"Accept": _JSON, **headers}) as request:
            request.read_to(bytearray(), _MOST_JSON_BYTES)
            return request.status

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _send(
        self, method: str, url: str, body: bytes | memoryview | None, headers: dict[str, str],
        deadline: float, *, once: bool, may_repeat: bool,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        """Send a request, again while there is no connection; return the answer's beginning."""
        hang_ups = 0
        for pause in (*_AGAIN_SECONDS, None):
            left = max(deadline - time.monotonic(), 0.1)
            with self._lock:
                self.request_count += 1
            try:
                answer = self._pool.urlopen(
                    method, url, cast(Any, body), {**self._headers, **headers}, retries=False,
                    redirect=False, preload_content=False, decode_content=False,
                    timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=left),
                    pool_timeout=int(left) + 1,
                )  # fmt: skip
            except (NewConnectionError, ConnectionError) as error:
                problem: object = error
            except (HTTPError, HTTPException, OSError) as error:
                hang_ups += 1
                if not may_repeat or not _is_hang_up(error) or hang_ups > _MOST_HANG_UPS:
                    raise self._lost(error, url) from None
                problem = error
            else:
                if answer.status == 500:
                    self._nodes.look(url)
                if answer.status != 503:
                    self._found()
                    return answer
                problem = f"it says that it is not ready (503 {answer.reason})"
                answer.close()  # unread, it would be taken for the next answer
                answer.release_conn()
            is_sent = not isinstance(problem, NewConnectionError)
            if pause is None or (once and is_sent) or time.monotonic() + pause > deadline:
                break
            time.sleep(pause * random.uniform(0.5, 1.0))
        raise self._lost(problem, url)

    def _ask_shortly(self, path: str, seconds: float) -> bytes | None:
        """Return the body of an answer; None when there is none in time, or only a failure."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                answer = self._pool.urlopen(
                    "GET", self._prefix + path, None, self._headers, retries=False,
                    redirect=False, timeout=left, pool_timeout=int(left) + 1,
                )  # fmt: skip
            except (HTTPError, HTTPException, OSError):
                return None
            if answer.status != 503:  # a service that is busy says nothing of its nodes
                return answer.data if answer.status < 500 else None
            time.sleep(min(_BUSY_SECONDS, left))
        return None

    def _lost(self, problem: object, url: str) -> UnreadableError:
        """Return the error of a request that was not answered; log it when it is the first."""
        is_known = self._nodes.note_lost(url)  # the log has named the dead node
        waited = isinstance(problem, ReadTimeoutError | TimeoutError)
        text = (
            f"it did not answer in time; is a data node dead? (see {self.name}/about)"
            if waited
            else str(problem)[-_MOST_REASON_BYTES:]
        )
        with self._lock:
            was_lost = self._is_lost or is_known
            self._is_lost |= not is_known
        if not was_lost:
            _log.error("%s: the data service is lost: %s; reads fail until it is back", self.name,
                       text)  # fmt: skip
        lost = UnreadableError(f"{self.name}: {text}")
        lost.is_news = not was_lost
        return lost

    def _found(self) -> None:
        with self._lock:
            was_lost, self._is_lost = self._is_lost, False
        if was_lost:
            _log.warning("%s: the data service is back", self.name)

    def _refusal(self, status: int, reason: str, path: str) -> H5fsError:
        """Return the error that a status other than success stands for."""
        text = f"{self.name}{path.partition('?')[0]}: {status} {reason}"
        if status in (401, 403):
            return ForbiddenError(
                f"{text}: {self._access.who} may not; see HS_USERNAME, HS_PASSWORD, ~/.hscfg"
            )
        if status in (404, 410):
            return (DeletedError if status == 410 else GoneError)(text)
        if status == 409:
            return ExistsError(text)
        if status == 400:
            return RefusedRequestError(text)
        if status >= 500:
            return UnreadableError(f"{text}; is a data node dead? (see {self.name}/about)")
        return UnreadableError(text)


class _Request:
    """One request from its sending to the end of its answer, with one deadline for all."""

    def __init__(
        self,
        client: Client,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | memoryview | None,
        headers: dict[str, str],
        *,
        once: bool = False,
    ) -> None:
        self._client = client
        self._deadline = time.monotonic() + client._timeout_seconds
        self._path = path
        self._url = url = f"{client._prefix}{path}?{urlencode(query)}"
        client._nodes.check(url)
        if client._nodes.are_dead:  # for its answer a living node may need a dead one
            self._deadline = time.monotonic() + min(client._timeout_seconds, _DEAD_SECONDS)
        self._answer = client._send(
            method, url, body, headers, self._deadline, once=once,
            may_repeat=_may_repeat(method, path) and not once,
        )  # fmt: skip
        self.status = self._answer.status
        self._is_whole = False

    def __enter__(self) -> _Request:
        if not 200 <= self._answer.status < 300:
            reason = bytearray()
            try:
                self.read_to(reason, _MOST_REASON_BYTES)
            except H5fsError:
                self._answer.close()
            text = reason.decode("utf-8", "replace").partition(": ")[2] or self._answer.reason or ""
            self._answer.release_conn()
            raise self._client._refusal(self._answer.status, text, self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_whole:
            self._answer.close()  # what is left of the answer must not be taken for the next one
        self._answer.release_conn()

    def read_to(self, answer: bytearray, most_bytes: int) -> None:
        """Append the whole answer. Raises ``TooLongError``."""
        while piece := self._try(self._answer.read, _PIECE_BYTES):
            answer += piece
            if len(answer) > most_bytes:
                raise TooLongError(f"{self._path}: an answer of more than {most_bytes} bytes")
        self._is_whole = True

    def fill(self, buffer: memoryview) -> None:
        """Fill a buffer with the whole answer, of which nothing was read yet."""
        body = body_of(self._answer)
        filled = 0
        while filled < len(buffer):
            count = self._try(body.readinto, buffer[filled : filled + _PIECE_BYTES])
            if not count:
                text = f"{filled} of {len(buffer)} bytes came back"
                if self._answer.headers.get("Content-Length") != str(filled):  # it broke off
                    raise self._client._lost(text, self._url)
                raise UnreadableError(f"{self._path}: {text}")
            filled += count
        if self._try(body.read, 1):
            raise UnreadableError(f"{self._path}: more than {len(buffer)} bytes came back")
        self._is_whole = True

    def _try(self, read: Callable[[_Wanted], _Got], wanted: _Wanted) -> _Got:
        """Return what a call that reads from the answer returns, if that is in time."""
        if time.monotonic() > self._deadline:
            raise self._client._lost(TimeoutError(), self._url)
        try:
            return read(wanted)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise self._client._lost(error, self._url) from None


def _may_repeat(method: str, path: str) -> bool:
    """Whether a request that is made twice changes no more than once."""
    is_question = method == "GET" or (method == "POST" and path.endswith("/links"))
    return is_question or path.endswith("/value")


def _is_hang_up(error: Exception) -> bool:
    """Whether a connection was closed without an answer."""
    return isinstance(error, ProtocolError) and isinstance(error.args[-1], ConnectionError)


def _credentials(access: Access) -> dict[str, str]:
    if access.api_key:
        return {"Authorization": f"Bearer {access.api_key}"}
    if not access.username:
        return {}
    try:
        # As the service's own tools send it: in UTF-8.
        return urllib3.make_headers(
            basic_auth=f"{access.username}:{access.password}".encode().decode("latin-1")
        )
    except UnicodeError:
        raise CannotOpenError("a user name or password that cannot be sent") from None


def _decode(data: bytes, shape: type[_Answer], path: str) -> _Answer:
    """Return JSON as values of the types that ``shape`` names."""
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise UnreadableError(f"{path}: not the answer that was asked for: {error}") from None
    except (msgspec.DecodeError, RecursionError):
        pass
    try:  # the service writes NaN and Infinity, which JSON does not have
        return msgspec.convert(json.loads(data), shape)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path}: an answer that is no JSON: {error!s:.200}") from None

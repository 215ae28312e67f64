"""One remote object, by requests: ``obstore`` speaks HTTP, S3, GCS and Azure.

Nothing is tried again here, and nothing is kept. A request that fails raises ``RequestError``. Its
text is this module's own: the library's texts have whole addresses in them, signatures too.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from h5fs.store.sources.redirects import NOWHERE_IN_ERRORS, RedirectError, follow

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_FOLLOWED_FOR_SECONDS = 1.0  # what a URL leads to is not looked up more often
USUAL_PIECE_BYTES = 256 * 1024


class FailureKind(Enum):
    """What a failed request means for the next one."""

    AGAIN = "the same request may succeed later"
    LIE = "the answer cannot be true: seldom, an overloaded proxy cuts answers short"
    REPLACED = "the object is another version now"
    GONE = "there is no such object any more"
    DENIED = "these credentials may not read it"
    ELSEWHERE = "the server sends its readers to another host"
    REFUSED = "the server will not answer this, now or later"


class RequestError(Exception):
    """A request failed; ``reason`` is for people, and has no secret in it."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What tells one version of an object from another.

    ``etag`` empty and ``modified`` None: the server does not say.
    """

    size_bytes: int
    etag: str
    modified: datetime | None

    @property
    def is_certain(self) -> bool:
        """Whether no other version has these values, as one of equal size and second might have."""
        return bool(self.etag)

    def is_same(self, other: ObjectVersion) -> bool:
        """Whether an answer can be of this version."""
        if self.etag or other.etag:
            return self.etag == other.etag and self.size_bytes == other.size_bytes
        return self == other


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of an answer, and where they belong."""

    version: ObjectVersion
    offset: int
    data: bytes


class Transport:
    """Asks for ranges of one object. Call it on one event loop.

    ``silence_seconds``: how long a connection may bring no byte. A web server may send its readers
    elsewhere: ``url`` is what was asked for, ``reopen`` opens what that leads to, and
    ``is_redirected`` says that it is to be followed before the first request.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        silence_seconds: float,
        *,
        reopen: Callable[[str], ObjectStore] | None = None,
        url: str = "",
        is_redirected: bool = False,
    ) -> None:
        self._store = store
        self._key = key
        self._silence_seconds = silence_seconds
        self._reopen = reopen
        self._url = url
        self._is_to_follow = is_redirected
        self._is_elsewhere = False
        self._followed = -_FOLLOWED_FOR_SECONDS

    async def read(
        self,
        start: int,
        stop: int,
        version: ObjectVersion | None,
        *,
        piece_bytes: int = USUAL_PIECE_BYTES,
        most_silence_seconds: float = math.inf,
    ) -> AsyncGenerator[Piece, None]:
        """Yield the bytes of a half-open range as they come, in pieces of that size at least.

        ``version``: the only one that the bytes may be of. They end where the object ends.
        ``most_silence_seconds``: how long the connection may bring no byte, if that is less than
        usual. Raises ``RequestError``.
        """
        silence_seconds = max(min(self._silence_seconds, most_silence_seconds), 0.1)
        if self._is_to_follow:
            await self._follow()
        pieces = self._read(start, stop, version, piece_bytes, silence_seconds)
        at = start
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
                    at = piece.offset + len(piece.data)
        except RequestError as error:
            # A URL that a server redirects to is often signed for a short time.
            is_stale = self._is_elsewhere and error.kind in (FailureKind.DENIED, FailureKind.GONE)
            is_led = error.kind is FailureKind.ELSEWHERE or is_stale
            age = time.monotonic() - self._followed
            if self._reopen is None or not is_led or age < _FOLLOWED_FOR_SECONDS:
                raise
            await self._follow()
        else:
            return
        pieces = self._read(at, stop, version, piece_bytes, silence_seconds)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _follow(self) -> None:
        """Find out where the URL leads, and read there from now on. Raises ``RequestError``."""
        assert self._reopen is not None
        loop = asyncio.get_running_loop()
        found: asyncio.Future[str | RedirectError] = loop.create_future()

        def tell(answer: str | RedirectError) -> None:
            if not found.done():
                found.set_result(answer)

        def ask() -> None:
            try:
                answer: str | RedirectError = follow(self._url, self._silence_seconds)
            except RedirectError as error:
                answer = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(tell, answer)

        # A thread that nobody waits for, in case that the name service hangs.
        threading.Thread(target=ask, name="h5fs-follow", daemon=True).start()
        answer = await found
        if isinstance(answer, RedirectError):
            raise RequestError(FailureKind.REFUSED, str(answer))
        self._store = self._reopen(answer)
        self._is_to_follow = False
        self._is_elsewhere = answer != self._url
        self._followed = time.monotonic()

    async def _read(
        self,
        start: int,
        stop: int,
        version: ObjectVersion | None,
        piece_bytes: int,
        silence_seconds: float,
    ) -> AsyncGenerator[Piece, None]:
        """Yield the bytes as ``read`` does, from where the object is thought to be."""
        import obstore

        options: dict[str, Any] = {"range": (start, stop)}
        if version is not None and version.etag and not version.etag.startswith("W/"):
            options["if_match"] = version.etag
        elif version is not None and version.modified is not None:
            options["if_unmodified_since"] = version.modified
        try:
            answer = await asyncio.wait_for(
                obstore.get_async(self._store, self._key, options=options),  # type: ignore[arg-type]
                silence_seconds,
            )
            found = version_of(answer.meta)
            first, end = answer.range
            if version is not None and not version.is_same(found):
                raise RequestError(FailureKind.REPLACED, "the server has another version")
            if first != start or end != min(stop, found.size_bytes):
                raise RequestError(FailureKind.LIE, "the answer is another range of bytes")
            at = start
            pieces = aiter(answer.stream(min_chunk_size=piece_bytes))
            while True:
                try:
                    data = await asyncio.wait_for(anext(pieces), silence_seconds)
                except StopAsyncIteration:
                    break
                if at + len(data) > end:
                    raise RequestError(FailureKind.LIE, "the answer is longer than it says")
                yield Piece(found, at, data)
                at += len(data)
            if at != end:
                raise RequestError(FailureKind.AGAIN, "the answer was cut short")
        except RequestError:
            raise
        except asyncio.TimeoutError:
            raise RequestError(FailureKind.AGAIN, _SILENT) from None
        except Exception as error:
            raise explain(error) from None


_SILENT = "the server does not answer"


def version_of(meta: Any) -> ObjectVersion:
    """Return the version that an answer or a listing tells of."""
    modified = meta["last_modified"]
    is_known = modified is not None and modified.timestamp() > 0
    return ObjectVersion(meta["size"], meta["e_tag"] or "", modified if is_known else None)


_BY_STATUS = {
    401: FailureKind.DENIED, 403: FailureKind.DENIED, 407: FailureKind.DENIED,
    404: FailureKind.GONE, 410: FailureKind.GONE,
    412: FailureKind.REPLACED,
    416: FailureKind.REPLACED,  # it has become shorter
    408: FailureKind.AGAIN, 425: FailureKind.AGAIN, 429: FailureKind.AGAIN,
}  # fmt: skip
_BY_TEXT = (
    ("BadScheme", FailureKind.REFUSED, "the server sends its readers to what is no web server"),
    ("without LOCATION", FailureKind.REFUSED, "the bucket is in another region: use -o region="),
    ("UnexpectedRange", FailureKind.LIE, "the answer is another range of bytes"),
    ("ContentRange", FailureKind.LIE, "the answer's range of bytes makes no sense"),
    ("Header", FailureKind.LIE, "the answer's head makes no sense"),
    ("Credential", FailureKind.DENIED, "there are no credentials, or they are not valid"),
    ("InvalidCertificate", FailureKind.REFUSED, "the server's certificate is not trusted"),
    ("invalid peer certificate", FailureKind.REFUSED, "the server's certificate is not trusted"),
    ("URL scheme is not allowed", FailureKind.REFUSED, "http:// is not allowed here"),
    ("TimedOut", FailureKind.AGAIN, _SILENT),
    ("kind: Timeout", FailureKind.AGAIN, _SILENT),
    ("dns error", FailureKind.AGAIN, "the server's name is not known"),
    ("ConnectionRefused", FailureKind.AGAIN, "nobody answers at the server's port"),
    ("Connect", FailureKind.AGAIN, "no connection to the server"),
    ("IncompleteBody", FailureKind.AGAIN, "the connection broke off"),
    ("ConnectionReset", FailureKind.AGAIN, "the connection broke off"),
    ("IncompleteMessage", FailureKind.AGAIN, "the connection broke off"),
)


def explain(error: Exception) -> RequestError:
    """Return what an error of the library's means, in words that have no secret in them."""
    text = str(error)
    if NOWHERE_IN_ERRORS in text:
        return RequestError(
            FailureKind.ELSEWHERE, "the server sends its readers to another host, again and again"
        )
    if "/latest/api/token" in text or "/latest/meta-data" in text:
        return RequestError(FailureKind.DENIED, "there are no credentials")
    status = re.search(r"status(?: code)?: (\d{3})( [A-Z][A-Za-z ]{0,40})?", text)
    if status is not None:
        code = int(status[1])
        kind = _BY_STATUS.get(code, FailureKind.AGAIN if code >= 500 else FailureKind.REFUSED)
        return RequestError(kind, f"the server says {code}{(status[2] or '').rstrip()}")
    name = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return RequestError(FailureKind.GONE, "the server knows no such object")
    if name == "PreconditionError":
        return RequestError(FailureKind.REPLACED, "the server has another version")
    if name in ("PermissionDeniedError", "UnauthenticatedError"):
        return RequestError(FailureKind.DENIED, "the server refuses access")
    if name == "NotSupportedError":
        return RequestError(FailureKind.REFUSED, NO_RANGES)
    if name == "InvalidPathError" or text.startswith("Could not parse path"):
        return RequestError(FailureKind.REFUSED, BAD_NAME)
    for part, kind, reason in _BY_TEXT:
        if part in text:
            return RequestError(kind, reason)
    return RequestError(FailureKind.AGAIN, "the request failed")


BAD_NAME = "a name in it has a control character, or a part that is empty, . or .. (a//b, a/../b)"
NO_RANGES = "the server sends whole files only, and no ranges of bytes: copy the file here first"

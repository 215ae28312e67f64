"""The first bytes of a remote object: what is asked for before its version is known."""

from __future__ import annotations

import threading

from h5fs.errors import H5fsError
from h5fs.store.sources.fetcher import Counts, Fetcher, RangeToFetch
from h5fs.store.sources.transport import (
    FailureKind,
    ObjectVersion,
    Piece,
    RequestError,
    Transport,
)

_MOST_TRIES = 5  # the bytes were of two versions, since a broken connection came between them
_MOST_SECONDS = 15.0
"""A person waits, or the next look comes soon: no longer than this for a server that is away."""


class ObjectHead:
    """The first bytes of an object, of whatever version the server has."""

    def __init__(self, transport: Transport, counts: Counts, *, size_bytes: int) -> None:
        self._transport = transport
        self._counts = counts
        self._size_bytes = size_bytes
        self._ended = threading.Event()
        self._error: RequestError | H5fsError | OSError | None = None
        self.pieces: list[Piece] = []

    def read(self, fetcher: Fetcher, most_seconds: float) -> ObjectVersion:
        """Return the version that the bytes are of. Raises ``RequestError``, ``H5fsError``."""
        for _ in range(_MOST_TRIES):
            self.pieces.clear()
            self._ended.clear()
            part = RangeToFetch(
                self._transport, 0, self._size_bytes, None, self._counts,
                min(most_seconds, _MOST_SECONDS), self._take, self._end,
            )  # fmt: skip
            fetcher.submit(part)
            self._ended.wait()
            if self._error is not None:
                raise self._error
            versions = [piece.version for piece in self.pieces]
            if versions and all(each.is_same(versions[0]) for each in versions):
                return versions[0]
        raise RequestError(FailureKind.REFUSED, "the file changes all the time")

    def _take(self, _: RangeToFetch, piece: Piece) -> None:
        self.pieces.append(piece)

    def _end(self, _: RangeToFetch, error: RequestError | H5fsError | OSError | None) -> None:
        self._error = error
        self._ended.set()

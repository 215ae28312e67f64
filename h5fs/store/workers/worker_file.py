"""The mounted file as a worker gets it: descriptors, and what stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import Struct

FetchRanges = Callable[[Sequence[tuple[int, int]], int], None]
"""Fetches half-open ranges of bytes, in pieces of at least so many bytes."""


class FileKind(Enum):
    """Which descriptors there are.

    PLAIN: the file's. LOGGED: the file's, its log's, and that of the record of the main file
    (`log.main_witness`). FETCHED: of a file that comes bit by bit the sparse file and its map
    (`sources.cached_bytes`).
    """

    PLAIN = "plain"
    LOGGED = "logged"
    FETCHED = "fetched"


class WorkerFile(Struct, frozen=True):
    """The mounted file as a worker gets it.

    ``fetch`` fetches what a worker lacks; None for a file that is on this machine as a whole.
    """

    kind: FileKind
    descriptors: tuple[int, ...]
    fetch: FetchRanges | None = None

"""What is asked of whoever keeps the raw bytes of an HDF5 file."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol


class Source(Protocol):
    """The bytes of one file. Any thread may read at any time.

    Remote bytes are fetched when they are read. Whoever knows beforehand what will be read says so
    with ``ensure`` or ``fetch_ahead``: then it all comes at once, and not piece by piece. What
    cannot be fetched raises an ``H5fsError``: ``StaleError`` where the file has changed since it
    was opened, ``DeniedError``, ``UnreachableError``, ``NoSpaceError``.

    ``ranges`` are half-open, of offsets in bytes.
    """

    @property
    def size_bytes(self) -> int:
        """How long the file is now. Raises ``OSError``."""

    @property
    def version(self) -> Hashable:
        """A value that differs once the bytes have changed. Raises ``OSError``."""

    def ensure(self, ranges: Iterable[tuple[int, int]], *, unit_bytes: int = 1) -> None:
        """Return when all bytes in ``ranges`` are here. Raises as ``read_into`` does.

        ``unit_bytes``: what is missing is fetched in pieces of so many bytes at least. Metadata
        lie close together, so that large pieces save requests; single values want small ones.
        """

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch what is missing in ``ranges``; wait for nothing, raise nothing.

        What is read in the meantime goes first.
        """

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` with bytes of the file from ``offset`` on.

        Returns: how many bytes these are; fewer than the buffer has only where the file ends.
        Raises ``OSError``, ``H5fsError``.
        """


class WholeSource:
    """What a ``Source`` does whose bytes are all here: there is nothing to fetch."""

    def ensure(self, ranges: Iterable[tuple[int, int]], *, unit_bytes: int = 1) -> None:
        """Return at once."""

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing."""


def read_bytes(source: Source, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes from ``offset`` on, less where the file ends.

    Raises ``OSError``, ``H5fsError``.
    """
    buffer = bytearray(size)
    return bytes(buffer[: source.read_into(memoryview(buffer), offset)])

"""What is asked of whoever keeps the raw bytes of an HDF5 file."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol


class Source(Protocol):
    """The bytes of one file. Any thread may read at any time."""

    @property
    def size_bytes(self) -> int:
        """How long the file is now. Raises ``OSError``."""

    @property
    def version(self) -> Hashable:
        """A value that is another one once the bytes have changed. Raises ``OSError``."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer with bytes of the file from ``offset`` on.

        Returns: how many they were, less than asked for only where the file ends. Raises
        ``OSError``.
        """


def read_bytes(source: Source, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes from ``offset`` on, less where the file ends. Raises ``OSError``.
    """
    buffer = bytearray(size)
    return bytes(buffer[: source.read_into(memoryview(buffer), offset)])

"""Sources of bytes that are no files."""

from __future__ import annotations

from collections.abc import Hashable


class BytesSource:
    """A ``Source`` of bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size_bytes(self) -> int:
        return len(self._content)

    @property
    def version(self) -> Hashable:
        return self._content

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = self._content[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

"""Sources of bytes that are no files."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


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

    def ensure(self, ranges: Iterable[tuple[int, int]], *, unit_bytes: int = 1) -> None:
        pass

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        pass

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = self._content[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

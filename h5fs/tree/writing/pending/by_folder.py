"""A mapping from paths that also knows which of them are in a folder. Not thread-safe."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

Value = TypeVar("Value")


class ByFolder(MutableMapping[bytes, Value]):
    """Values by absolute path; what is in one folder is found without a look at all the others."""

    def __init__(self) -> None:
        self._values: dict[bytes, Value] = {}
        self._folders: dict[bytes, dict[bytes, None]] = {}

    def __getitem__(self, path: bytes) -> Value:
        return self._values[path]

    def __setitem__(self, path: bytes, value: Value) -> None:
        self._values[path] = value
        self._folders.setdefault(_folder_of(path), {})[path] = None

    def __delitem__(self, path: bytes) -> None:
        del self._values[path]
        folder = _folder_of(path)
        paths = self._folders[folder]
        del paths[path]
        if not paths:
            del self._folders[folder]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, path: object) -> bool:
        return path in self._values

    def get(self, path: bytes, _default: None = None) -> Value | None:  # type: ignore[override]
        """Return a value, None where there is none: asked at each call of the kernel's."""
        return self._values.get(path)

    def snapshot(self) -> list[Value]:
        """Return all values; from any thread, without a lock."""
        return list(self._values.values())

    def in_folder(self, path: bytes) -> list[tuple[bytes, Value]]:
        """Return the names in one folder, and their values."""
        paths = self._folders.get(path.rstrip(b"/"), ())
        return [(each.rpartition(b"/")[2], self._values[each]) for each in paths]

    def at_or_below(self, path: bytes) -> list[tuple[bytes, Value]]:
        """Return the paths that are this one or below it, and their values."""
        below = path + b"/"
        every = self._values.items()
        return [(each, value) for each, value in every if each == path or each.startswith(below)]


def _folder_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]

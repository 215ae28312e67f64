"""A mapping from paths that also knows which of them are in a folder. Not thread-safe."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


class ByFolder(dict[bytes, Value]):
    """Values by absolute path; what is in one folder is found without a look at all the others.

    A dict, since it is asked for some paths at each call of the kernel's. It changes by ``[]``,
    ``del`` and ``pop`` alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folders: dict[bytes, dict[bytes, None]] = {}

    def __setitem__(self, path: bytes, value: Value) -> None:
        super().__setitem__(path, value)
        self._folders.setdefault(_folder_of(path), {})[path] = None

    def __delitem__(self, path: bytes) -> None:
        super().__delitem__(path)
        folder = _folder_of(path)
        paths = self._folders[folder]
        del paths[path]
        if not paths:
            del self._folders[folder]

    def pop(self, path: bytes, _default: None = None) -> Value | None:  # type: ignore[override]
        """Remove a path, and return its value; None where there is none."""
        value = self.get(path)
        if value is not None:
            del self[path]
        return value

    def snapshot(self) -> list[Value]:
        """Return all values; from any thread, without a lock."""
        return list(self.values())

    def in_folder(self, path: bytes) -> list[tuple[bytes, Value]]:
        """Return the names in one folder, and their values."""
        paths = self._folders.get(path.rstrip(b"/"), ())
        return [(each.rpartition(b"/")[2], self[each]) for each in paths]

    def at_or_below(self, path: bytes) -> list[tuple[bytes, Value]]:
        """Return the paths that are this one or below it, and their values."""
        below = path + b"/"
        every = self.items()
        return [(each, value) for each, value in every if each == path or each.startswith(below)]


def _folder_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]

"""Open files, by the number that the kernel hands back."""

from __future__ import annotations

import itertools
import threading

from h5fs.errors import BadHandleError
from h5fs.tree.content import Content


class Handles:
    """The open files. Safe to use from any thread.

    ``_lock`` protects ``_open``; nothing else is taken while it is held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Content] = {}
        self._numbers = itertools.count(1)

    def add(self, content: Content) -> int:
        """Return a new handle."""
        with self._lock:
            handle = next(self._numbers)
            self._open[handle] = content
            return handle

    def get(self, handle: int) -> Content:
        """Return an open file's content. Raises ``BadHandleError``."""
        with self._lock:
            try:
                return self._open[handle]
            except KeyError:
                raise BadHandleError(f"file handle {handle} is not open") from None

    def count(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def remove(self, handle: int) -> None:
        """Forget a handle. Raises ``BadHandleError``."""
        with self._lock:
            if self._open.pop(handle, None) is None:
                raise BadHandleError(f"file handle {handle} is not open")

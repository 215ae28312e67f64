"""Open files, by the number that the kernel hands back."""

from __future__ import annotations

import itertools
import threading
from typing import Generic, TypeVar

from h5fs.errors import BadHandleError

File = TypeVar("File")


class Handles(Generic[File]):
    """The open files. Safe to use from any thread.

    ``_lock`` protects ``_open``, but for a look at one, which is one step for the interpreter;
    nothing else is taken while it is held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, File] = {}
        self._numbers = itertools.count(1)

    def add(self, file: File) -> int:
        """Return a new handle."""
        with self._lock:
            handle = next(self._numbers)
            self._open[handle] = file
            return handle

    def get(self, handle: int) -> File:
        """Return an open file. Raises ``BadHandleError``."""
        try:
            return self._open[handle]
        except KeyError:
            raise BadHandleError(f"file handle {handle} is not open") from None

    def files(self) -> list[File]:
        """Return all of them."""
        with self._lock:
            return list(self._open.values())

    def count(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def remove(self, handle: int) -> File:
        """Forget a handle; return what it stood for. Raises ``BadHandleError``."""
        with self._lock:
            try:
                return self._open.pop(handle)
            except KeyError:
                raise BadHandleError(f"file handle {handle} is not open") from None

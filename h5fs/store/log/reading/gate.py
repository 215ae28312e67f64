"""A gate between those who read a log and its main file, and a checkpoint, which rewrites both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """``with gate:`` is for a reader, of whom there may be many; ``closed`` keeps all out.

    Nobody may enter twice: the second time would wait for a checkpoint that waits for the first.
    ``_lock``, which is held for moments only, protects the rest, and ``_changed`` is its condition.
    One at a time may close.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closing = threading.Lock()
        self._is_closed = False
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            while self._is_closed:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._is_closed and not self._inside:
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Wait until all readers have left, and let none in during the block."""
        with self._closing:
            with self._changed:
                self._is_closed = True  # new readers wait, so that the last one is waited for
                while self._inside:
                    self._changed.wait()
            try:
                yield
            finally:
                with self._changed:
                    self._is_closed = False
                    self._changed.notify_all()

"""Which thread receives: the one that takes the kernel's next request, in a mount that writes.

Threads that answer at the same time all want Python's lock: each gives it up and takes it again
some ten times in a request, and who finds it taken sleeps and has to be woken. With eight programs
that saved small arrays they slept 50 times for each array, and computed twice as much as for one
program; and one program alone, whose requests went to two threads in turn, was answered a fourth
later. So one thread receives. It does so from one request to the next, and lets another one do it
when it begins to wait for a worker while a request is there; then it waits until it may receive
again. Data are read and copied without Python's lock: while programs read, or write large arrays,
all threads receive.
"""

from __future__ import annotations

import threading


class Receiver:
    """Who receives: ``thread``, by its number. Safe to use from any thread.

    ``_changed`` has the lock that protects all members; it is held for moments only. While the role
    ``is_shared``, every thread receives. Only a thread itself makes itself the one that receives,
    or gives that up, but for ``share``: so it may look without the lock.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self.thread: int | None = None
        self._waiting_count = 0
        self.is_shared = False

    def is_this_thread(self) -> bool:
        """Whether the calling thread receives."""
        return self.thread == threading.get_ident() or self.is_shared

    def is_awaited(self) -> bool:
        """Whether a thread waits to receive."""
        return self._waiting_count > 0

    def take(self, timeout_seconds: float | None = None) -> bool:
        """Wait until no other thread receives; return True when from then on this one does.

        False when ``timeout_seconds`` are over; None is no limit.
        """
        with self._changed:
            self._waiting_count += 1
            try:
                is_free = self._changed.wait_for(self._is_free, timeout_seconds)
            finally:
                self._waiting_count -= 1
            if is_free and not self.is_shared:
                self.thread = threading.get_ident()
            return is_free

    def give(self) -> None:
        """Let another thread receive. Does nothing when the calling one does not."""
        with self._changed:
            if self.thread == threading.get_ident():
                self.thread = None
                self._changed.notify()

    def share(self) -> None:
        """Let all threads receive, until ``is_shared`` is taken back."""
        with self._changed:
            self.is_shared = True
            self.thread = None
            self._changed.notify_all()

    def _is_free(self) -> bool:
        return self.thread is None or self.is_shared

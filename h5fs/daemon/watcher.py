"""The thread that looks whether the mounted file has changed, and makes the kernel forget it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

_SECONDS = 0.4


class Watched(Protocol):
    """A tree over files that other programs may change.

    The tree calls ``on_change`` when it has found a change, before it answers from the new content.
    """

    on_change: Callable[[], None]

    def check(self) -> int:
        """Look for a change; return a number that differs after each change."""
        ...

    def forget(self) -> None:
        """Assume that everything has changed."""
        ...

    def take_names(self) -> set[bytes]:
        """Return the names in the root that the kernel has asked for since the last call."""
        ...


class Notifying(Protocol):
    """Tells the kernel about changes."""

    def expire(self) -> bool:
        """Do as ``forget`` does, without waiting; return False if the kernel cannot."""
        ...

    def forget(self, root_names: Iterable[bytes]) -> None:
        """Let the kernel ask for everything anew."""
        ...


class Watcher:
    """Looks at a tree as long as it runs."""

    def __init__(self, tree: Watched) -> None:
        self._tree = tree
        self._wakes = threading.Event()
        self._is_asked = False
        self._ends = False
        self._thread: threading.Thread | None = None

    def start(self, notifier: Notifying) -> None:
        """Begin to watch, in a thread of its own."""

        def on_change() -> None:
            notifier.expire()
            self._wakes.set()

        self._tree.on_change = on_change
        self._thread = threading.Thread(
            target=self._watch, args=(notifier,), name="h5fs-watch", daemon=True
        )
        self._thread.start()

    def renew(self) -> None:
        """Assume at once that everything has changed. A signal handler may call this."""
        self._is_asked = True
        self._wakes.set()

    def stop(self) -> None:
        """End, and return when the thread has."""
        self._ends = True
        self._wakes.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, notifier: Notifying) -> None:
        seen, tells_again = self._tree.check(), False
        while True:
            self._wakes.wait(_SECONDS)
            self._wakes.clear()
            if self._ends:
                return
            if self._is_asked:
                self._is_asked = False
                self._tree.forget()
            changes = self._tree.check()
            # The kernel is told twice, since an old answer may have been on its way the first time.
            if changes != seen or tells_again:
                notifier.forget(self._tree.take_names())
            seen, tells_again = changes, changes != seen

"""A limit to the nodes that libfuse keeps, each for a file that the kernel remembers.

The kernel remembers every file that a program has looked at until the machine's memory is short,
and libfuse keeps a node for each: 157 bytes, and 16 to 32 in its tables. So the daemon grows with
what programs have looked at, as long as nobody asks the kernel to forget.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)

_ROOT = 1
# So many answers lie between two looks at the memory; their nodes take 16 MB.
_LOOK_EVERY = 100_000
# The nodes of so many answers stay, since programs list a folder before they look at its files.
_NEWEST_KEPT = 250_000
# What is left when the kernel has forgotten is not due to nodes: so much more must be there again.
_WORTH_BYTES = 32 * 2**20
_NODES_AT_ONCE = 4096


class NodeLimit:
    """Asks the kernel to forget files that nobody uses, while the process holds too much.

    ``prune``: asks it to forget some nodes, and returns False where it cannot. ``most_bytes``: what
    the process may hold, and ``memory_bytes`` what it holds. libfuse numbers nodes as it makes
    them: after n answers that named a file there is none above n + 1. The numbers may be lower,
    since many answers name a file again; a number without a node does no harm.
    Safe to use from any thread: ``_looking`` is held while a thread looks, ``_ending`` while the
    kernel is asked.
    """

    def __init__(
        self,
        prune: Callable[[range], bool],
        most_bytes: int,
        memory_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._prune = prune
        self._most_bytes = most_bytes
        self._memory_bytes = memory_bytes or own_memory_bytes
        self._named = 0
        self._next_look = _LOOK_EVERY
        self._rest_bytes = 0
        self._has_asked = False
        self._looking = threading.Lock()
        self._ending = threading.Lock()
        self._has_ended = False

    def note(self, count: int) -> None:
        """Take note of answers that named so many files."""
        self._named += count  # threads may lose some of each other's: the newest stay anyway
        if self._named >= self._next_look and self._looking.acquire(blocking=False):
            self._next_look = self._named + _LOOK_EVERY
            # The kernel may wait for pages of a file that it forgets, which a thread that answers
            # it must not wait for.
            thread = threading.Thread(target=self._look, name="h5fs-node-limit", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more
                self._looking.release()

    def end(self) -> None:
        """Ask for nothing any more: the mount ends. Waits a moment for what is being asked."""
        self._has_ended = True
        if self._ending.acquire(timeout=1):
            self._ending.release()

    def _look(self) -> None:
        try:
            held = self._memory_bytes()
            if self._has_asked:
                self._has_asked, self._rest_bytes = False, held
            elif self._named > _NEWEST_KEPT and held > self._too_much():
                self._has_asked = True
                _log.debug("%d bytes held: the kernel is asked to forget unused files", held)
                self._ask()
        finally:
            self._looking.release()

    def _too_much(self) -> int:
        return max(self._most_bytes, self._rest_bytes + _WORTH_BYTES)

    def _ask(self) -> None:
        """Let the kernel forget all but the newest, those of files before those of their folders,
        which are in use as long as it remembers a file in them."""
        for newest in range(self._named + _ROOT - _NEWEST_KEPT, _ROOT, -_NODES_AT_ONCE):
            nodes = range(newest, max(newest - _NODES_AT_ONCE, _ROOT), -1)
            with self._ending:
                if self._has_ended or not self._prune(nodes):
                    return


def own_memory_bytes() -> int:
    """Return what this process holds: memory of its own, and shared memory that it has touched."""
    status = Path("/proc/self/status").read_text()
    return 1024 * sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", status, re.M)))

"""Changes that no durable commit covers yet, counted. Not thread-safe: under the caller's lock."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Changes:
    """Some changes: how many, of how many bytes of data, and when the first came (monotonic)."""

    count: int = 0
    size_bytes: int = 0
    since: float | None = None

    def add(self, other: Changes) -> None:
        """Take others in."""
        self.count += other.count
        self.size_bytes += other.size_bytes
        times = [since for since in (self.since, other.since) if since is not None]
        self.since = min(times, default=None)


class Uncommitted:
    """Changes that wait for a commit, and those whose commit is on its way."""

    def __init__(self) -> None:
        self._waiting = Changes()
        self._on_their_way: list[Changes] = []

    def note(self, size_bytes: int) -> None:
        """Count a change that is made now."""
        waiting = self._waiting
        waiting.count += 1
        waiting.size_bytes += size_bytes
        if waiting.since is None:
            waiting.since = time.monotonic()

    def begin(self) -> Changes:
        """Begin a commit of all waiting changes; call ``end`` or ``fail`` with the result."""
        taken, self._waiting = self._waiting, Changes()
        self._on_their_way.append(taken)
        return taken

    def end(self, taken: Changes) -> None:
        """Forget changes that are committed now."""
        self._on_their_way = [each for each in self._on_their_way if each is not taken]

    def fail(self, taken: Changes) -> None:
        """Let changes wait again, since their commit failed."""
        self.end(taken)
        self._waiting.add(taken)

    def total(self) -> Changes:
        """Return all together."""
        total = Changes()
        for each in (self._waiting, *self._on_their_way):
            total.add(each)
        return total

"""A disk in memory for the log's tests: it keeps every write, and can lose power at any of them."""

from __future__ import annotations

import errno
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

SECTOR = 512
NAMES = ("main", "log")


@dataclass(frozen=True)
class Call:
    """One call that changes a file: what is written where, the size set, or an fsync."""

    file: str
    kind: str
    offset: int = 0
    data: bytes = b""

    def apply(self, content: bytearray) -> None:
        """Do to ``content`` what the call does to the page cache."""
        if self.kind == "write":
            _lay(content, self.offset, self.data)
        elif self.kind == "truncate":
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))


def _lay(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


@dataclass(frozen=True)
class CommitMark:
    """A commit in a history: between which calls it was under way (``stop`` None: it never
    returned), and the whole file that it commits."""

    start: int
    stop: int | None
    is_durable: bool
    image: bytes


@dataclass
class History:
    """What was on the disk at first, and what was done since then."""

    base: dict[str, bytes]
    image: bytes
    calls: list[Call] = field(default_factory=list)
    commits: list[CommitMark] = field(default_factory=list)

    def until(self, count: int) -> History:
        """Return the history up to a call: what a process that was killed there leaves."""
        commits = [
            replace(mark, stop=mark.stop if mark.stop is not None and mark.stop <= count else None)
            for mark in self.commits
            if mark.start < count or (mark.stop is not None and mark.stop <= count)
        ]
        return History(self.base, self.image, self.calls[:count], commits)

    def cached(self) -> dict[str, bytes]:
        """Return the files as the kernel shows them."""
        files = {name: bytearray(self.base[name]) for name in NAMES}
        for call in self.calls:
            call.apply(files[call.file])
        return {name: bytes(files[name]) for name in NAMES}

    def after_power_cut(self, rng: random.Random) -> dict[str, bytes]:
        """Return files that the disk may have: any part of what no fsync has waited for."""
        files = {name: bytearray(self.base[name]) for name in NAMES}
        synced = {name: 0 for name in NAMES}
        for i, call in enumerate(self.calls):
            if call.kind == "fsync":
                synced[call.file] = i
        way = rng.choice(["subset", "subset", "torn", "torn", "prefix", "one file", "all but one"])
        chance = rng.choice([0.1, 0.5, 0.9])
        stop = rng.randrange(len(self.calls) + 1)
        whole = rng.choice(NAMES)
        loose = [i for i, call in enumerate(self.calls) if i > synced[call.file]]
        missing = rng.choice(loose) if loose else -1
        for i, call in enumerate(self.calls):
            content = files[call.file]
            if i <= synced[call.file]:
                call.apply(content)
            elif way == "torn" and call.kind == "write":
                _apply_torn(call, content, rng, chance)
            elif way == "prefix":
                if i < stop:
                    call.apply(content)
            elif way == "one file":
                if call.file == whole:
                    call.apply(content)
            elif way == "all but one":
                if i != missing:
                    call.apply(content)
            elif rng.random() < chance:
                call.apply(content)
        return {name: bytes(files[name]) for name in NAMES}

    def allowed_after_power_cut(self) -> list[bytes]:
        """Return the images that a file may have then: durable commits, the last or unreturned."""
        allowed = [self.image]
        for mark in self.commits:
            if mark.is_durable:
                allowed = [mark.image] if mark.stop is not None else [*allowed, mark.image]
        return allowed

    def allowed_after_kill(self) -> list[bytes]:
        """Return the images that a file may have when only the process died."""
        allowed = [self.image]
        for mark in self.commits:
            allowed = [mark.image] if mark.stop is not None else [*allowed, mark.image]
        return allowed


def _apply_torn(call: Call, content: bytearray, rng: random.Random, chance: float) -> None:
    at = 0
    while at < len(call.data):
        size = SECTOR - (call.offset + at) % SECTOR
        if rng.random() < chance:
            _lay(content, call.offset + at, call.data[at : at + size])
        at += size


Fault = Callable[[str, str, int], int]
"""Given a file, a kind of call and how many bytes: 0, or an errno to fail with, or minus how many
bytes a write shall write."""


class SimulatedFile:
    """The system calls of one file of a history; what they do is appended to it.

    ``skipped``: (file, functions, other functions): an fsync of that file, called from within all
    of the first and none of the others, is left out.
    """

    def __init__(
        self,
        history: History,
        name: str,
        fault: Fault | None = None,
        skipped: tuple[str, set[str], set[str]] | None = None,
    ) -> None:
        self._history = history
        self._name = name
        self._fault = fault
        self._skipped = skipped
        self.content = bytearray(history.cached()[name])

    def _check(self, kind: str, size: int = 0) -> int:
        told = self._fault(self._name, kind, size) if self._fault else 0
        if told > 0:
            raise OSError(told, f"{errno.errorcode[told]} in {kind} of {self._name}")
        return -told

    def _do(self, call: Call) -> None:
        call.apply(self.content)
        self._history.calls.append(call)

    def pread(self, size: int, offset: int) -> bytes:
        self._check("pread", size)
        return bytes(self.content[offset : offset + size])

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        self._check("pread", len(buffer))
        part = self.content[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        size = self._check("pwrite", len(data)) or len(data)
        self._do(Call(self._name, "write", offset, bytes(data[:size])))
        return size

    def ftruncate(self, size: int) -> None:
        self._check("ftruncate")
        self._do(Call(self._name, "truncate", size))

    def fsync(self) -> None:
        self._check("fsync")
        if self._skipped and self._skipped[0] == self._name:
            frame, callers = sys._getframe(1), set()
            while frame.f_back:
                callers.add(frame.f_code.co_name)
                frame = frame.f_back
            if self._skipped[1] <= callers and not self._skipped[2] & callers:
                return
        self._do(Call(self._name, "fsync"))

    def size(self) -> int:
        self._check("size")
        return len(self.content)

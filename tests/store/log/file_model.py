"""A logged file beside an array of bytes that says what it ought to hold, on a simulated disk."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from simulated_disk import CommitMark, History, SimulatedFile

from h5fs.store.log import changing_file
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.recovery import describe_log, recover

PAGE = 512
END = 40 * PAGE

Skipped = tuple[str, set[str], set[str]]
Step = tuple[Any, ...]
Filled = tuple[int, int, int, int]
"""After how many calls, the first byte, the one after the last, and what was written to each."""


@contextmanager
def small_limits() -> Iterator[None]:
    """Have writes be large, and pages be many, soon."""
    kept = changing_file.LARGE_WRITE_BYTES, changing_file.MAX_CHANGED_BYTES
    changing_file.LARGE_WRITE_BYTES, changing_file.MAX_CHANGED_BYTES = 4 * PAGE, 5 * PAGE
    try:
        yield
    finally:
        changing_file.LARGE_WRITE_BYTES, changing_file.MAX_CHANGED_BYTES = kept


class Session:
    """The file under test, what it ought to hold, and the disk below it."""

    def __init__(self, first: bytes, skipped: Skipped | None = None) -> None:
        self.skipped = skipped
        self.history = History({"main": first, "log": b""}, first)
        self.filled: list[Filled] = []
        self.blank = (0, PAGE)  # what was left blank last
        self.boot = 0
        self.start([first])

    def start(self, allowed: list[bytes], loose: Sequence[Filled] = ()) -> None:
        """Open what the disk has; it must be one of ``allowed``, with any of what is ``loose``."""
        self.disk = {
            name: SimulatedFile(self.history, name, skipped=self.skipped)
            for name in ("main", "log")
        }
        before = len(self.history.calls)
        boot = b"boot %d" % self.boot
        self.file = LoggedFile(self.disk["main"], self.disk["log"], boot_id=boot, page_bytes=PAGE)
        self.file.open()
        assert len(self.history.calls) == before
        image = self.file.read_at(0, self.file.length)
        assert any(agree(image, each, loose) for each in allowed)
        self.model = bytearray(image)
        assert describe_log(self.disk["main"], self.disk["log"], boot).length == len(image)

    def loose(self) -> list[Filled]:
        """Return what was written directly to blank pages since the last durable commit: after a
        cut or a kill any part of that may be there."""
        commits = [mark.stop for mark in self.history.commits if mark.is_durable]
        since = max((stop for stop in commits if stop is not None), default=0)
        return [each for each in self.filled if since <= each[0] < len(self.history.calls)]

    def leave_blank(self, gap: int, size: int, durable: bool) -> None:
        """Let the file grow by zeros that have their place, as those of a large new array."""
        start = -(-(len(self.model) + gap) // PAGE) * PAGE
        stop = start + size // PAGE * PAGE
        self.truncate(stop + 7)
        if start < stop and self.file.allows_direct_write(start, stop):
            self.disk["main"].pwrite(bytes(stop - start), start)
            self.file.note_direct_write()
            self.commit(durable)
            self.file.blank.note(start // PAGE, stop // PAGE)
            self.blank = start, stop

    def fill_blank(self, offset: int, data: bytes) -> None:
        """Write one byte again and again, as a program does by a map, in what was left blank."""
        start, stop = self.blank
        offset = start + (offset // PAGE % ((stop - start) // PAGE)) * PAGE + offset % 3
        data = data[: stop - offset]
        first, stop = -(-offset // PAGE), (offset + len(data)) // PAGE
        is_large = len(data) >= changing_file.LARGE_WRITE_BYTES and first < stop
        if is_large and self.file.blank.have(first, stop):
            for image in self.history.allowed_after_power_cut():
                assert not any(image[first * PAGE : stop * PAGE]), "these bytes are promised"
            self.filled.append((len(self.history.calls), first * PAGE, stop * PAGE, data[0]))
        self.file.fills_blanks = True
        self.write(offset, data)
        self.file.fills_blanks = False

    def write(self, offset: int, data: bytes) -> None:
        self.file.seek(offset)
        assert self.file.write(data) == len(data)
        self.model.extend(bytes(max(0, offset + len(data) - len(self.model))))
        self.model[offset : offset + len(data)] = data

    def rewrite(self, offset: int, size: int, at: int, data: bytes) -> None:
        """Write what is there, but for a little, as the library does with the names of a group."""
        there = self.model[offset : offset + size]
        if there:
            at %= len(there)
            there[at : at + len(data)] = data
            self.write(offset, bytes(there))

    def write_directly(self, offset: int, data: bytes) -> None:
        """As another process would, where that is allowed."""
        if self.file.allows_direct_write(offset, offset + len(data)):
            self.disk["main"].pwrite(data, offset)
            self.file.note_direct_write()
            self.model[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        self.file.truncate(size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def commit(self, durable: bool) -> None:
        start, image = len(self.history.calls), bytes(self.model)
        self.file.commit(durable=durable)
        self.mark(start, durable, image)

    def checkpoint(self) -> None:
        start, image = len(self.history.calls), bytes(self.model)
        self.file.checkpoint()
        self.mark(start, True, image)
        assert self.disk["main"].content == image
        assert not self.disk["log"].content

    def mark(self, start: int, durable: bool, image: bytes) -> None:
        self.history.commits.append(CommitMark(start, len(self.history.calls), durable, image))
        assert not self.file.has_changes

    def kill(self, back: int) -> None:
        """End the process, a few calls ago."""
        self.history = self.history.until(max(0, len(self.history.calls) - back))
        self.filled = [each for each in self.filled if each[0] < len(self.history.calls)]
        self.start(self.history.allowed_after_kill(), self.loose())

    def cut_power(self, back: int, seed: int) -> None:
        """End everything, a few calls ago, and see that recovery agrees with opening."""
        self.history = self.history.until(max(0, len(self.history.calls) - back))
        allowed = self.history.allowed_after_power_cut()
        rng = random.Random(seed)
        files = self.history.after_power_cut(rng)
        self.boot += 1
        loose = self.loose()
        self.history, self.filled = History(files, b""), []
        self.start(allowed, loose)
        self.history.image = bytes(self.model)
        if rng.random() < 0.5:
            recover(self.disk["main"], self.disk["log"], b"boot %d" % self.boot)
            assert self.disk["main"].content == self.model
            self.start([bytes(self.model)])


def agree(image: bytes, allowed: bytes, loose: Sequence[Filled]) -> bool:
    """Whether a file may be ``image`` where a commit was ``allowed``."""
    if len(image) != len(allowed):
        return False
    found = bytearray(image)
    for _, start, stop, value in loose:
        for at in range(start, min(stop, len(found))):
            if found[at] == value:
                found[at] = allowed[at]
    return found == allowed


def fill(size: int, value: int) -> bytes:
    return bytes([value]) * size


def play(session: Session, step: Step) -> None:
    """Do one step, and see that the file is what it ought to be."""
    match step:
        case ("write", offset, size, value):
            session.write(offset, fill(size, value))
        case ("rewrite", offset, size, at, value):
            session.rewrite(offset, size, at, fill(1, value))
        case ("append", size, value):
            session.write(len(session.model), fill(size, value))
        case ("blank", gap, size, durable):
            session.leave_blank(gap, size, durable)
        case ("fill", offset, size, value):
            session.fill_blank(offset, fill(size, value))
        case ("direct", offset, size, value):
            session.write_directly(offset, fill(size, value))
        case ("truncate", size):
            session.truncate(size)
        case ("commit", durable):
            session.commit(durable)
        case ("checkpoint",):
            session.checkpoint()
        case ("reopen",):
            session.kill(0)
        case ("kill", back):
            session.kill(back)
        case ("power cut", back, seed):
            session.cut_power(back, seed)
    assert session.file.failure is None
    assert session.file.length == len(session.model)
    assert session.file.read_at(0, 10**7) == session.model


def random_step(rng: random.Random) -> Step:
    """Return something to do."""
    offset = rng.choice([rng.randrange(END), rng.randrange(40) * PAGE])
    size = rng.choice([rng.randrange(1, 2 * PAGE), rng.randrange(1, 17) * PAGE])
    kinds = "write write write rewrite append direct truncate commit commit commit checkpoint kill"
    kinds += " power blank fill fill fill"
    match rng.choice(kinds.split()):
        case "write":
            return "write", offset, size, rng.randrange(250)
        case "rewrite":
            return "rewrite", offset, size, rng.randrange(END), rng.randrange(250)
        case "append":
            return "append", size, rng.randrange(250)
        case "blank":
            return "blank", rng.choice([0, PAGE]), 20 * PAGE, rng.random() < 0.5
        case "fill":
            return "fill", offset, rng.choice([2, 6, 10]) * PAGE, rng.randrange(1, 250)
        case "direct":
            return "direct", offset, size, rng.randrange(1, 250)
        case "truncate":
            return "truncate", offset
        case "commit":
            return "commit", rng.random() < 0.5
        case "checkpoint":
            return ("checkpoint",)
        case "kill":
            return "kill", rng.choice([0, rng.randrange(7)])
    return "power cut", rng.randrange(13), rng.randrange(10**6)


def find_loss(sessions: int, seed: int, skipped: Skipped | None = None) -> str | None:
    """Run random sessions; say what went wrong in the first one where something did."""
    with small_limits():
        for number in range(seed, seed + sessions):
            rng = random.Random(number)
            try:
                session = Session(fill(rng.randrange(3 * PAGE), 9), skipped)
                for _ in range(rng.randrange(60)):
                    play(session, random_step(rng))
            except Exception as error:
                return f"session {number}: {error!r}"
    return None

"""A logged file against an array of bytes, whatever is done to it and wherever it is cut off."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_disk import CommitMark, History, SimulatedFile

from h5fs.store.log import LoggedFile, describe_log, recover

PAGE = 512
LIMITS = {"LARGE_WRITE_BYTES": 4 * PAGE, "MAX_CHANGED_BYTES": 12 * PAGE}
END = 40 * PAGE

offsets = st.one_of(st.integers(0, END), st.integers(0, 40).map(lambda page: page * PAGE))
sizes = st.one_of(st.integers(1, 2 * PAGE), st.integers(1, 16).map(lambda pages: pages * PAGE))
steps = st.one_of(
    st.tuples(st.just("write"), offsets, sizes, st.integers(0, 3)),
    st.tuples(st.just("write"), offsets, sizes, st.integers(0, 3)),
    st.tuples(st.just("append"), sizes, st.integers(0, 3)),
    st.tuples(st.just("direct"), offsets, sizes, st.integers(1, 3)),
    st.tuples(st.just("truncate"), offsets),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("kill"), st.integers(0, 6)),
    st.tuples(st.just("power cut"), st.integers(0, 12), st.integers(0, 1000)),
)


class Session:
    """The file under test, what it ought to hold, and the disk below it."""

    def __init__(self, first: bytes) -> None:
        self.history = History({"main": first, "log": b""}, first)
        self.boot = 0
        self.start([first])

    def start(self, allowed: list[bytes]) -> None:
        """Open what the disk has; it must be one of ``allowed``."""
        self.disk = {name: SimulatedFile(self.history, name) for name in ("main", "log")}
        before = len(self.history.calls)
        boot = b"boot %d" % self.boot
        self.file = LoggedFile(self.disk["main"], self.disk["log"], boot_id=boot, page_bytes=PAGE)
        self.file.open()
        assert len(self.history.calls) == before
        image = self.file.read_at(0, self.file.length)
        assert image in allowed
        self.model = bytearray(image)
        assert describe_log(self.disk["main"], self.disk["log"], boot).length == len(image)

    def write(self, offset: int, data: bytes) -> None:
        self.file.seek(offset)
        assert self.file.write(data) == len(data)
        self.model.extend(bytes(max(0, offset + len(data) - len(self.model))))
        self.model[offset : offset + len(data)] = data

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
        self.start(self.history.allowed_after_kill())

    def cut_power(self, back: int, seed: int) -> None:
        """End everything, a few calls ago, and see that recovery agrees with opening."""
        self.history = self.history.until(max(0, len(self.history.calls) - back))
        allowed = self.history.allowed_after_power_cut()
        rng = random.Random(seed)
        files = self.history.after_power_cut(rng)
        self.boot += 1
        self.history = History(files, b"")
        self.start(allowed)
        self.history.image = bytes(self.model)
        if rng.random() < 0.5:
            recover(self.disk["main"], self.disk["log"], b"boot %d" % self.boot)
            assert self.disk["main"].content == self.model
            self.start([bytes(self.model)])


def fill(size: int, value: int) -> bytes:
    return bytes([value]) * size


def play(session: Session, step: tuple) -> None:
    match step:
        case ("write", offset, size, value):
            session.write(offset, fill(size, value))
        case ("append", size, value):
            session.write(len(session.model), fill(size, value))
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


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 3 * PAGE).map(lambda size: fill(size, 9)), st.lists(steps, max_size=30))
def test_a_file_is_what_was_written_and_after_a_cut_what_was_committed(
    first: bytes, history: list[tuple]
) -> None:
    from h5fs.store.log import changing_file

    kept = {name: getattr(changing_file, name) for name in LIMITS}
    try:
        for name, value in LIMITS.items():
            setattr(changing_file, name, value)
        session = Session(first)
        for step in history:
            play(session, step)
    finally:
        for name, value in kept.items():
            setattr(changing_file, name, value)

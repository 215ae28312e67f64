"""A file as of a commit, read beside the one who writes it; the gate; what changed since when."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from file_model import END, PAGE, Step, fill, small_limits
from hypothesis import given, settings
from hypothesis import strategies as st
from support.waiting import PATIENCE_SECONDS

from h5fs.model.objects import ObjectRef
from h5fs.store.log.file_and_log import FileAndLog, make_record
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.reading.committed_state import CommittedState
from h5fs.store.log.reading.gate import Gate
from h5fs.store.log.reading.snapshot_file import SnapshotFile
from h5fs.store.log.system_calls import RealFile
from h5fs.store.sources.interface import read_bytes

offsets = st.one_of(st.integers(0, END), st.integers(0, 40).map(lambda page: page * PAGE))
sizes = st.one_of(st.integers(1, 2 * PAGE), st.integers(1, 16).map(lambda pages: pages * PAGE))
steps = st.one_of(
    st.tuples(st.just("write"), offsets, sizes, st.integers(1, 250)),
    st.tuples(st.just("write"), offsets, sizes, st.integers(1, 250)),
    st.tuples(st.just("truncate"), offsets),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("told"), st.booleans()),
    st.tuples(st.just("checkpoint")),
)


class Beside:
    """One who writes, and one who reads beside, with what each ought to see."""

    def __init__(self, folder: Path, first: bytes) -> None:
        (folder / "main").write_bytes(first)
        (folder / "log").write_bytes(b"")
        self.main, self.log = (folder / name for name in ("main", "log"))
        self.opened = [path.open("r+b") for path in (self.main, self.log)]
        calls = [RealFile(each.fileno()) for each in self.opened]
        self.file = LoggedFile(*calls, boot_id=b"boot", page_bytes=PAGE)
        self.file.open()
        self.reader = SnapshotFile(*calls)
        self.reader.open_beside_writer()
        self.image = self.seen = first
        self.told, self.is_behind = True, False

    def play(self, step: Step) -> None:
        if step[0] == "write":
            self.file.seek(step[1])
            self.file.write(fill(step[2], step[3]))
        elif step[0] == "truncate":
            self.file.truncate(step[1])
        elif step[0] == "commit":
            self.file.commit(durable=step[1])
            self.image = self.file.read_at(0, self.file.length)
            self.is_behind = True
            if self.told:
                self.catch_up()
        elif step[0] == "told":
            self.told = step[1]
        else:
            self.file.checkpoint()
            self.reader.forget()
            self.seen = self.image = self.file.read_at(0, self.file.length)
            self.is_behind = False

    def catch_up(self) -> None:
        self.reader.advance(self.file.log_bytes)
        self.seen, self.is_behind = self.image, False

    def close(self) -> None:
        for each in self.opened:
            each.close()


@settings(max_examples=300, deadline=None)
@given(first=st.integers(0, 3 * PAGE), history=st.lists(steps, max_size=30))
def test_a_reader_sees_the_last_commit_that_it_was_told_of_and_nothing_newer(
    tmp_path_factory: pytest.TempPathFactory, first: int, history: list[Step]
) -> None:
    with small_limits():
        beside = Beside(tmp_path_factory.mktemp("beside"), fill(first, 9))
        try:
            for step in history:
                beside.play(step)
                # Of an older commit, bytes behind the end of a newer one may be overwritten: so
                # whoever reads catches up first, and asks afterwards whether its object changed.
                if not beside.is_behind:
                    assert read_bytes(beside.reader, 0, END * 2) == beside.seen
            beside.catch_up()
            assert read_bytes(beside.reader, 0, END * 2) == beside.image
            fresh = SnapshotFile(*(RealFile(each.fileno()) for each in beside.opened))
            fresh.open_beside_writer()
            assert read_bytes(fresh, 0, END * 2) == beside.image
        finally:
            beside.close()


def test_pages_of_the_log_that_a_shorter_file_lost_do_not_come_back(tmp_path: Path) -> None:
    with small_limits():
        beside = Beside(tmp_path, fill(12 * PAGE, 3))
        history: list[Step] = [
            ("write", 8 * PAGE, 4 * PAGE, 5), ("commit", True), ("truncate", 2 * PAGE),
            ("commit", True), ("write", 2 * PAGE, 10 * PAGE, 7), ("commit", True),
        ]  # fmt: skip
        for step in history:
            beside.play(step)
            assert read_bytes(beside.reader, 0, END) == beside.image
        assert beside.image[8 * PAGE :] == fill(10 * PAGE, 7)[6 * PAGE :]
        beside.close()


def test_a_log_that_is_not_what_commits_leave_is_an_error(tmp_path: Path) -> None:
    beside = Beside(tmp_path, fill(1000, 3))
    beside.play(("write", 0, 10, 7))
    beside.told = False
    beside.play(("commit", False))
    stop = beside.file.log_bytes
    with beside.log.open("r+b") as log:
        log.seek(48 + PAGE)
        log.write(b"what?")
    with pytest.raises(OSError, match="no frame"):
        beside.reader.advance(stop)
    assert read_bytes(beside.reader, 0, END) == fill(1000, 3)
    beside.close()


def test_the_gate_waits_for_those_inside_and_lets_none_in_meanwhile() -> None:
    gate, order = Gate(), list[str]()
    entered, leave = threading.Event(), threading.Event()

    def read() -> None:
        with gate:
            entered.set()
            assert leave.wait(PATIENCE_SECONDS)
            order.append("read")

    def read_late() -> None:
        with gate:
            order.append("late")

    first = threading.Thread(target=read)
    first.start()
    assert entered.wait(PATIENCE_SECONDS)

    def checkpoint() -> None:
        with gate.closed():
            order.append("checkpoint")
            late.start()
            late.join(0.2)
            order.append("its end")

    late, closing = threading.Thread(target=read_late), threading.Thread(target=checkpoint)
    closing.start()
    closing.join(0.1)
    leave.set()
    for thread in (first, closing, late):
        thread.join(PATIENCE_SECONDS)
    assert order == ["read", "checkpoint", "its end", "late"]


def refs(*ids: int) -> list[ObjectRef]:
    return [ObjectRef(0, each, b"/x") for each in ids]


@pytest.fixture
def state(tmp_path: Path) -> CommittedState:
    beside = Beside(tmp_path, fill(1000, 3))
    main, log = (each.fileno() for each in beside.opened)
    files = FileAndLog(main, log, make_record(), beside.main, beside.log, True)
    made = CommittedState(files)
    made.beside = beside  # type: ignore[attr-defined]  # which keeps the files open
    assert not made.is_known
    made.find()
    assert made.is_known
    return made


def test_a_change_gives_its_objects_another_version_and_leaves_the_others(
    state: CommittedState,
) -> None:
    one, other = refs(8, 16)
    before = [state.version_of(each) for each in (one, other)]
    state.note((8,), 100)
    assert state.version_of(one) != before[0] and state.version_of(other) == before[1]
    assert state.last_commit() == (0, 100)
    state.note((), 200)
    assert state.last_commit() == (0, 200)
    state.note(None, 300)
    assert state.version_of(other) != before[1] and state.last_commit() == (0, 300)


def test_after_a_checkpoint_the_versions_are_the_same_and_readers_begin_with_the_new_log(
    state: CommittedState,
) -> None:
    (one,) = refs(8)
    state.note((8,), 100)
    version = state.version_of(one)
    with state.checkpoint():
        state.note((), 0)
    assert state.version_of(one) == version and state.last_commit() == (1, 0)
    state.note((16,), 50)
    assert state.last_commit() == (1, 50)


def test_commits_that_are_gone_end_reading_beside_the_library(state: CommittedState) -> None:
    state.note((8,), 100)
    state.find()  # the log is empty
    assert not state.is_known
    with state.checkpoint():
        pass  # which could not be made
    state.find()
    assert not state.is_known

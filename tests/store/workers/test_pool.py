"""What becomes of a request when its worker dies, hangs or lies: with workers made to do so."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.errors import CannotOpenError, ForbiddenError, NotFoundError, UnreadableError
from h5fs.model.objects import ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import Limits, StoreOptions
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.store.workers import messages, packet_reader
from h5fs.store.workers.connection import WorkerConnection
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.quarantine import Quarantine, Subject
from h5fs.store.workers.shared_buffers import make_memory_file, make_shared_buffer
from h5fs.store.workers.starting.worker_starter import WorkerStarter, describe_end
from h5fs.store.workers.worker_file import FileKind, WorkerFile

pytestmark = pytest.mark.usefixtures("hangs_at_any_load")

DEADLINE = 5.0  # a stand-in takes more than a second to start on a busy machine

WORKER = """
import os, signal, socket, sys, time
from h5fs.errors import NotFoundError
from h5fs.model.objects import ObjectInfo, ObjectKind, ObjectRef
from h5fs.store.workers import messages, packet_reader

connection, behaviour = socket.socket(fileno=int(sys.argv[1])), sys.argv[3]
def die(number): os.kill(os.getpid(), number); time.sleep(60)
def compute():
    end = time.monotonic() + 60
    while time.monotonic() < end: pass
def once(name):
    try: os.close(os.open(os.path.join(sys.argv[4], name), os.O_CREAT | os.O_EXCL)); return True
    except FileExistsError: return False
if behaviour == "crash before" and not once("started"): sys.exit(1)
if behaviour == "never starts": sys.exit(1)
number = 0
def send(kind, body=b""):
    connection.send(bytes([kind]) + number.to_bytes(messages.NUMBER_BYTES, "little") + body)
connection.send(bytes([messages.READY]))
if behaviour == "crash on open": die(signal.SIGSEGV)
if behaviour == "crash on second open" and not once("opened"): die(signal.SIGSEGV)
if behaviour == "hang on open": compute()
if behaviour == "wait on open": time.sleep(60)
send(messages.RESULT)
answer = messages.encode(ObjectInfo(ObjectRef(0, 96, b"/"), ObjectKind.GROUP))
while True:
    packet = connection.recv(100000)
    if not packet: sys.exit(0)
    request = messages.decode_request(packet)
    (what,) = messages.METHODS[request.method].decode_arguments(request.arguments)
    if what == 1: die(signal.SIGSEGV)
    number = request.number
    if what == 2: compute()
    if what == 3 and once("crashed"): die(signal.SIGABRT)
    if what == 4 and any(once(f"killed {n}") for n in range(6)): die(signal.SIGKILL)
    if what == 5:
        for _ in range(20): time.sleep(0.3); connection.send(bytes([messages.PROGRESS]))
    if what == 6: send(messages.RESULT, b"\\xc1 nonsense"); continue
    if what == 7: connection.send(b"?"); continue
    if what == 8:
        failure = messages.encode_failure(NotFoundError("no"))
        send(messages.FAILURE, failure)
        continue
    if what == 9:
        size = (2**62).to_bytes(8, "little")
        send(messages.RESULT_IN_BUFFER, size)
        continue
    if what == 10: time.sleep(1)
    if what == 31:
        once("begun")
        while not os.path.exists(os.path.join(sys.argv[4], "may end")):
            time.sleep(0.1); connection.send(bytes([messages.PROGRESS]))
    if what == 11: connection.close(); time.sleep(60)
    if what == 12: connection.send(b""); time.sleep(60)
    if what == 13: time.sleep(60)
    if what == 14 and once("stopped"): os.kill(os.getpid(), signal.SIGSTOP)
    if what == 15 and once("waited"): time.sleep(60)
    if what == 16: connection.send(bytes([messages.LOG]) + b"\\x92\\x14\\xa2\\xff\\xfe"); continue
    if what == 17: connection.send(bytes([messages.LOG])); continue
    if what == 18: connection.send(bytes([messages.FILE]) + b"\\xc1"); continue
    if what == 19: send(messages.FAILURE, b"\\x92\\xa1\\xff\\xa1\\xfe"); continue
    if what == 20: send(messages.FAILURE); continue
    if what == 21: send(messages.RESULT, answer); send(messages.RESULT, answer); continue
    if what == 22: connection.send(bytes([messages.RESULT]) + b"x" * 190_000); continue
    if what == 23: number -= 1
    if what == 24: send(messages.DATA, b"data"); continue
    if what == 25: send(messages.NEEDS, messages.encode((b"/etc/passwd",))); continue
    if what == 26: send(messages.NEEDS, messages.encode((b"no path",))); continue
    if what == 27: send(messages.RESULT); continue
    if what == 28: connection.send(bytes([messages.READY])); continue
    if what == 29: connection.send(bytes([messages.RESULT])); continue
    if what == 30:
        lie = ObjectInfo(ObjectRef(0, 96, b"/"), ObjectKind.GROUP, hard_link_count=-1)
        send(messages.RESULT, messages.encode(lie)); continue
    send(messages.RESULT, answer)
"""


class StandInStarter(WorkerStarter):
    """Starts the program above instead of a worker."""

    def __init__(self, behaviour: str, folder: Path) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.folder = folder
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(
        self,
        options: StoreOptions,
        connection: socket.socket,
        reply_buffer: int,
        file: WorkerFile,
        grants: tuple[bytes, ...] = (),
    ) -> tuple[int, int]:
        numbers = [connection.fileno(), reply_buffer]
        child = subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, numbers), self.behaviour, str(self.folder)],
            pass_fds=numbers,
        )
        self.children[child.pid] = child
        return child.pid, os.pidfd_open(child.pid)

    def end_of(self, pid: int) -> str:
        code = self.children[pid].wait()
        return describe_end(-code if code < 0 else code << 8)


@contextmanager
def pool_of(
    folder: Path, *, count: int = 1, behaviour: str = "", file: object = "same"
) -> Iterator[tuple[WorkerPool, StandInStarter]]:
    options = StoreOptions(folder / "f.h5", limits=Limits(deadline_seconds=DEADLINE))
    starter = StandInStarter(behaviour, folder)
    identify = (lambda: file) if not callable(file) else file
    pool = WorkerPool(options, count, Quarantine(identify), starter)
    try:
        pool.open()
        yield pool, starter
    finally:
        pool.close()
        for child in starter.children.values():
            child.kill()
            child.wait()


def ask(pool: WorkerPool, what: int, name: bytes = b"") -> Any:
    return pool.call("root", what, subject=Subject(ObjectRef(0, what, b"/x%d" % what)))


EXPECTED = ObjectInfo(ObjectRef(0, 96, b"/"), ObjectKind.GROUP)


@pytest.mark.semantics("W2")
def test_what_crashes_workers_is_tried_twice_and_then_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pool_of(tmp_path) as (pool, starter):
        with pytest.raises(UnreadableError, match=r"/x1: .*killed by SIGSEGV"):
            ask(pool, 1)
        assert len(starter.children) == 2
        assert [r.getMessage() for r in caplog.records if "quarantined: /x1" in r.getMessage()]
        with pytest.raises(UnreadableError, match="quarantined"):
            ask(pool, 1)
        assert len(starter.children) == 2
        assert ask(pool, 0) == EXPECTED


@pytest.mark.semantics("W2")
def test_what_hangs_ends_at_the_deadline_and_at_once_from_then_on(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, _):
        start = time.monotonic()
        with pytest.raises(UnreadableError, match="no answer within 5 s"):
            ask(pool, 2)
        assert time.monotonic() - start > DEADLINE
        start = time.monotonic()
        with pytest.raises(UnreadableError, match="quarantined"):
            ask(pool, 2)
        assert time.monotonic() - start < DEADLINE
        assert ask(pool, 0) == EXPECTED


@pytest.mark.semantics("W2")
def test_quarantine_ends_when_the_file_changes(tmp_path: Path) -> None:
    file = ["before"]
    with pool_of(tmp_path, file=lambda: file[0]) as (pool, starter):
        with pytest.raises(UnreadableError):
            ask(pool, 1)
        file[0] = "after"
        with pytest.raises(UnreadableError, match="killed"):  # tried anew
            ask(pool, 1)
        assert len(starter.children) == 4


@pytest.mark.semantics("W2", "W3")
@pytest.mark.parametrize("what", [3, 4])
def test_a_request_is_repeated_when_its_worker_died_of_something_else(
    tmp_path: Path, what: int
) -> None:
    with pool_of(tmp_path) as (pool, _):
        assert ask(pool, what) == EXPECTED


@pytest.mark.semantics("W3")
def test_a_worker_that_died_idle_is_replaced_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pool_of(tmp_path) as (pool, starter):
        (child,) = starter.children.values()
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert ask(pool, 0) == EXPECTED
        assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.mark.semantics("W2")
def test_progress_is_patience(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, _):
        assert ask(pool, 5) == EXPECTED  # longer than the deadline


@pytest.mark.parametrize("what", [6, 7, 9, 16, 17, 18, 19, 20, 22, 23, 24, 26, 27, 28, 29, 30])
def test_an_answer_that_is_none_is_an_error_and_the_workers_end(tmp_path: Path, what: int) -> None:
    with pool_of(tmp_path) as (pool, starter):
        with pytest.raises(UnreadableError, match="answer is not one"):
            ask(pool, what)
        assert len(starter.children) == 2
        assert [child.poll() for child in starter.children.values()] == [-signal.SIGKILL] * 2
        assert ask(pool, 0) == EXPECTED


def test_an_answer_that_comes_twice_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, starter):
        assert ask(pool, 21) == EXPECTED
        with pytest.raises(NotFoundError):  # and not what came once more
            ask(pool, 8)
        assert len(starter.children) == 2


def test_a_worker_that_asks_for_what_the_policy_forbids_is_refused(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, _):
        with pytest.raises(ForbiddenError, match="/etc/passwd"):
            ask(pool, 25)
        assert ask(pool, 0) == EXPECTED


@pytest.mark.semantics("W2")
@pytest.mark.parametrize(
    ("what", "reason"), [(11, "hung up without ending"), (12, "an empty packet")]
)
def test_a_worker_that_hangs_up_and_goes_on_is_ended(
    tmp_path: Path, what: int, reason: str
) -> None:
    with pool_of(tmp_path) as (pool, starter):
        start = time.monotonic()
        with pytest.raises(UnreadableError, match=reason):
            ask(pool, what)
        assert time.monotonic() - start < 2 * DEADLINE
        assert [child.poll() for child in starter.children.values()] == [-signal.SIGKILL] * 2
        assert ask(pool, 0) == EXPECTED


@pytest.mark.semantics("W2")
def test_what_waits_is_an_error_and_is_asked_again(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, starter):
        with pytest.raises(UnreadableError, match="waited"):
            ask(pool, 15)
        assert ask(pool, 15) == EXPECTED
        assert len(starter.children) == 2
        assert not pool.quarantine.reasons()


@pytest.mark.semantics("W3")
def test_a_worker_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, starter):
        assert ask(pool, 14) == EXPECTED
        assert len(starter.children) == 2


@pytest.mark.semantics("W2")
def test_a_pause_of_everything_is_no_fault_of_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packet_reader, "_GRACE_SECONDS", PATIENCE_SECONDS)  # the timer may be late
    with pool_of(tmp_path) as (pool, starter):
        (child,) = starter.children.values()

        child.send_signal(signal.SIGSTOP)
        # The deadline is over by then, and the time that is given beyond it is not.
        going_on = threading.Timer(DEADLINE + 0.4, child.send_signal, (signal.SIGCONT,))
        going_on.start()
        assert ask(pool, 0) == EXPECTED
        going_on.join()
        assert len(starter.children) == 1


def test_a_worker_that_ends_before_it_touched_the_file_is_no_fault_of_the_file(
    tmp_path: Path,
) -> None:
    with pool_of(tmp_path, behaviour="crash before") as (pool, starter):
        starter.behaviour = ""
        (child,) = starter.children.values()
        child.kill()
        child.wait()
        starter.behaviour = "crash before"
        with pytest.raises(UnreadableError, match="no worker process can be started"):
            ask(pool, 0)
        assert not pool.quarantine.reasons()
        starter.behaviour = ""
        assert ask(pool, 0) == EXPECTED


def test_a_file_is_not_called_damaged_when_no_worker_starts(tmp_path: Path) -> None:
    with (
        pytest.raises(UnreadableError, match="no worker process can be started"),
        pool_of(tmp_path, behaviour="never starts"),
    ):
        pass


def test_what_was_asked_is_not_blamed_when_the_file_cannot_be_opened_again(
    tmp_path: Path,
) -> None:
    with pool_of(tmp_path, behaviour="crash on second open") as (pool, starter):
        (child,) = starter.children.values()
        child.kill()
        child.wait()
        with pytest.raises(UnreadableError, match="crashes when it opens the file"):
            ask(pool, 0)
        assert not pool.quarantine.reasons()
        starter.behaviour = ""
        assert ask(pool, 0) == EXPECTED


def test_a_disk_that_does_not_answer_is_not_called_damage(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotOpenError, match="the disk does not answer"),
        pool_of(tmp_path, behaviour="wait on open"),
    ):
        pass


def test_an_error_of_the_library_costs_no_worker(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, starter):
        with pytest.raises(NotFoundError):
            ask(pool, 8)
        assert len(starter.children) == 1


@pytest.mark.semantics("W4")
@pytest.mark.parametrize("behaviour", ["crash on open", "hang on open"])
def test_a_file_that_cannot_be_opened_alive_is_refused(tmp_path: Path, behaviour: str) -> None:
    with (
        pytest.raises(CannotOpenError, match=f"{behaviour[:4]}[es]*.* when it opens the file"),
        pool_of(tmp_path, behaviour=behaviour),
    ):
        pass


@pytest.mark.semantics("W1")
def test_a_request_that_takes_long_does_not_hold_up_others(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, _), ThreadPoolExecutor(1) as asker:
        slow = asker.submit(ask, pool, 31)
        try:
            wait_until((tmp_path / "begun").exists)
            assert ask(pool, 0) == EXPECTED
            assert not slow.done()
        finally:
            (tmp_path / "may end").touch()
        assert slow.result(PATIENCE_SECONDS) == EXPECTED


@pytest.mark.semantics("W1")
def test_workers_that_were_started_for_a_rush_end_after_it(tmp_path: Path) -> None:
    with pool_of(tmp_path) as (pool, starter):
        with ThreadPoolExecutor(3) as askers:
            answers = [askers.submit(ask, pool, 31) for _ in range(3)]
            try:
                wait_until(lambda: len(starter.children) > 1)
            finally:
                (tmp_path / "may end").touch()
            assert [each.result(PATIENCE_SECONDS) for each in answers] == [EXPECTED] * 3
        assert len(pool.worker_pids()) == 1


@pytest.mark.parametrize("moment", ["before the request is sent", "after it"])
@pytest.mark.parametrize("what", [0, 8])
def test_a_shared_buffer_that_is_forgotten_while_a_request_is_sent_is_taken_away_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, what: int
) -> None:
    sent: list[messages.Request] = []
    shared_buffer = make_shared_buffer(7, 4096, on_disk=False)
    send = WorkerConnection._send

    def send_and_forget(
        connection: WorkerConnection, request: messages.Request, *others: Any
    ) -> None:
        if moment.startswith("before"):
            pool.forget_shared_buffer(shared_buffer)
        send(connection, request, *others)
        if moment.startswith("after"):
            pool.forget_shared_buffer(shared_buffer)
        sent.append(request)

    with pool_of(tmp_path) as (pool, _):
        monkeypatch.setattr(WorkerConnection, "_send", send_and_forget)
        refused = pytest.raises(NotFoundError) if what == 8 else contextlib.nullcontext()
        with refused:  # one that is refused may have taken it over as well
            subject = Subject(ObjectRef(0, what, b"/x"))
            pool.call("root", what, subject=subject, shared_buffers=(shared_buffer,))
        assert ask(pool, 0) == EXPECTED
        assert ask(pool, 0) == EXPECTED
    assert [[number for number, *_ in request.shared_buffers] for request in sent] == [[7], [], []]
    assert [set(request.gone) for request in sent] == [set(), {7}, set()]
    shared_buffer.close()


@pytest.mark.parametrize("what", [2, 10])
def test_a_pool_that_closes_ends_those_that_are_asked(tmp_path: Path, what: int) -> None:
    with pool_of(tmp_path, count=2) as (pool, starter):
        ends: list[object] = []

        def wait_for_answer() -> None:
            try:
                ends.append(ask(pool, what))
            except UnreadableError as error:
                ends.append(error)

        waiting = [threading.Thread(target=wait_for_answer) for _ in range(3)]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        start = time.monotonic()
        pool.close()
        assert all(child.poll() is not None for child in starter.children.values())
        for thread in waiting:
            thread.join(DEADLINE)
        assert len(ends) == 3
        assert time.monotonic() - start < DEADLINE


@pytest.mark.semantics("W2")
def test_workers_are_replaced_while_a_thousand_files_are_open(tmp_path: Path) -> None:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    files = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(1100)]
    try:
        with pool_of(tmp_path) as (pool, starter):
            assert ask(pool, 0) == EXPECTED
            (pid,) = pool.worker_pids()
            os.kill(pid, signal.SIGKILL)
            starter.children[pid].wait()
            assert ask(pool, 0) == EXPECTED
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


def test_a_closed_store_has_let_go_of_the_file_though_a_worker_was_just_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.h5"
    kill = WorkerConnection.kill

    def kill_late(connection: WorkerConnection) -> None:
        time.sleep(0.5)
        kill(connection)

    monkeypatch.setattr(WorkerConnection, "kill", kill_late)
    starter = WorkerStarter()
    starter.start()
    try:
        for _ in range(2):
            with h5py.File(file, "w"):
                pass
            store = WorkerStore(StoreOptions(file, workers=2), starter)
            store.open()
            store.close()
            with h5py.File(file, "r+"):  # is refused while a worker has it open
                pass
    finally:
        starter.close()


def test_no_room_for_a_descriptor_ends_no_worker_that_runs(tmp_path: Path) -> None:
    options = StoreOptions(tmp_path / "f.h5")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    buffer = make_memory_file("replies", 4096)
    starter = WorkerStarter()
    starter.start()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def spawn() -> tuple[int, int]:
        return starter.spawn(options, theirs, buffer, WorkerFile(FileKind.PLAIN, ()))

    try:
        worker, handle = spawn()
        before = starter.pid
        lowest = os.dup(buffer)
        os.close(lowest)  # what spawn sends takes its place; nothing is left for what it receives
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                spawn()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (starter.pid, starter.end_of(worker)) == (before, "still running")
        os.close(handle)
    finally:
        starter.close()
        ours.close()
        theirs.close()
        os.close(buffer)


@pytest.mark.semantics("W20")
def test_what_nobody_has_asked_for_is_not_repeated_and_puts_nothing_into_quarantine(
    tmp_path: Path,
) -> None:
    class KilledError(Exception):
        pass

    def fail(note: bytes) -> None:
        raise KilledError(note)

    with pool_of(tmp_path) as (pool, starter):
        subject = Subject(ObjectRef(0, 1, b"/x1"))
        with pytest.raises(KilledError):
            pool.call("root", 1, subject=subject, on_failure=fail, is_ahead=True)
        assert len(starter.children) == 1
        assert pool.quarantine.reasons() == {}
        assert ask(pool, 0) == EXPECTED


def test_a_worker_starter_that_is_killed_while_its_worker_begins_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class KilledOnce(WorkerStarter):
        was_asked = False

        def _ask_for_worker(self, given: list[int]) -> tuple[int, int]:
            if not self.was_asked:
                self.was_asked = True
                os.read(given[0], 2**20)  # as its worker had done by then
                raise ConnectionResetError
            return super()._ask_for_worker(given)

    file = tmp_path / "f.h5"
    with h5py.File(file, "w"):
        pass
    store = WorkerStore(StoreOptions(file, workers=1), KilledOnce())
    with caplog.at_level("INFO"):
        store.open()
        store.close()
    assert "is replaced" not in caplog.text

"""What a logged file promises, one promise at a time, on real files and on simulated ones."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from hdf5_work import digest, open_hdf5
from simulated_disk import History, SimulatedFile

from h5fs.errors import LogMismatchError
from h5fs.store.log import format as log_format
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.recovery import describe_log, recover
from h5fs.store.log.system_calls import RealFile

BOOT = b"the boot id"
PAGE = 4096
MIB = 2**20


class Files:
    """A main file and its log, on a real file system."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.paths = folder / "f.h5", folder / "f.log"
        self.paths[0].write_bytes(content)
        self.paths[1].write_bytes(b"")
        self.descriptors = [os.open(path, os.O_RDWR) for path in self.paths]
        self.main, self.log = map(RealFile, self.descriptors)

    def open(self, boot: bytes = BOOT) -> LoggedFile:
        file = LoggedFile(self.main, self.log, boot_id=boot)
        file.open()
        return file

    def state(self) -> list[tuple[bytes, int]]:
        return [(path.read_bytes(), path.stat().st_mtime_ns) for path in self.paths]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path, b"content" * 5000)
    yield made
    for descriptor in made.descriptors:
        os.close(descriptor)


def write(file: LoggedFile, offset: int, data: bytes) -> None:
    file.seek(offset)
    assert file.write(data) == len(data)


def whole(file: LoggedFile) -> bytes:
    return file.read_at(0, file.length)


def test_after_a_kill_frames_follow_a_durable_commit_once_it_is_on_the_disk() -> None:
    """Else a power cut may tear the commit and keep what follows: that looks like damage."""
    history = History({"main": bytes(8 * PAGE), "log": b""}, b"")
    first = LoggedFile(*(SimulatedFile(history, name) for name in ("main", "log")), boot_id=BOOT)
    first.open()
    write(first, 0, b"1" * PAGE)
    first.commit(durable=True)
    assert [call.kind for call in history.calls if call.file == "log"][-1] == "fsync"
    cut = history.until(len(history.calls) - 1)  # killed while it waited

    count = len(cut.calls)
    second = LoggedFile(*(SimulatedFile(cut, name) for name in ("main", "log")), boot_id=BOOT)
    second.open()
    write(second, 3 * PAGE, b"2" * PAGE)
    second.commit(durable=False)
    kinds = [call.kind for call in cut.calls[count:] if call.file == "log"]
    assert kinds[0] == "fsync"
    assert "write" in kinds

    count = len(cut.calls)
    write(second, 4 * PAGE, b"3" * PAGE)
    second.commit(durable=False)
    assert "fsync" not in [call.kind for call in cut.calls[count:]]


def test_a_file_that_is_only_read_is_left_alone(files: Files) -> None:
    before = files.state()
    file = files.open()
    assert whole(file) == before[0][0]
    file.commit(durable=True)
    file.checkpoint()
    assert files.state() == before


def test_writing_what_is_there_already_is_no_change(files: Files) -> None:
    before = files.state()
    file = files.open()
    write(file, 1000, before[0][0][1000:9000])
    file.truncate(file.length)
    assert not file.has_changes
    write(file, 70, b"?")
    write(file, 70, before[0][0][70:71])
    file.commit(durable=True)
    assert not file.has_changes
    assert files.state() == before


def test_a_large_overwrite_with_the_same_bytes_is_no_change(files: Files) -> None:
    file = files.open()
    write(file, 0, os.urandom(MIB))
    file.checkpoint()
    before = files.state()
    write(file, 0, whole(file))
    file.commit(durable=True)
    assert files.state() == before


@pytest.mark.parametrize("count", [40, 700])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_a_large_overwrite_of_nearly_the_same_bytes_is_a_small_change(
    files: Files, count: int, place: float
) -> None:
    """The library writes all names of a group where one is new."""
    file = files.open()
    data = bytearray(os.urandom(count * PAGE))
    write(file, 100, bytes(data))
    file.checkpoint()
    at = min(int(place * len(data)), len(data) - 5)
    data[at : at + 5] = b"a new"
    write(file, 100, bytes(data))
    file.commit(durable=True)
    is_near_an_end = place in (0, 1) or count * PAGE < MIB
    assert 0 < file.log_bytes < (6 * PAGE if is_near_an_end else 2 * count * PAGE)
    assert whole(file)[100:][: len(data)] == data
    assert whole(files.open())[100:][: len(data)] == data


def test_a_file_that_shrinks_with_each_change_is_not_read_again(files: Files) -> None:
    """As one does from which objects are removed."""
    file = files.open()
    write(file, 0, bytes(20 * PAGE))
    file.checkpoint()
    reads = []
    read_into = file._layers.read_into
    file._layers.read_into = lambda view, at: (reads.append(at), read_into(view, at))  # type: ignore[assignment,func-returns-value]
    for number in range(1, 6):
        write(file, 0, bytes(3 * PAGE) + b"%d" % number)
        file.truncate(20 * PAGE - number)
        file.commit(durable=False)
    assert len(reads) <= 5  # each page once


def test_a_commit_leaves_the_main_file_and_a_checkpoint_empties_the_log(files: Files) -> None:
    before = files.paths[0].read_bytes()
    file = files.open()
    write(file, 3, b"changed")
    file.commit(durable=True)
    assert files.paths[0].read_bytes() == before
    assert whole(files.open())[:12] == b"conchangedte"
    file.checkpoint()
    assert files.paths[0].read_bytes() == before[:3] + b"changed" + before[10:]
    assert file.log_bytes == files.paths[1].stat().st_size == 0


@pytest.mark.parametrize("durable", [True, False])
def test_a_soft_commit_counts_for_the_same_boot_only(files: Files, durable: bool) -> None:
    file = files.open()
    write(file, 0, b"first")
    file.commit(durable=True)
    write(file, 0, b"other")
    file.commit(durable=durable)
    assert whole(files.open())[:5] == b"other"
    assert whole(files.open(b"another boot"))[:5] == (b"other" if durable else b"first")
    assert whole(files.open(b""))[:5] == (b"other" if durable else b"first")


def test_what_was_not_committed_is_gone_after_recovery(files: Files) -> None:
    before = files.paths[0].read_bytes()
    file = files.open()
    write(file, len(before), bytes(range(256)) * 4096)
    assert files.paths[0].stat().st_size > len(before), "a large write past the end goes there"
    assert recover(files.main, files.log, BOOT)
    assert files.paths[0].read_bytes() == before
    assert not recover(files.main, files.log, BOOT)


def test_recovery_brings_the_main_file_to_the_last_commit(files: Files) -> None:
    file = files.open()
    write(file, 0, os.urandom(200_000))
    file.truncate(150_001)
    file.commit(durable=False)
    expected = whole(file)
    assert recover(files.main, files.log, BOOT)
    assert files.paths[0].read_bytes() == expected
    assert files.paths[1].stat().st_size == 0


def test_opening_again_goes_back_to_the_last_commit(files: Files) -> None:
    file = files.open()
    write(file, 0, b"committed")
    file.commit(durable=False)
    write(file, 0, b"not any more")
    file.open()
    assert whole(file)[:12] == b"committednte"
    assert not file.has_changes


def test_without_a_log_a_file_is_read_and_refuses_to_commit(files: Files) -> None:
    file = LoggedFile(files.main, None, boot_id=BOOT)
    file.open()
    file.commit(durable=True)
    file.checkpoint()
    write(file, 0, os.urandom(MIB))
    with pytest.raises(OSError) as raised:
        file.commit(durable=True)
    assert raised.value.errno == errno.EROFS


def test_reading_fills_the_buffer_with_zeros_past_the_end(files: Files) -> None:
    file = files.open()
    file.seek(-3, os.SEEK_END)
    buffer = bytearray(b"x" * 10)
    assert file.readinto(buffer) == 10
    assert buffer == b"ent" + bytes(7)
    assert file.read_at(file.length - 3, 10) == b"ent"


def test_another_file_in_the_place_of_the_main_file_is_refused(files: Files) -> None:
    file = files.open()
    write(file, 0, b"changed")
    file.commit(durable=True)
    files.main.pwrite(b"someone else's", 2000)
    before = files.state()
    with pytest.raises(LogMismatchError, match="move the log away"):
        files.open()
    with pytest.raises(LogMismatchError):
        recover(files.main, files.log, BOOT)
    assert describe_log(files.main, files.log, BOOT).mismatch
    assert files.state() == before


def test_a_main_file_that_is_too_short_is_refused(files: Files) -> None:
    file = files.open()
    write(file, 0, b"changed")
    file.commit(durable=True)
    files.main.ftruncate(5000)
    with pytest.raises(LogMismatchError, match="5000 bytes"):
        files.open()


@pytest.mark.parametrize("content", [b"my notes", b"\x89HDF\r\n\x1a\n" * 100])
def test_what_is_no_log_is_neither_read_nor_emptied(files: Files, content: bytes) -> None:
    files.log.pwrite(content, 0)
    with pytest.raises(LogMismatchError, match="not a log"):
        recover(files.main, files.log, BOOT)
    assert files.paths[1].read_bytes() == content


def test_a_log_of_another_version_is_refused(files: Files) -> None:
    file = files.open()
    write(file, 0, b"changed")
    file.commit(durable=True)
    files.log.pwrite(b"\x02", len(log_format.MAGIC))
    with pytest.raises(LogMismatchError, match="version 2"):
        files.open()


def test_a_header_that_was_never_whole_is_an_empty_log(files: Files) -> None:
    before = files.paths[0].read_bytes()
    write(file := files.open(), 0, b"changed")
    file.commit(durable=True)
    files.log.pwrite(bytes(512), 1024)
    assert whole(files.open()) == before
    assert recover(files.main, files.log, BOOT)
    assert files.paths[0].read_bytes() == before


@pytest.mark.parametrize("taken", ["header", "frames"])
def test_frames_of_another_log_do_not_count(files: Files, taken: str) -> None:
    """As when the sectors of a log that was emptied come back: the checksums are chained."""
    logs = []
    for text in (b"older", b"newer"):
        file = files.open()
        write(file, 5 * PAGE, text)
        file.commit(durable=True)
        logs.append(files.paths[1].read_bytes())
        files.log.ftruncate(0)
    assert len(logs[0]) == len(logs[1])
    at = log_format.header_bytes(PAGE)
    mixed = logs[0][:at] + logs[1][at:] if taken == "header" else logs[1][:at] + logs[0][at:]
    files.log.pwrite(mixed, 0)
    assert describe_log(files.main, files.log, BOOT).commits == 0


def test_a_description_counts_what_is_in_the_log(files: Files) -> None:
    file = files.open()
    for durable in (True, False, True, False):
        write(file, PAGE, os.urandom(3 * PAGE))
        file.commit(durable=durable)
    described = describe_log(files.main, files.log, BOOT)
    assert (described.commits, described.durable_commits, described.lost_commits) == (4, 2, 0)
    assert (described.pages, described.length) == (3, file.length)
    later = describe_log(files.main, files.log, b"another boot")
    assert (later.commits, later.lost_commits) == (3, 1)
    assert not later.mismatch


def test_pages_of_the_last_commits_are_not_read_again(files: Files) -> None:
    reads = []

    class CountedLog(RealFile):
        def pread_into(self, buffer: memoryview, offset: int) -> int:
            reads.append(offset)
            return super().pread_into(buffer, offset)

    file = LoggedFile(files.main, CountedLog(files.descriptors[1]), boot_id=BOOT)
    file.open()
    for number in range(5):
        reads.clear()
        write(file, 3 * PAGE + number, b"changed")
        file.commit(durable=False)
    assert not reads
    assert whole(file)[3 * PAGE :][:11] == b"ccccchanged"


def test_pages_of_the_last_commits_do_not_stay_in_memory_without_bound(files: Files) -> None:
    file = files.open()
    for page in range(1000):
        write(file, page * PAGE, b"changed")
        file.commit(durable=False)
    assert len(file._layers.recent) * PAGE <= MIB


@pytest.mark.parametrize("after", ["a_large_write", "growth", "a_checkpoint"])
def test_pages_of_the_last_commits_are_forgotten_with_them(files: Files, after: str) -> None:
    file = files.open()
    write(file, 2 * PAGE, b"old" * 100)
    file.commit(durable=True)
    if after == "a_large_write":
        write(file, 0, b"n" * MIB)
    elif after == "growth":
        file.truncate(PAGE)
        file.commit(durable=True)
        file.truncate(5 * PAGE)
        file.commit(durable=True)
    else:
        file.checkpoint()
    before = whole(file)
    write(file, 2 * PAGE + 7, b"!")
    file.commit(durable=True)
    expected = bytearray(before)
    expected[2 * PAGE + 7] = ord("!")
    assert whole(file) == expected
    assert whole(files.open()) == expected


def test_many_small_changes_do_not_stay_in_memory(files: Files) -> None:
    file = files.open()
    for page in range(0, 3 * 4096, 2):
        write(file, page * PAGE, b"%d" % page)
    assert file.log_bytes > 16 * MIB
    assert len(file._layers.changed) * PAGE <= 16 * MIB
    file.commit(durable=False)
    assert whole(files.open()) == whole(file)


def test_direct_writes_are_allowed_only_where_no_commit_sees_them(files: Files) -> None:
    file = files.open()
    end = -(-file.length // PAGE) * PAGE
    file.truncate(end + 100 * PAGE)
    assert not file.allows_direct_write(0, PAGE)
    assert not file.allows_direct_write(end - PAGE, end + PAGE)
    assert not file.allows_direct_write(end, file.length + 1)
    write(file, end + 5 * PAGE, b"in memory")
    assert not file.allows_direct_write(end, end + 10 * PAGE)
    assert file.allows_direct_write(end + 6 * PAGE, end + 10 * PAGE)
    files.main.pwrite(b"direct", end + 6 * PAGE)
    file.note_direct_write()
    assert file.has_changes
    file.commit(durable=True)
    assert not file.allows_direct_write(end + 6 * PAGE, end + 10 * PAGE)
    recover(files.main, files.log, b"another boot")
    assert files.paths[0].read_bytes()[end + 6 * PAGE :].startswith(b"direct")


class Failing:
    """Lets calls of one file and kind fail while ``number`` is not 0."""

    def __init__(self, file: str, kind: str) -> None:
        self.which = file, kind
        self.number = 0

    def __call__(self, file: str, kind: str, size: int) -> int:
        return self.number if (file, kind) == self.which else 0


def simulate(failing: Failing) -> tuple[History, LoggedFile]:
    history = History({"main": bytes(50_000), "log": b""}, bytes(50_000))
    disk = [SimulatedFile(history, name, failing) for name in ("main", "log")]
    file = LoggedFile(disk[0], disk[1], boot_id=BOOT)
    file.open()
    return history, file


def reopen(history: History) -> LoggedFile:
    disk = [SimulatedFile(history, name) for name in ("main", "log")]
    file = LoggedFile(disk[0], disk[1], boot_id=BOOT)
    file.open()
    return file


def test_a_commit_that_finds_the_disk_full_can_be_tried_again() -> None:
    failing = Failing("log", "pwrite")
    history, file = simulate(failing)
    write(file, 10, b"change")
    failing.number = errno.ENOSPC
    with pytest.raises(OSError) as raised:
        file.commit(durable=True)
    assert raised.value.errno == errno.ENOSPC
    assert file.failure is None
    assert whole(reopen(history)) == bytes(50_000)
    failing.number = 0
    file.commit(durable=True)
    assert whole(reopen(history))[10:16] == b"change"


@pytest.mark.parametrize("name", ["log", "main"])
def test_after_an_fsync_that_failed_nothing_is_committed_any_more(name: str) -> None:
    failing = Failing(name, "fsync")
    history, file = simulate(failing)
    write(file, 10, b"change")
    write(file, 60_000, os.urandom(MIB))
    failing.number = errno.EIO
    with pytest.raises(OSError, match="not known"):
        file.commit(durable=True)
    failing.number = 0
    with pytest.raises(OSError, match="not known"):
        file.commit(durable=False)
    assert whole(reopen(history)) == bytes(50_000)


@pytest.mark.parametrize("name", ["main", "log"])
def test_hdf5_sees_what_it_wrote_though_the_disk_refused_it(name: str) -> None:
    failing = Failing(name, "pwrite")
    _, file = simulate(failing)
    failing.number = errno.ENOSPC
    data = os.urandom(MIB)
    write(file, 0 if name == "log" else 50_000, data)
    assert file.read_at(file.length - MIB, MIB) == data
    with pytest.raises(OSError) as raised:
        file.commit(durable=True)
    assert raised.value.errno == errno.ENOSPC


def test_a_read_that_fails_gives_zeros_and_no_commit() -> None:
    failing = Failing("main", "pread")
    _, file = simulate(failing)
    failing.number = errno.EIO
    assert file.read(10) == bytes(10)
    with pytest.raises(OSError) as raised:
        file.commit(durable=True)
    assert raised.value.errno == errno.EIO


@pytest.mark.parametrize("kind", ["pwrite", "ftruncate", "fsync"])
@pytest.mark.parametrize("name", ["main", "log"])
def test_a_checkpoint_that_failed_can_be_tried_again(name: str, kind: str) -> None:
    failing = Failing(name, kind)
    history, file = simulate(failing)
    write(file, 10, b"change")
    file.truncate(40_000)
    file.commit(durable=True)
    expected = whole(file)
    failing.number = errno.EIO
    try:
        file.checkpoint()
    except OSError:
        assert file.failure is None
    assert whole(file) == whole(reopen(history)) == expected
    failing.number = 0
    write(file, 45_000, b"more")
    file.checkpoint()
    assert history.cached() == {"main": whole(file), "log": b""}


@pytest.mark.parametrize("libver", [("earliest", "latest"), ("latest", "latest")])
def test_an_hdf5_file_written_through_the_log_is_read_by_hdf5(
    files: Files, libver: tuple[str, str]
) -> None:
    files.main.ftruncate(0)
    file = files.open()
    opened = open_hdf5(file, libver)
    for i in range(50):
        opened[f"group/d{i}"] = range(i)
        opened[f"group/d{i}"].attrs["i"] = i
    opened.create_dataset("large", data=list(range(100_000)))
    opened.flush()
    file.commit(durable=True)
    expected = digest(opened)
    opened.close()
    recover(files.main, files.log, b"another boot")
    with h5py.File(files.paths[0], "r") as plain:
        assert digest(plain) == expected

"""A main file that another program writes to: noticed before anything is written to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.main_witness import MainWitness, make_record
from h5fs.store.log.system_calls import RealFile

BOOT = b"the boot"
MIB = 2**20


class Files:
    """A main file, its log and the record that all processes share."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "f.h5"
        self.path.write_bytes(b"content" * 5000)
        (folder / "log").write_bytes(b"")
        self.descriptors = [
            os.open(self.path, os.O_RDWR), os.open(folder / "log", os.O_RDWR), make_record(),
        ]  # fmt: skip

    def open(self) -> LoggedFile:
        """Open as a new process does."""
        main, log, record = map(RealFile, self.descriptors)
        file = LoggedFile(main, log, boot_id=BOOT, witness=MainWitness(main, record))
        file.open()
        return file


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    for descriptor in made.descriptors:
        os.close(descriptor)


def write(file: LoggedFile, offset: int, data: bytes) -> None:
    file.seek(offset)
    file.write(data)


def cut(path: Path) -> None:
    os.truncate(path, 9000)


def overwrite_the_first_page(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.write(b"other")


def overwrite_in_the_middle(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as opened:
        opened.seek(9000)
        opened.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # whatever the clock's steps


CHANGES = (cut, overwrite_the_first_page, overwrite_in_the_middle)


@pytest.mark.semantics("U9")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["before all", "with a log", "large", "after a checkpoint"])
def test_a_foreign_change_is_noticed_before_anything_is_written(
    files: Files, change: Callable[[Path], None], moment: str
) -> None:
    file = files.open()
    if moment != "before all":
        write(file, 5, b"one")
        file.commit(durable=True)
    if moment == "after a checkpoint":
        file.checkpoint()
    change(files.path)
    before = files.path.read_bytes()
    if moment == "large":
        write(file, file.length, bytes(MIB))  # past the log
    write(file, 9, b"two")
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            file.checkpoint() if moment == "with a log" else file.commit(durable=False)
        assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError, match="another program"):
        files.open()  # the next process knows it, too
    assert files.path.read_bytes() == before


@pytest.mark.semantics("U9")
def test_the_owners_own_writes_are_no_foreign_change(files: Files) -> None:
    file = files.open()
    for number in range(6):
        write(file, 7 * number, b"small")
        write(file, file.length, bytes([number]) * MIB)
        file.commit(durable=number % 2 == 0)
        if number == 3:
            file.checkpoint()
        file.truncate(file.length - 5000)
        file.commit(durable=True)
        file = files.open()
    file.checkpoint()
    start = -(-file.length // 4096) * 4096
    file.truncate(start + MIB)
    assert file.allows_direct_write(start, start + MIB // 2)
    file.commit(durable=True)
    os.pwrite(files.descriptors[0], b"y" * 4096, start)
    file = files.open()  # a process that did not allow it, but whose record says that one did
    write(file, 0, b"z")
    file.checkpoint()


@pytest.mark.semantics("U9")
def test_a_process_that_is_killed_in_a_checkpoint_leaves_no_foreign_change(files: Files) -> None:
    file = files.open()
    write(file, 0, b"one" * 4000)
    file.commit(durable=True)
    file._witness.note_own_write(of_first_page=True)  # type: ignore[union-attr]
    os.pwrite(files.descriptors[0], b"one" * 4000, 0)
    file = files.open()
    write(file, 0, b"two")
    file.checkpoint()
    assert files.path.read_bytes()[:6] == b"twoone"

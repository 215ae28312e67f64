"""The log file: it stays the same file, never grows without end, and never stops a mount."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from h5fs.daemon.cut_file_handler import CutFileHandler

MAX_BYTES = 1000


def log(handler: CutFileHandler, text: str) -> None:
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 1, text, None, None))


@pytest.mark.semantics("M10")
def test_a_full_log_is_copied_and_goes_on_as_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = CutFileHandler(path, MAX_BYTES)
    inode = path.stat().st_ino
    stderr_of_another = os.dup(handler.stream.fileno())
    for number in range(200):
        log(handler, f"line {number}")
        os.write(stderr_of_another, b"from another process\n")
    os.close(stderr_of_another)
    assert path.stat().st_ino == inode
    assert path.stat().st_size < 2 * MAX_BYTES
    text = (tmp_path / "log.1").read_text() + path.read_text()
    assert "line 199" in text and text.endswith("from another process\n")
    assert "\0" not in text  # as after a write at an old offset
    handler.close()


@pytest.mark.semantics("M10")
@pytest.mark.parametrize("way", ["moved", "removed", "replaced"])
def test_a_log_that_somebody_took_away_goes_on_at_its_path(tmp_path: Path, way: str) -> None:
    path = tmp_path / "log"
    handler = CutFileHandler(path)
    number = handler.stream.fileno()
    log(handler, "before")
    if way == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "elsewhere")
    if way == "replaced":
        path.write_text("mine\n")
    log(handler, "after")
    assert path.read_text() == ("mine\n" if way == "replaced" else "") + "after\n"
    assert handler.stream.fileno() == number
    handler.close()


def test_the_copy_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "log.1").symlink_to(precious)
    handler = CutFileHandler(tmp_path / "log", MAX_BYTES)
    for number in range(200):
        log(handler, f"line {number}")
    assert precious.read_text() == "precious"
    assert not (tmp_path / "log.1").is_symlink()
    handler.close()


def test_where_there_is_no_room_for_a_copy_the_log_is_cut_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    handler = CutFileHandler(tmp_path / "log", MAX_BYTES)
    for number in range(200):
        log(handler, f"line {number}")
    assert (tmp_path / "log").stat().st_size < 2 * MAX_BYTES
    assert (tmp_path / "log").read_text().endswith("line 199\n")
    handler.close()


def test_a_full_disk_and_a_closed_file_are_no_error(tmp_path: Path) -> None:
    handler = CutFileHandler(Path("/dev/full"))
    log(handler, "nowhere")
    handler.close()
    handler = CutFileHandler(tmp_path / "log")
    (tmp_path / "log").unlink()
    tmp_path.rmdir()
    log(handler, "nowhere")
    handler.close()


@pytest.mark.parametrize("reads", [False, True])
def test_a_pipe_is_refused_whether_or_not_somebody_reads_it(tmp_path: Path, reads: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK) if reads else None
    with pytest.raises(OSError, match="pipe"):
        CutFileHandler(tmp_path / "pipe")
    if reader is not None:
        os.close(reader)

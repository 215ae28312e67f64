"""The socket at which a daemon tells its status, without a mount."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.registry import isolate
from support.waiting import PATIENCE_SECONDS

from h5fs.cli import main
from h5fs.cli.commands.status_text import show_mount
from h5fs.daemon import status_socket
from h5fs.daemon.registry import Daemon, registered
from h5fs.daemon.status_socket import answering, ask

DOCUMENT = b'{"mountpoint": "/m"}'


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's daemons, whose path is too long for the address of a socket."""
    runtime = tmp_path / ("long" * 30)
    runtime.mkdir()
    return isolate(monkeypatch, runtime)


def daemon_at(path: Path, *, pid: int | None = None) -> Daemon:
    return Daemon(pid or os.getpid(), os.getuid(), "/m", "/f.h5", 0, path.with_suffix(".json"))


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    folder = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE_SECONDS)
            while True:
                try:
                    client.connect(f"/proc/self/fd/{folder}/{path.name}")
                    break
                except BlockingIOError:  # too many wait already
                    time.sleep(0.01)
            yield client
    finally:
        os.close(folder)


@pytest.mark.semantics("C22")
def test_who_connects_is_told_and_the_socket_goes_with_the_block(records: Path) -> None:
    with registered(Path("/m"), "/f.h5") as (path, _):
        with answering(path, lambda: DOCUMENT):
            assert len(str(path)) > 107
            assert path.stat().st_mode & 0o777 == 0o600 and records.stat().st_mode & 0o777 == 0o700
            for _ in range(3):
                assert ask(daemon_at(path), PATIENCE_SECONDS) == DOCUMENT
        assert [each.suffix for each in records.iterdir()] == [".json"]
        with pytest.raises(FileNotFoundError):
            ask(daemon_at(path), 5)
    assert list(records.iterdir()) == []


@pytest.mark.semantics("C22")
def test_clients_that_write_garbage_or_do_not_read_or_are_gone_hold_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_socket, "_SEND_SECONDS", 10 * PATIENCE_SECONDS)  # for each of them
    path = tmp_path / "1.sock"
    large = b"x" * 100_000  # more than any real one, and the kernel takes it whole
    with answering(path, lambda: large), ExitStack() as clients:
        for number in range(30):
            client = clients.enter_context(connected(path))
            if number % 3 == 0:
                with suppress(OSError):  # it may be hung up on already
                    client.sendall(os.urandom(200_000))
            elif number % 3 == 1:
                client.close()
        assert ask(daemon_at(path), PATIENCE_SECONDS) == large
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_a_document_that_nobody_reads_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "1.sock"
    with answering(path, lambda: b"x" * 2**21), connected(path):
        assert len(ask(daemon_at(path), PATIENCE_SECONDS)) == 2**21


def test_a_description_that_fails_is_logged_and_the_next_one_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "1.sock"
    failures = [ZeroDivisionError()]

    def describe() -> bytes:
        if failures:
            raise failures.pop()
        return DOCUMENT

    with answering(path, describe):
        assert ask(daemon_at(path), PATIENCE_SECONDS) == b""
        assert ask(daemon_at(path), PATIENCE_SECONDS) == DOCUMENT
    assert "ZeroDivisionError" in caplog.text


def test_a_description_that_takes_for_ever_does_not_keep_the_mount(tmp_path: Path) -> None:
    path, may_go = tmp_path / "1.sock", threading.Event()

    def describe() -> bytes:
        may_go.wait(2 * PATIENCE_SECONDS)
        return DOCUMENT

    start = time.monotonic()
    with answering(path, describe), connected(path):
        pass
    assert time.monotonic() - start < PATIENCE_SECONDS
    assert not path.exists()
    may_go.set()


def test_without_a_socket_the_mount_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    is_run = False
    with answering(tmp_path / "none" / "1.sock", lambda: DOCUMENT):
        is_run = True
    assert is_run and "no status will be told" in caplog.text


@pytest.mark.semantics("C21")
def test_a_daemon_that_does_not_answer_is_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1.sock"
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stuck:
        stuck.bind(path.name)
        stuck.listen(0)
        for _ in range(3):  # after the first one there is no place to wait in
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                ask(daemon_at(path), 0.5)
            assert 0.4 < time.monotonic() - start < PATIENCE_SECONDS
    with pytest.raises(ConnectionRefusedError):
        ask(daemon_at(path), 0.5)


def test_another_process_in_its_place_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "1.sock"
    with answering(path, lambda: DOCUMENT), pytest.raises(ConnectionAbortedError):
        ask(daemon_at(path, pid=1), PATIENCE_SECONDS)


@pytest.mark.semantics("C20")
def test_without_mounts_the_command_says_so(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["status"]) == 0
    assert capsys.readouterr().out == "no h5fs mounts\n"
    assert main.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.semantics("C20", "C22")
def test_what_daemons_that_are_gone_have_left_is_removed(
    records: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = 2**22 + 1  # beyond what Linux gives
    records.mkdir(0o700)
    (records / "5555555.sock").touch()  # whose record an older h5fs has removed
    for pid in (gone, os.getppid()):  # the second one's id is another process's by now
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
            monkeypatch.chdir(records)
            left.bind(f"{pid}.sock")
        (records / f"{pid}.json").write_text('{"mountpoint": "/m", "file": "/f.h5"}')
    assert main.main(["status"]) == 0
    assert capsys.readouterr().out == "no h5fs mounts\n"
    assert list(records.iterdir()) == []


@pytest.mark.semantics("C20", "C21")
def test_a_daemon_without_a_socket_is_listed_and_one_with_nonsense_is_an_error(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with registered(Path("/m"), "/f.h5") as (path, _):
        assert main.main(["status", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["mountpoint"], found["file"]) == ("/m", "/f.h5")
        assert (found["pid"], found["cache"]) == (os.getpid(), None)
        assert "tells no more" in found["problem"] and 0 <= found["uptime_seconds"] < 60
        assert main.main(["status", "/m"]) == 0
        assert f"pid {os.getpid()}" in capsys.readouterr().out
        deep = b'{"mountpoint": "/m", "cache": ' + b"[" * 900 + b"]" * 900 + b"}"
        for nonsense in (b"", b"{", b"[]", b'{"mountpoint": 5}', b"[" * 100_000, deep):
            with answering(path, lambda answer=nonsense: answer):
                assert main.main(["status", "/m"]) == 1
                said = capsys.readouterr()
                assert "/m: the daemon" in said.err and "problem" in said.out


def test_text_of_a_daemon_harms_no_terminal_whatever_it_is() -> None:
    wild: dict[str, object] = {"mountpoint": "/m\x1b[31m\ud800", "version": "\x07"}
    assert "\x1b" not in show_mount(wild, has_colors=False)
    keys = "file mode pid uptime_seconds open_files drafts uncommitted cache workers".split()
    keys += "quarantined_count quarantined operations problem".split()
    known = {**dict.fromkeys(keys), **wild, "uptime_seconds": 1.0, "file": "\x1b"}
    for key in ("operations", "cache", "workers", "quarantined", "drafts", "problem"):
        for value in ("x", ["\x1b"], {"\x1b": 5}, 7):
            assert "\x1b" not in show_mount({**known, key: value}, has_colors=False)
    for key in ("open_files", "pid"):
        shown = show_mount({**known, "version": "1", key: "\x1b[2J"}, has_colors=False)
        assert "\\x1b[2J" in shown and "\x1b" not in shown

"""The kernel's mount table and the daemons' records, without a mount."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.registry import isolate

from h5fs.daemon.registry import find_daemon, find_daemons, registered
from h5fs.system import kernel_mounts
from h5fs.system.kernel_mounts import find_mount

ESCAPED = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134", "#": "\\043"}


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to act for other users")


def line_of(mountpoint: str, source: str = "/f.h5", kind: str = "fuse.h5fs", uid: int = 0) -> str:
    """Return a line as the kernel writes it: it escapes these few characters and no others."""
    texts = ["".join(ESCAPED.get(c, c) for c in text) for text in (mountpoint, source)]
    owner = f"user_id={uid},group_id=0"
    return f"36 35 0:31 / {texts[0]} ro,nosuid shared:1 - {kind} {texts[1]} ro,{owner}\n"


def pid_of_daemon(mountpoint: Path) -> int | None:
    daemon = find_daemon(mountpoint)
    return None if daemon is None else daemon.pid


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    monkeypatch.setattr(kernel_mounts, "_MOUNTINFO", file)
    return file


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return isolate(monkeypatch, tmp_path)


def test_the_topmost_mount_counts(table: Path) -> None:
    table.write_text(
        line_of("/m", "tmpfs", "tmpfs") + line_of("/m/below") + line_of("/m", "/data.h5")
    )
    found = find_mount(Path("/m"))
    assert found is not None
    assert (found.type, found.device, found.source) == ("fuse.h5fs", "0:31", "/data.h5")
    assert found.is_h5fs
    assert find_mount(Path("/other")) is None


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\tb", "a\\b", "\\040", "#a", "é", "a - b"])
def test_a_mountpoint_of_any_name_is_found(table: Path, name: str) -> None:
    table.write_text(line_of("/before") + line_of(f"/{name}", f"/{name}.h5") + line_of("/after"))
    found = find_mount(Path(f"/{name}"))
    assert found is not None
    assert found.source == f"/{name}.h5"


@pytest.mark.parametrize("character", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_characters_that_only_python_takes_for_a_line_end_do_no_harm(
    table: Path, character: str
) -> None:
    table.write_text(line_of(f"/a{character}b") + line_of("/m"), newline="")
    assert find_mount(Path("/m")) is not None
    assert find_mount(Path(f"/a{character}b")) is not None


@given(st.binary(min_size=1, max_size=20).filter(lambda b: not {0, 0x2F} & set(b)))
def test_a_daemon_is_found_while_it_is_registered(
    tmp_path_factory: pytest.TempPathFactory, name: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        runtime = tmp_path_factory.mktemp("runtime")
        isolate(patch, runtime)
        mountpoint = Path("/mnt", os.fsdecode(name))
        with registered(mountpoint, "/f.h5"):
            assert pid_of_daemon(mountpoint) == os.getpid()
            assert pid_of_daemon(Path("/mnt/other one")) is None
        assert pid_of_daemon(mountpoint) is None
        assert list((runtime / "h5fs").iterdir()) == []


@contextmanager
def process(uid: int | None = None) -> Iterator[int]:
    """A process that does nothing; its number."""
    with subprocess.Popen(["sleep", "100"], user=uid) as running:
        try:
            yield running.pid
        finally:
            running.kill()


def test_a_record_of_a_daemon_that_is_gone_is_removed(records: Path) -> None:
    records.mkdir(mode=0o700)
    gone = 2**22 + 1  # beyond what Linux gives
    (records / f"{gone}.json").write_text(json.dumps({"mountpoint": "/m", "file": "/f"}))
    (records / f"{gone}.json.new").touch()
    (records / f"{gone + 1}.sock.new").touch()
    assert pid_of_daemon(Path("/m")) is None
    assert list(records.iterdir()) == []


def test_a_record_is_not_taken_for_that_of_a_process_that_was_given_the_number(
    records: Path,
) -> None:
    records.mkdir(mode=0o700)
    with process() as pid:
        (records / f"{pid}.json").write_text(json.dumps({"mountpoint": "/m", "file": "/f"}))
        assert pid_of_daemon(Path("/m")) is None
    assert list(records.iterdir()) == []


def test_a_daemon_is_found_in_any_environment_and_after_a_logout(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered(Path("/m"), "/f.h5") as sockets:
        runtime = records.parent
        assert [path.parent.parent for path in sockets] == [runtime, runtime / "shared"]
        assert [each.pid for each in find_daemons()] == [os.getpid()]
        for elsewhere in ("/nowhere", "relative", ""):
            monkeypatch.setenv("XDG_RUNTIME_DIR", elsewhere)
            assert pid_of_daemon(Path("/m")) == os.getpid()
        shutil.rmtree(records)
        assert pid_of_daemon(Path("/m")) == os.getpid()
    assert pid_of_daemon(Path("/m")) is None


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_whatever_the_umask_records_are_for_the_user_alone(records: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with registered(Path("/m"), "/f.h5") as sockets:
            assert pid_of_daemon(Path("/m")) == os.getpid()
            for socket in sockets:
                assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
                assert stat.S_IMODE(socket.with_suffix(".json").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_planted_as_the_folder_is_not_followed(records: Path) -> None:
    precious = records.with_name("precious")
    precious.mkdir(mode=0o700)
    for name in ("1.json", "2.sock", "3.sock.new"):
        (precious / name).write_text("{}")
    shared = records.with_name("shared") / f"h5fs-{os.getuid()}"
    shared.symlink_to(precious)
    records.symlink_to(precious)
    with registered(Path("/m"), "/f.h5"):
        assert pid_of_daemon(Path("/m")) == os.getpid()
    assert find_daemons() == []
    assert len(list(precious.iterdir())) == 3


def test_a_record_that_is_a_link_or_a_fifo_is_neither_followed_nor_waited_for(
    records: Path,
) -> None:
    with registered(Path("/m"), "/f.h5") as (path, _):
        (records / "7.json").symlink_to(path.with_suffix(".json"))
        os.mkfifo(records / "8.json")
        assert [each.pid for each in find_daemons()] == [os.getpid()]


@needs_root
def test_a_folder_that_somebody_else_made_stops_nobody_and_is_not_looked_into(
    records: Path,
) -> None:
    shared = records.with_name("shared")
    for folder in (records, shared / "h5fs-0", shared / "h5fs-0-x"):
        folder.mkdir(mode=0o777)
        (folder / "5.json").write_text("{}")
        os.chown(folder, 65534, 65534)
    with registered(Path("/m"), "/f.h5") as sockets:
        assert pid_of_daemon(Path("/m")) == os.getpid()
        (socket,) = sockets
        assert socket.parent.parent == shared and socket.parent.stat().st_uid == 0
    assert (shared / "h5fs-0/5.json").exists()


@needs_root
def test_a_runtime_folder_of_another_user_is_left_alone(records: Path) -> None:
    os.chown(records.parent, 65534, 65534)  # as `su` leaves it in the environment
    with registered(Path("/m"), "/f.h5"):
        assert pid_of_daemon(Path("/m")) == os.getpid()
    assert not records.exists()


@needs_root
def test_a_record_counts_for_mounts_of_its_own_user_alone(records: Path, table: Path) -> None:
    forged = records.with_name("shared") / "h5fs-65534"
    forged.mkdir(mode=0o700)
    with process() as pid, (forged / f"{pid}.json").open("w") as record:
        json.dump({"mountpoint": "/m", "file": "/f"}, record)
        record.flush()
        fcntl.flock(record, fcntl.LOCK_EX)
        for path in (forged, forged / f"{pid}.json"):
            os.chown(path, 65534, 65534)
        table.write_text(line_of("/m", uid=65534))
        assert pid_of_daemon(Path("/m")) is None  # the process is not that user's
    with process(65534) as pid, (forged / f"{pid}.json").open("w") as record:
        json.dump({"mountpoint": "/m", "file": "/f"}, record)
        record.flush()
        fcntl.flock(record, fcntl.LOCK_EX)
        os.chown(forged / f"{pid}.json", 65534, 65534)
        assert pid_of_daemon(Path("/m")) == pid
        table.write_text(line_of("/m", uid=0))
        assert pid_of_daemon(Path("/m")) is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"mountpoint": 5}'])
def test_a_record_that_is_not_whole_is_passed_over(records: Path, text: str) -> None:
    with registered(Path("/m"), "/f.h5"):
        (records / "1.json").write_text(text)
        (records / "x.json").write_text(text)
        assert pid_of_daemon(Path("/m")) == os.getpid()


def test_a_record_of_another_shape_is_passed_over(records: Path) -> None:
    with registered(Path("/m"), "/f.h5"):
        (records / "1.json").write_text("[]")
        assert pid_of_daemon(Path("/m")) == os.getpid()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"mountpoint": 5}', "[" * 60_000, '{"a":' * 10_000, "1" * 60_000, "\xff"],
    ids=["cut off", "list", "number", "lists", "objects", "digits", "no UTF-8"],
)  # fmt: skip
def test_a_record_that_a_living_process_has_locked_may_hold_anything(
    records: Path, text: str
) -> None:
    with (
        registered(Path("/m"), "/f.h5"),
        process() as pid,
        (records / f"{pid}.json").open("wb") as record,
    ):
        record.write(text.encode("latin-1"))
        record.flush()
        fcntl.flock(record, fcntl.LOCK_EX)
        assert pid_of_daemon(Path("/m")) == os.getpid()
        assert (records / f"{pid}.json").exists()


def test_a_record_that_goes_away_meanwhile_is_passed_over(records: Path) -> None:
    with registered(Path("/m"), "/f.h5"):
        # As a daemon's that ends between the listing and the look at it.
        (records / "1.json").symlink_to("gone")
        assert pid_of_daemon(Path("/m")) == os.getpid()


def test_lines_of_another_form_are_passed_over(table: Path) -> None:
    table.write_text("\n36 35\n - \n36 35 0:31 / /m - fuse.h5fs\n" + line_of("/m") + "36 35 0")
    found = find_mount(Path("/m"))
    assert found is not None and found.uid == 0

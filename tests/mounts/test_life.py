"""A mount's life where the surroundings are bad: closed streams, full disks, signals, kills."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import MountFailedError, end_mount, mounted, run_h5fs
from support.processes import family
from support.reference import npy_bytes
from support.users import (
    NOBODY,
    public_folder,
    python_of_nobody,
    run_script_as_nobody,
    why_not_another_user,
)
from support.waiting import wait_until
from support.watching import find_workers

from h5fs.daemon.registry import find_daemon
from h5fs.system.kernel_mounts import find_mount

SECONDS = 240
NUMBERS = np.arange(1000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened["x"] = NUMBERS
    return path


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    end_mount(path)


def run_in_shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which ``h5fs`` is the command."""
    define = f'h5fs() {{ "{sys.executable}" -m h5fs "$@"; }}\n'
    return subprocess.run(
        ["sh", "-c", define + script], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
    )  # fmt: skip


def check_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done
    assert done.stderr.startswith("h5fs: ") and done.stderr.count("\n") == 1, done.stderr
    assert "unexpected" not in done.stderr and "report" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


# Streams


@pytest.mark.semantics("M24")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams_every_command_does_its_work(
    file: Path, mountpoint: Path, tmp_path: Path, closed: str
) -> None:
    (tmp_path / "y.npy").write_bytes(npy_bytes(NUMBERS))
    script = f"""
        h5fs f.h5 mnt {closed} || exit 10
        cmp mnt/x.npy y.npy || exit 11
        h5fs status mnt {closed} > out || exit 12
        h5fs status mnt {closed} || exit 13
        h5fs umount mnt {closed} || exit 14
        h5fs tree f.h5 {closed} || exit 15
        h5fs check f.h5 {closed} || exit 16
        h5fs cp f.h5:/x.npy copy.npy {closed} || exit 17
        h5fs cp y.npy f.h5:/y.npy {closed} || exit 18
        exec 3<mnt; cd mnt
        h5fs cat ../f.h5:/y.npy {closed} >../cat.npy || exit 19
    """
    done = run_in_shell(script, tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "copy.npy").read_bytes() == npy_bytes(NUMBERS)
    if ">&-" not in closed.split():
        assert (tmp_path / "cat.npy").read_bytes() == npy_bytes(NUMBERS)
    with h5py.File(file) as opened:
        assert (opened["y"][()] == NUMBERS).all()


@pytest.mark.semantics("M24")
def test_bytes_that_can_go_nowhere_are_an_error(file: Path, tmp_path: Path) -> None:
    check_one_line(run_in_shell("h5fs cat f.h5:/x.npy >&-", tmp_path), "stdout is closed")
    for command in ("cat f.h5:/x.npy", "tree f.h5", "--help", "help tree"):
        done = run_in_shell(f"h5fs {command} > /dev/full", tmp_path)
        check_one_line(done, os.strerror(errno.ENOSPC))


@pytest.mark.semantics("M24")
def test_the_daemon_holds_nothing_that_the_shell_had_open(file: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        os.set_inheritable(held.fileno(), True)
        command = [sys.executable, "-m", "h5fs", str(file), str(tmp_path / "mnt")]
        (tmp_path / "mnt").mkdir()
        done = subprocess.run(command, close_fds=False, timeout=SECONDS, check=False)
    try:
        assert done.returncode == 0
        with lock.open("w") as free:
            fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        end_mount(tmp_path / "mnt")


# The beginning


def start_daemon(*words: str | Path, program: str = "") -> subprocess.Popen[bytes]:
    """Start the command with a program of the test's own run before it, in the same process."""
    code = f"{program}\nimport sys\nfrom h5fs.cli.main import main\nsys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[str]:
    _, said = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, "", said.decode())


FAILING_INIT = """
from h5fs.fuse import session
def init(*_): raise ValueError("an odd libfuse")
session.Session.init = init
"""
FAILING_THREADS = """
import threading
def start(self, start=threading.Thread.start):
    if self.name.startswith("h5fs-fuse"):
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = start
"""


@pytest.mark.semantics("M6")
@pytest.mark.parametrize("way", [[], ["-f"]])
@pytest.mark.parametrize(
    ("program", "said"),
    [(FAILING_INIT, "an odd libfuse"), (FAILING_THREADS, "can't start new thread")],
)
def test_a_mount_that_cannot_begin_is_an_error_and_not_left_in_place(
    file: Path, mountpoint: Path, program: str, said: str, way: list[str]
) -> None:
    done = ended(start_daemon(file, mountpoint, *way, program=program))
    assert done.returncode == 1 and said in done.stderr, done
    assert find_mount(mountpoint) is None
    assert run_h5fs(file, mountpoint).returncode == 0


SLOW_OPENING = """
import os, time
from h5fs.daemon import open_tree
def opened(*arguments, before=open_tree._opened_store_tree):
    open({sign!r}, "w").close()
    time.sleep({seconds})
    return before(*arguments)
open_tree._opened_store_tree = opened
"""


def slowly(sign: Path, seconds: float) -> str:
    return SLOW_OPENING.format(sign=str(sign), seconds=seconds)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.semantics("M25")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_leaves_nothing(
    file: Path, mountpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    options = ["--mode", "r+"]
    starting = start_daemon(file, mountpoint, *options, program=slowly(tmp_path / "sign", 30))
    wait_until((tmp_path / "sign").exists)
    (daemon,) = children_of(starting.pid)
    os.kill(daemon, number)
    check_one_line(ended(starting), f"ended by {number.name}")
    assert find_mount(mountpoint) is None
    assert {each.name for each in tmp_path.iterdir()} == {"f.h5", "mnt", "sign"}


@pytest.mark.semantics("M25")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_ended_while_it_waits_takes_the_daemon_along(
    file: Path, mountpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    starting = start_daemon(file, mountpoint, "--mode", "r+", program=slowly(tmp_path / "sign", 30))
    wait_until((tmp_path / "sign").exists)
    (daemon,) = children_of(starting.pid)
    starting.send_signal(number)
    assert ended(starting).returncode != 0
    wait_until(lambda: not Path(f"/proc/{daemon}/exe").exists())
    assert find_mount(mountpoint) is None
    assert not file.with_name("f.h5.h5fs-log").exists()


@pytest.mark.semantics("M25", "U4")
def test_killed_at_any_moment_of_the_start_the_next_mount_is_as_any(
    file: Path, mountpoint: Path
) -> None:
    for step in range(12):
        starting = start_daemon(file, mountpoint, "--mode", "r+")
        while starting.poll() is None and not children_of(starting.pid):
            time.sleep(0.01)
        for daemon in children_of(starting.pid):
            time.sleep(0.06 * step)
            os.kill(daemon, signal.SIGKILL)
        ended(starting)
        end_mount(mountpoint)
    with mounted(file, options=["--mode", "r+"]) as mount:
        assert (np.load(mount.path / "x.npy") == NUMBERS).all()


# The end


SLOW_CLOSING = """
import time
from h5fs.tree import WritableTree
def close(self, before=WritableTree.close):
    open({sign!r}, "w").close()
    time.sleep(1)
    before(self)
WritableTree.close = close
"""


@pytest.mark.semantics("M25")
def test_signals_do_not_interrupt_what_is_still_to_be_committed(
    file: Path, mountpoint: Path, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    program = SLOW_CLOSING.format(sign=str(sign))
    foreground = start_daemon(file, mountpoint, "-f", "--mode", "r+", program=program)
    wait_until(lambda: find_mount(mountpoint) is not None and (mountpoint / "x.npy").exists())
    np.save(mountpoint / "y.npy", NUMBERS)
    foreground.send_signal(signal.SIGINT)
    wait_until(sign.exists)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        foreground.send_signal(number)
    done = ended(foreground)
    assert (done.returncode, done.stderr) == (0, "")
    assert not file.with_name("f.h5.h5fs-log").exists()
    with h5py.File(file) as opened:
        assert (opened["y"][()] == NUMBERS).all()


@pytest.mark.semantics("U6")
def test_after_a_kill_the_next_mount_waits_for_what_the_workers_still_hold(file: Path) -> None:
    for _ in range(3):
        with mounted(file, options=["--mode", "r+"]) as mount:
            os.kill(mount.pid, signal.SIGKILL)
            with mounted(file, options=["--mode", "r+"]) as next_mount:
                assert (np.load(next_mount.path / "x.npy") == NUMBERS).all()


@pytest.mark.semantics("U6", "M6")
def test_a_second_mount_that_writes_is_refused(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]):
        start = time.monotonic()
        second = mounted(file, options=["--mode", "r+"])
        with pytest.raises(MountFailedError, match="locked by"), second:
            pass
        assert time.monotonic() - start < 30


@pytest.mark.semantics("U6")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_lock_of_ones_own_mount_names_the_mountpoint(file: Path, mode: str) -> None:
    with mounted(file, options=["--mode", mode]) as mount:
        for words in (["attr", file, "a=1"], ["recover", file], [file, "new", "--mode", "r+"]):
            done = run_h5fs(*words)
            assert done.returncode == 1
            assert f"h5fs umount {mount.path}" in done.stderr
            assert f"another h5fs (pid {mount.pid})" in done.stderr


@pytest.mark.semantics("W1")
def test_ps_and_top_tell_whose_a_worker_is(file: Path) -> None:
    with mounted(file) as mount:
        assert (np.load(mount.path / "x.npy") == NUMBERS).all()
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in family(mount.pid)}
        assert {"h5fs:starter", f"h5fs:{file.name}"[:15]} <= names


@pytest.mark.semantics("M6")
def test_of_several_mounts_at_one_place_at_once_one_is_made(file: Path, mountpoint: Path) -> None:
    for _ in range(3):
        with ThreadPoolExecutor(3) as starters:
            done = list(starters.map(lambda _: run_h5fs(file, mountpoint), range(3)))
        assert sorted(each.returncode for each in done) == [0, 1, 1], done
        for each in done:
            assert each.stderr.count("\n") == each.returncode, each
            assert not each.stderr or "mounted" in each.stderr, each
        assert run_h5fs("umount", mountpoint).returncode == 0
        assert find_mount(mountpoint) is None


@pytest.mark.semantics("M5")
def test_who_unmounts_what_another_unmounts_in_the_same_moment_is_done_too(
    file: Path, mountpoint: Path
) -> None:
    for _ in range(3):
        assert run_h5fs(file, mountpoint, "--mode", "r+").returncode == 0
        with ThreadPoolExecutor(3) as enders:
            done = list(enders.map(lambda _: run_h5fs("umount", mountpoint), range(3)))
        assert any(each.returncode == 0 for each in done)
        for each in done:
            assert each.returncode == 0 or "nothing is mounted" in each.stderr, each
        assert not file.with_name("f.h5.h5fs-log").exists()


# The log


@pytest.mark.semantics("M6", "M10")
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "loop"])
def test_a_log_that_is_none_is_one_line(file: Path, mountpoint: Path, kind: str) -> None:
    log = file.parent / "log"
    if kind == "folder":
        log.mkdir()
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to("log" if kind == "loop" else "none/none")
    check_one_line(run_h5fs(file, mountpoint, "-o", f"log={log}"), str(log), "-o log=FILE")
    assert find_mount(mountpoint) is None


@pytest.mark.semantics("M10")
def test_without_a_home_the_log_has_no_place_and_it_says_so(file: Path, mountpoint: Path) -> None:
    program = "import os, pathlib\nos.getuid = lambda: 12345678\ndel os.environ['HOME']"
    program += "\nos.environ.pop('XDG_STATE_HOME', None)"
    done = ended(start_daemon(file, mountpoint, program=program))
    check_one_line(done, "HOME", "-o log=FILE")


@pytest.mark.semantics("M10")
def test_what_the_workers_write_to_stderr_is_in_the_log_also_when_it_was_cut(
    file: Path, mountpoint: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    program = "from h5fs.daemon import cut_file_handler\ncut_file_handler._MAX_BYTES = 2000"
    program += "\ncut_file_handler.CutFileHandler.__init__.__defaults__ = (2000,)"
    options = ["-o", f"log={log},workers=1,xattr", "-v"]
    assert ended(start_daemon(file, mountpoint, *options, program=program)).returncode == 0
    daemon = find_daemon(mountpoint)
    assert daemon is not None
    pid = daemon.pid
    for _ in range(3):  # each is logged, and the log is cut on the way
        for number in range(30):
            with pytest.raises(OSError, match="Read-only"):
                (mountpoint / f"name{number}").mkdir()
            subprocess.run(["kill", "-HUP", str(pid)], check=True)
    names = {os.path.realpath(f"/proc/{each}/fd/2") for each in (pid, *children_of(pid))}
    assert names == {str(log)}


# Folders for what is written


@pytest.mark.semantics("M6", "R21")
@pytest.mark.parametrize("place", ["/nonexistent", "/proc", "/sys", "/etc/hostname"])
def test_where_no_draft_can_be_a_mount_that_writes_is_refused(
    file: Path, mountpoint: Path, place: str
) -> None:
    none = {"TMPDIR": place}
    done = run_h5fs(file, mountpoint, "--mode", "r+", env=none)
    check_one_line(done, place, "TMPDIR")
    assert find_mount(mountpoint) is None
    done = run_h5fs(file, mountpoint, env=none)
    assert (done.returncode, done.stderr) == (0, "")
    assert (np.load(mountpoint / "x.npy") == NUMBERS).all()


@pytest.mark.semantics("M6")
@pytest.mark.skipif(
    why_not_another_user() is not None or python_of_nobody() is None,
    reason="needs root and a Python that another user may run",
)
def test_a_user_who_may_write_to_no_folder_for_drafts_is_told_so(file: Path) -> None:
    with public_folder() as public:
        shutil.copy(file, public / "f.h5")
        (public / "tmp").mkdir(0o755)  # root's
        (public / "mnt").mkdir()
        for name in ("f.h5", "mnt"):
            os.chown(public / name, NOBODY, NOBODY)
        for environment in ({"TMPDIR": str(public / "tmp")}, {}):
            before = "true" if environment else f"mount --bind {public}/tmp /var/tmp"
            done = run_script_as_nobody(
                "h5fs f.h5 mnt --mode r+", public, before=before, **environment
            )
            check_one_line(done, environment.get("TMPDIR", "/var/tmp"), "Permission denied")
            shutil.rmtree(public / "bin")
            (public / "fuse-device").unlink()


@pytest.mark.semantics("M6")
@pytest.mark.parametrize("most", [8, 10, 12, 16, 20, 24, 28, 32])
def test_too_few_descriptors_are_one_line_or_enough(
    file: Path, mountpoint: Path, tmp_path: Path, most: int
) -> None:
    script = f"ulimit -n {most}; h5fs f.h5 mnt --mode r+"
    done = run_in_shell(script, tmp_path)
    if done.returncode:
        check_one_line(done, "ulimit -n")
        assert find_mount(mountpoint) is None
    else:
        assert (np.load(mountpoint / "x.npy") == NUMBERS).all()


# Threads


def count_threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.semantics("M26", "W2")
@pytest.mark.parametrize("libfuse", ["2", "3"])
def test_threads_that_a_burst_has_started_end_after_it_and_no_request_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libfuse: str
) -> None:
    monkeypatch.setenv("H5FS_FUSE", libfuse)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number in range(40):
            opened.create_dataset(f"x{number}", data=NUMBERS, chunks=(100,), compression="gzip")
        opened["g/text"] = ["a size that takes a scan"]
    with mounted(tmp_path / "f.h5", options=["-o", "workers=1"]) as mount:
        assert os.listdir(mount.path / "g") == ["text.npy"]
        assert (np.load(mount.path / "x0.npy") == NUMBERS).all()
        before = count_threads(mount.pid)
        # Opened before, since the kernel looks up one name of a folder after another.
        files = [(mount.path / f"x{number}.npy").open("rb") for number in range(1, 31)]
        held = [*children_of(mount.pid), *find_workers(mount.pid)]  # nor can there be another one
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(30) as readers:
            try:
                read = [readers.submit(file.read) for file in files]
                wait_until(lambda: count_threads(mount.pid) > before + 6)
                if libfuse == "3":  # who asks for one name is not in the way of the next
                    slow = readers.submit(os.stat, mount.path / "g/text.npy")
                    assert not os.path.lexists(mount.path / "g/none")
                    assert not slow.done()
            finally:
                for pid in held:
                    os.kill(pid, signal.SIGCONT)
            assert {each.result(SECONDS) for each in read} == {npy_bytes(NUMBERS)}

            def ask_on() -> bool:
                list(readers.map(os.stat, [mount.path] * 100))
                return count_threads(mount.pid) <= before

            wait_until(ask_on)
        for file in files:
            file.close()
        assert (np.load(mount.path / "x39.npy") == NUMBERS).all()
        assert run_h5fs("umount", mount.path).returncode == 0

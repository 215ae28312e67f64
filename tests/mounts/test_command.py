"""The mount command, as a user types it: what it refuses, how it starts and how it ends."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mount_points import is_mounted, mounts_below, table_of_mounts
from support.mounts import end_mount, mounted, needs_libfuse_3, run_h5fs
from support.reference import npy_bytes
from support.users import (
    NOBODY,
    public_folder,
    python_of_nobody,
    run_as_nobody,
    run_h5fs_as_nobody,
    run_script_as_nobody,
    why_not_another_user,
)
from support.waiting import PATIENCE_SECONDS

from h5fs.daemon.registry import find_daemon

NUMBERS = np.arange(100, dtype="<i4")
SECONDS = 240

needs_another_user = pytest.mark.skipif(
    why_not_another_user() is not None or python_of_nobody() is None,
    reason=why_not_another_user() or "no Python with h5fs that another user may run",
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small HDF5 file."""
    return write(tmp_path / "f.h5")


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; whatever is mounted there at the end is taken down."""
    folder = (tmp_path / "mnt").resolve()
    folder.mkdir()
    yield folder
    end_mount(folder)


def write(file: Path) -> Path:
    with h5py.File(file, "w") as opened:
        opened["d"] = NUMBERS
        opened["g/x"] = NUMBERS
        opened.attrs["title"] = "here"
    return file


def check_reads(mountpoint: Path) -> None:
    assert (mountpoint / "d.npy").read_bytes() == npy_bytes(NUMBERS)


def check_refused(done: subprocess.CompletedProcess[str], mountpoint: Path, *words: str) -> None:
    """Exit status 1, one line on stderr that holds the words, nothing mounted, no daemon."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("h5fs: ")
    for word in words:
        assert word in lines[0]
    assert "please report" not in lines[0]
    assert not is_mounted(mountpoint)
    assert find_daemon(mountpoint) is None


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not a child is gone."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            ended, _, _ = select.select([descriptor], [], [], SECONDS)
        finally:
            os.close(descriptor)
        assert ended, "the daemon does not end"


def is_running(pid: int) -> bool:
    """Whether a process lives; one that its parent has not noticed yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Starting


@pytest.mark.semantics("M1")
def test_the_command_returns_when_the_mount_answers_and_the_daemon_goes_on(file: Path) -> None:
    with mounted(file) as mount:
        check_reads(mount.path)
        assert os.getsid(mount.pid) == mount.pid
        assert os.getsid(mount.pid) != os.getsid(0)
        for descriptor in (0, 1):
            assert os.readlink(f"/proc/{mount.pid}/fd/{descriptor}") == os.devnull
        pid = mount.pid
    wait_for_end(pid)


@pytest.mark.semantics("M1")
def test_a_pipe_on_stdout_and_stderr_ends_with_the_command(file: Path, mountpoint: Path) -> None:
    # A daemon that kept them open would let `h5fs ... | cat` wait for ever.
    done = run_h5fs(file, mountpoint, "-o", f"log={file}.log", seconds=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    check_reads(mountpoint)


@pytest.mark.semantics("M2")
def test_mount_may_be_said(file: Path, mountpoint: Path) -> None:
    assert run_h5fs("mount", file, mountpoint, "-o", f"log={file}.log").returncode == 0
    check_reads(mountpoint)
    assert run_h5fs("umount", mountpoint).returncode == 0


@pytest.mark.parametrize("name", ["-f", "--foreground"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.semantics("M3")
def test_in_the_foreground_a_signal_ends_it_with_0(
    file: Path, mountpoint: Path, number: signal.Signals, name: str
) -> None:
    with foreground(file, mountpoint, name, "-v") as daemon:
        check_reads(mountpoint)
        with contextlib.suppress(OSError):
            (mountpoint / "nothing").stat()
        daemon.send_signal(number)
        assert daemon.wait(SECONDS) == 0
        assert not is_mounted(mountpoint)
        assert find_daemon(mountpoint) is None


@pytest.mark.semantics("M3", "E3")
def test_in_the_foreground_the_log_goes_to_stderr(tmp_path: Path, mountpoint: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["lost"] = h5py.ExternalLink("gone.h5", "/x")
    with foreground(tmp_path / "f.h5", mountpoint) as daemon:
        assert os.listdir(mountpoint) == ["lost"]
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=SECONDS)
        assert "link lost leads nowhere" in errors
        assert len(errors.splitlines()) == 1


@contextlib.contextmanager
def foreground(
    file: Path, mountpoint: Path, *options: str, cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run the command in the foreground; wait until the mount answers."""
    options = options if {"-f", "--foreground"} & set(options) else ("-f", *options)
    command = [sys.executable, "-m", "h5fs", str(file), str(mountpoint), *options]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=cwd)
    try:
        deadline = time.monotonic() + SECONDS
        while not is_mounted(mountpoint):
            assert daemon.poll() is None, daemon.communicate()[1]
            assert time.monotonic() < deadline, "not mounted"
            time.sleep(0.02)
        yield daemon
    finally:
        if daemon.poll() is None:
            daemon.kill()
        daemon.wait()
        if daemon.stderr:
            daemon.stderr.close()
        if is_mounted(mountpoint):
            subprocess.run(["umount", "-l", mountpoint], check=True)


# Ending


@pytest.mark.semantics("M4", "M5")
@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "umount", "fusermount3 -u", "h5fs umount"])
def test_every_way_to_end_a_mount_ends_its_daemon(file: Path, way: str) -> None:
    with mounted(file) as mount:
        if way.startswith("SIG"):
            os.kill(mount.pid, getattr(signal, way))
        elif way == "h5fs umount":
            assert run_h5fs("umount", mount.path).returncode == 0
            assert not is_running(mount.pid)  # it has waited
        else:
            subprocess.run([*way.split(), mount.path], check=True, timeout=SECONDS)
        wait_for_end(mount.pid)
        assert not is_mounted(mount.path)
        assert find_daemon(mount.path) is None
        assert mount.log_lines() == []
        # It can be mounted again at once, and by a writer too.
        with h5py.File(file, "r+"):
            pass


@pytest.mark.semantics("M5")
def test_a_mount_in_use_stays_and_umount_says_so(file: Path) -> None:
    with mounted(file) as mount:
        with (mount.path / "d.npy").open("rb"):
            done = run_h5fs("umount", mount.path)
            assert done.returncode == 1
            assert len(done.stderr.splitlines()) == 1
            assert "busy" in done.stderr
            assert str(mount.path) in done.stderr
            check_reads(mount.path)
        assert run_h5fs("umount", mount.path).returncode == 0
        assert not is_mounted(mount.path)


@pytest.mark.semantics("M5")
def test_umount_takes_relative_paths_and_symbolic_links(file: Path, mountpoint: Path) -> None:
    (mountpoint.parent / "link").symlink_to(mountpoint)
    done = run_h5fs(file, mountpoint.parent / "link", "-o", f"log={file}.log")
    assert done.returncode == 0
    assert is_mounted(mountpoint)
    command = [sys.executable, "-m", "h5fs", "umount", "link"]
    subprocess.run(command, cwd=mountpoint.parent, check=True, timeout=SECONDS)
    assert not is_mounted(mountpoint)


@pytest.mark.semantics("M5", "M6")
@pytest.mark.parametrize("mode", ["r", pytest.param("r+", marks=needs_libfuse_3)])
def test_a_mount_whose_daemon_was_killed_can_be_taken_down(file: Path, mode: str) -> None:
    with mounted(file, options=["--mode", mode]) as mount:
        if mode == "r+":  # the kernel no longer knows the root's attributes
            (mount.path / "new").mkdir()
        os.kill(mount.pid, signal.SIGKILL)
        wait_for_end(mount.pid)
        done = run_h5fs(file, mount.path)
        assert done.returncode == 1
        assert f"h5fs umount {mount.path}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert run_h5fs("umount", mount.path).returncode == (1 if mode == "r+" else 0)
        assert not is_mounted(mount.path)
    with mounted(file) as again:
        check_reads(again.path)


# What prevents a mount


def _folder(tmp_path: Path) -> Path:
    return tmp_path


def _text(tmp_path: Path) -> Path:
    (tmp_path / "text.h5").write_text("This is not an HDF5 file.")
    return tmp_path / "text.h5"


def _cut_short(tmp_path: Path) -> Path:
    write(tmp_path / "short.h5")
    os.truncate(tmp_path / "short.h5", 700)
    return tmp_path / "short.h5"


def _damaged_root(tmp_path: Path) -> Path:
    file = write(tmp_path / "root.h5")
    content = bytearray(file.read_bytes())
    content[96:112] = b"\xff" * 16  # the root's header follows a superblock of version 0
    file.write_bytes(content)
    return file


def _dangling(tmp_path: Path) -> Path:
    (tmp_path / "link.h5").symlink_to("nothing")
    return tmp_path / "link.h5"


def _marked_as_open(tmp_path: Path) -> Path:
    """Let a writer be killed: its file stays marked as open for write."""
    program = (
        "import h5py, os, signal, sys; f = h5py.File(sys.argv[1], 'w', libver='latest');"
        "f['d'] = 1; f.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    file = tmp_path / "killed.h5"
    done = subprocess.run([sys.executable, "-c", program, file], check=False, timeout=SECONDS)
    assert done.returncode == -signal.SIGKILL
    return file


@pytest.mark.semantics("M6")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: place / "nothing.h5", ["nothing.h5", "no such file"]),
        (_folder, ["itself", "outside of it"]),
        (_text, ["text.h5", "is not an HDF5 file"]),
        (_dangling, ["link.h5", "no such file"]),
        (lambda _: Path("/dev/null"), ["not a regular file"]),
        (_cut_short, ["short.h5"]),
        (_damaged_root, ["root"]),
        (_marked_as_open, ["killed.h5", "open for write", "recover --clear-flag"]),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_mounted_is_one_line(
    tmp_path: Path, mountpoint: Path, make: Callable[[Path], Path], words: list[str]
) -> None:
    file = make(tmp_path)
    check_refused(run_h5fs(file, mountpoint, "-o", f"log={tmp_path}/log"), mountpoint, *words)


@pytest.mark.semantics("M6")
@pytest.mark.parametrize(
    "name",
    [
        "x" * 300,
        "loop.h5",
    ],
)
def test_a_path_that_the_system_refuses_is_one_line(
    tmp_path: Path, mountpoint: Path, name: str
) -> None:
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    check_refused(run_h5fs(tmp_path / name, mountpoint), mountpoint)


@pytest.mark.semantics("M6")
def test_a_fifo_is_refused_at_once(tmp_path: Path, mountpoint: Path) -> None:
    os.mkfifo(tmp_path / "fifo.h5")
    command = [sys.executable, "-m", "h5fs", str(tmp_path / "fifo.h5"), str(mountpoint)]
    command += ["-o", f"log={tmp_path}/log"]
    done = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        done.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        # Let both the command and the daemon that waits for the FIFO go.
        descriptor = os.open(tmp_path / "fifo.h5", os.O_RDWR)
        done.communicate(timeout=SECONDS)
        os.close(descriptor)
        pytest.fail("it waits")
    check_refused(
        subprocess.CompletedProcess([], done.returncode, "", done.communicate()[1]), mountpoint
    )


@pytest.mark.semantics("M6", "M12")
def test_a_file_that_a_writer_has_open_is_refused_by_name_of_the_writer(
    file: Path, mountpoint: Path
) -> None:
    program = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, file],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        log = f"log={file}.log"
        check_refused(
            run_h5fs(file, mountpoint, "-o", log),
            mountpoint, "locked by a writer", f"pid {writer.pid}", "locking=false",
        )  # fmt: skip
        assert "HDF5_USE_FILE_LOCKING=FALSE" in run_h5fs("tree", file).stderr
        listed = run_h5fs("tree", file, env={"HDF5_USE_FILE_LOCKING": "FALSE"})
        assert listed.returncode == 0, listed
        assert run_h5fs(file, mountpoint, "-o", f"{log},locking=false").returncode == 0
        check_reads(mountpoint)
        assert run_h5fs("umount", mountpoint).returncode == 0
    finally:
        writer.communicate("\n", timeout=SECONDS)
    assert run_h5fs(file, mountpoint, "-o", log).returncode == 0


@pytest.mark.semantics("M12")
@pytest.mark.parametrize(("locking", "is_locked"), [(None, True), ("true", True), ("false", False)])
def test_a_mount_keeps_writers_out_as_h5py_does(
    file: Path, locking: str | None, is_locked: bool
) -> None:
    program = "import h5py, sys; h5py.File(sys.argv[1], 'r+')"
    options = [] if locking is None else ["-o", f"locking={locking}"]
    with mounted(file, options=options):
        done = subprocess.run(
            [sys.executable, "-c", program, file], capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip
        assert (done.returncode != 0) == is_locked
        assert ("lock" in done.stderr) == is_locked


@pytest.mark.semantics("M6")
def test_a_mountpoint_that_cannot_be_used_is_one_line(file: Path, mountpoint: Path) -> None:
    place = mountpoint.parent
    log = ("-o", f"log={place}/log")
    (place / "full").mkdir()
    (place / "full/something").touch()
    missing = place / "no" / "mnt"
    check_refused(run_h5fs(file, missing, *log), missing, "no such folder", "mkdir -p")
    check_refused(run_h5fs(file, file, *log), file, "is not a folder")
    check_refused(run_h5fs(file, place / "full", *log), place / "full", "not empty", "nonempty")
    assert run_h5fs(file, place / "full", *log, "-o", "nonempty").returncode == 0
    check_reads(place / "full")
    assert run_h5fs("umount", place / "full").returncode == 0
    assert os.listdir(place / "full") == ["something"]


@pytest.mark.semantics("M27")
def test_a_mountpoint_that_is_missing_is_made_and_removed_at_the_end(
    file: Path, tmp_path: Path
) -> None:
    made = (tmp_path / "made").resolve()
    try:
        assert run_h5fs(file, made, "-o", f"log={tmp_path}/log").returncode == 0
        check_reads(made)
        assert run_h5fs("umount", made).returncode == 0
        assert not made.exists()
        check_refused(run_h5fs(tmp_path / "none.h5", made), made, "no such file")
        assert not made.exists()
    finally:
        end_mount(made)


@pytest.mark.semantics("M27")
def test_a_file_alone_is_mounted_on_its_name_without_the_ending(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    place = (tmp_path / "work" / "f").resolve()
    try:
        done = run_h5fs(file, "-o", f"log={tmp_path}/log")
        assert (done.returncode, done.stdout) == (0, "mounted on f\n"), done
        check_reads(place)
        assert run_h5fs("umount", "f").returncode == 0
        place.touch()
        done = run_h5fs(file)
        assert done.returncode == 2 and "MOUNTPOINT" in done.stderr
    finally:
        end_mount(place)


@pytest.mark.semantics("M6")
def test_a_mountpoint_in_use_stays_as_it_is(file: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as opened:
        opened["other"] = 1
    with mounted(file) as mount:
        done = run_h5fs(tmp_path / "other.h5", mount.path, "-o", f"log={tmp_path}/log")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "is mounted already" in done.stderr
        assert str(file) in done.stderr
        check_reads(mount.path)
        daemon = find_daemon(mount.path)
        assert daemon is not None and daemon.pid == mount.pid


@pytest.mark.semantics("M6")
def test_without_libfuse_it_says_what_to_install(file: Path, mountpoint: Path) -> None:
    missing = {"FUSE_LIBRARY_PATH": "/nonexistent"}
    for arguments in (["-o", f"log={file}.log"], ["-f"]):
        done = run_h5fs(file, mountpoint, *arguments, env=missing)
        check_refused(done, mountpoint, "cannot be loaded", "apt-get install")


@needs_root
@pytest.mark.semantics("M6")
def test_without_dev_fuse_it_says_what_to_do(file: Path, mountpoint: Path) -> None:
    if why_not_another_user():
        pytest.skip("unshare is missing")
    empty = mountpoint.parent / "empty"
    empty.mkdir()
    (empty / "null").touch()
    script = 'mount --bind "$1" /dev && shift && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", empty,
         sys.executable, "-m", "h5fs", file, mountpoint],
        capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    check_refused(done, mountpoint, "/dev/fuse is missing", "modprobe fuse")


@pytest.mark.semantics("M6", "M10")
def test_a_log_that_cannot_be_written_is_one_line(file: Path, mountpoint: Path) -> None:
    done = run_h5fs(file, mountpoint, "-o", f"log={file}/log")
    check_refused(done, mountpoint, "log", f"{file}/log")


@pytest.mark.semantics("M6", "M10")
@pytest.mark.skipif(os.path.exists("/dev/log"), reason="there is a syslog")
def test_a_syslog_that_is_not_there_is_one_line(file: Path, mountpoint: Path) -> None:
    done = run_h5fs(file, mountpoint, "-o", "log=syslog")
    check_refused(done, mountpoint, "syslog", "/dev/log")


@pytest.mark.semantics("M6")
def test_a_working_directory_that_is_gone_is_one_line(file: Path, mountpoint: Path) -> None:
    gone = file.parent / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", gone, sys.executable, "-m", "h5fs", "f.h5", mountpoint],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    check_refused(done, mountpoint)


# As a user without rights


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder of nobody's with an HDF5 file and a mountpoint in it."""
    with public_folder() as folder:
        write(folder / "f.h5")
        (folder / "mnt").mkdir()
        for path in folder.iterdir():
            os.chown(path, NOBODY, NOBODY)
        yield folder


@needs_another_user
@pytest.mark.semantics("M6")
def test_without_permission_to_read_the_file_it_says_so(public: Path) -> None:
    os.chown(public / "f.h5", 0, 0)
    (public / "f.h5").chmod(0o600)
    done = run_h5fs_as_nobody(public / "f.h5", public / "mnt")
    check_refused(done, public / "mnt", "no permission to read")


@needs_another_user
@pytest.mark.semantics("M6")
def test_without_permission_to_reach_the_file_it_says_so(public: Path) -> None:
    (public / "closed").mkdir(mode=0o700)
    write(public / "closed/f.h5")
    done = run_h5fs_as_nobody(public / "closed/f.h5", public / "mnt")
    check_refused(done, public / "mnt", "ermission")


@needs_another_user
@pytest.mark.semantics("M6")
def test_without_permission_for_the_mountpoint_it_says_so(public: Path) -> None:
    os.chown(public / "mnt", 0, 0)
    (public / "mnt").chmod(0o755)
    done = run_h5fs_as_nobody(public / "f.h5", public / "mnt")
    check_refused(done, public / "mnt", "no permission to mount there")
    (public / "mnt").chmod(0o700)
    done = run_h5fs_as_nobody(public / "f.h5", public / "mnt")
    check_refused(done, public / "mnt", "ermission")


@needs_another_user
@pytest.mark.semantics("M6")
def test_without_permission_for_dev_fuse_it_says_so(public: Path) -> None:
    if stat.S_IMODE(os.stat("/dev/fuse").st_mode) & 0o006:
        pytest.skip("everybody may use /dev/fuse here")
    done = run_h5fs_as_nobody(public / "f.h5", public / "mnt")
    check_refused(done, public / "mnt", "no permission to use /dev/fuse")


@needs_another_user
@pytest.mark.semantics("M1", "M5", "M6", "M10")
def test_a_user_without_rights_mounts_through_fusermount(public: Path) -> None:
    script = """
        h5fs f.h5 mnt || exit 10
        cat mnt/d.npy > copy.npy || exit 11
        id -u > who; stat -c %u mnt >> who
        XDG_STATE_HOME=$PWD/state h5fs f.h5 mnt 2> twice && exit 12
        h5fs umount mnt || exit 13
        test -e mnt/d.npy && exit 14
        PATH=/nonexistent $PYTHON -m h5fs f.h5 mnt 2> missing && exit 15
        h5fs f.h5 mnt -o allow_other 2> other && h5fs umount mnt
        exit 0
    """
    python = python_of_nobody()
    assert python is not None
    done = run_script_as_nobody(script, public, PYTHON=python)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert (public / "copy.npy").read_bytes() == npy_bytes(NUMBERS)
    assert (public / "who").read_text().split() == [str(NOBODY)] * 2
    assert "is mounted already" in (public / "twice").read_text()
    assert "fusermount3 is missing" in (public / "missing").read_text()
    refused = (public / "other").read_text().splitlines()
    assert refused == [] or (len(refused) == 1 and "user_allow_other" in refused[0])
    name = str(public / "mnt").strip("/").replace("-", "\\x2d").replace("/", "-")
    assert (public / f".local/state/h5fs/{name}.log").is_file()


@needs_another_user
@pytest.mark.semantics("M10")
def test_the_log_is_in_the_state_folder_of_the_user(public: Path) -> None:
    script = "h5fs f.h5 mnt && h5fs umount mnt && find state -type f"
    done = run_script_as_nobody(script, public, XDG_STATE_HOME=str(public / "state"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("state/h5fs/")
    assert done.stdout.endswith("mnt.log\n")


@needs_another_user
@pytest.mark.semantics("M9")
@pytest.mark.parametrize(
    ("mode", "options", "is_readable"),
    [
        (0o644, "allow_other", True),
        (0o600, "allow_other", False),
        (0o640, "allow_other", False),
        (0o600, "allow_other,umask=022", True),
        (0o644, "", False),
    ],
)
def test_nobody_reads_what_the_files_mode_denies(
    public: Path, mode: int, options: str, is_readable: bool
) -> None:
    os.chown(public / "f.h5", 0, 0)
    (public / "f.h5").chmod(mode)
    log = f"log={public}/log"
    try:
        done = run_h5fs(public / "f.h5", public / "mnt", "-o", f"{log},{options}")
        assert done.returncode == 0, done.stderr
        for command in (["cat", "mnt/d.npy"], ["ls", "mnt/g"], ["cat", "mnt/.attrs.json"]):
            tried = run_as_nobody(command[0], public / command[1])
            assert (tried.returncode == 0) == is_readable, (command, tried.stderr)
            assert is_readable or "Permission denied" in tried.stderr
        check_reads(public / "mnt")
    finally:
        end_mount(public / "mnt")


# Options


@pytest.mark.semantics("M8")
def test_options_of_fuse_are_given_to_fuse(file: Path) -> None:
    with mounted(file, options=["-o", "uid=1234,gid=5678", "-o", "umask=0277"]) as mount:
        for path, permissions in ((mount.path / "d.npy", 0o500), (mount.path / "g", 0o500)):
            status = path.stat()
            assert (status.st_uid, status.st_gid) == (1234, 5678)
            assert stat.S_IMODE(status.st_mode) == permissions
        check_reads(mount.path)


@pytest.mark.semantics("M8")
def test_options_of_fstab_do_nothing(file: Path) -> None:
    options = "defaults,noauto,nofail,_netdev,x-systemd.automount,rw,user,comment=x,relatime"
    with mounted(file, options=["-o", options]) as mount:
        check_reads(mount.path)
        assert mount.log_lines() == []


FUSE_FLAGS = (
    "allow_other default_permissions nonempty hard_remove auto_cache noauto_cache kernel_cache "
    "direct_io suid dev exec noexec atime noatime sync async dirsync big_writes no_remote_lock "
    "intr auto_unmount async_read sync_read splice_read no_splice_read splice_write "
    "no_splice_write splice_move no_splice_move allow_root max_read=4096 max_readahead=65536 "
    "max_background=8 congestion_threshold=4 entry_timeout=1 attr_timeout=1 negative_timeout=1 "
    "ac_attr_timeout=1 fsname=some\\,name"
).split()


@pytest.mark.semantics("M8")
@pytest.mark.parametrize("group", range(4))
def test_every_flag_of_fuse_is_accepted(file: Path, group: int) -> None:
    # A few together, so that it does not take a mount for each; allow_root excludes allow_other.
    options = ",".join(FUSE_FLAGS[group::4])
    with mounted(file, options=["-o", options]) as mount:
        check_reads(mount.path)


@needs_root
@pytest.mark.semantics("M8")
def test_a_line_as_in_fstab_mounts(file: Path, mountpoint: Path, tmp_path: Path) -> None:
    if shutil.which("mount.fuse3") is None and shutil.which("mount.fuse") is None:
        pytest.skip("mount.fuse is missing (package fuse3)")
    command = tmp_path / "bin/h5fs"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m h5fs "$@"\n')
    command.chmod(0o755)
    options = f"defaults,noauto,nofail,_netdev,x-gvfs-show,uid=1234,log={tmp_path}/log"
    # h5fs#FILE in fstab; mount(8) has a PATH of its own.
    done = subprocess.run(
        ["mount", "-t", "fuse", "-o", options, f"{command}#{file}", mountpoint],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_reads(mountpoint)
    assert (mountpoint / "d.npy").stat().st_uid == 1234


@pytest.mark.semantics("M7")
def test_a_value_that_fuse_does_not_take_is_wrong_usage(file: Path, mountpoint: Path) -> None:
    done = run_h5fs(file, mountpoint, "-o", f"log={file}.log,uid=abc")
    assert done.returncode == 2


# Names


ODD_NAMES = [
    b"a,b.h5", b"with space.h5", b"new\nline.h5", b"back\\slash.h5", b"\xff\xfe.h5",
    "größe €.h5".encode(), b"#comment.h5", b"\\054.h5", b"quote'\".h5", b"-o.h5", b"a=b.h5",
    b"\t.h5", b"%s.h5",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_and_mountpoints_may_have_any_name(tmp_path: Path, name: bytes) -> None:
    file = write(tmp_path / os.fsdecode(name))
    mountpoint = (tmp_path / os.fsdecode(b"mnt " + name)).resolve()
    mountpoint.mkdir()
    try:
        done = run_h5fs(file, mountpoint, "-o", f"log={tmp_path}/log")
        assert done.returncode == 0, done.stderr
        check_reads(mountpoint)
        assert find_daemon(mountpoint) is not None
        assert run_h5fs("umount", mountpoint).returncode == 0
    finally:
        end_mount(mountpoint)


def test_relative_paths_are_those_of_the_shell(file: Path, mountpoint: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened["beside"] = h5py.ExternalLink("near.h5", "/d")
    write(file.parent / "near.h5")
    command = [sys.executable, "-m", "h5fs", "f.h5", "mnt", "-o", f"log={file}.log"]
    subprocess.run(command, cwd=file.parent, check=True, timeout=SECONDS)
    check_reads(mountpoint)
    assert (mountpoint / "beside.npy").read_bytes() == npy_bytes(NUMBERS)


# The log


@needs_root
@pytest.mark.semantics("M10")
def test_the_log_of_root_is_named_after_the_mountpoint(file: Path, mountpoint: Path) -> None:
    name = str(mountpoint).strip("/").replace("-", "\\x2d").replace("/", "-")
    log = Path(f"/var/log/h5fs/{name}.log")
    try:
        assert run_h5fs(file, mountpoint).returncode == 0
        assert log.is_file()
        assert run_h5fs("umount", mountpoint).returncode == 0
    finally:
        log.unlink(missing_ok=True)


@needs_root
@pytest.mark.semantics("M10")
def test_a_long_mountpoint_has_a_log_too(file: Path, tmp_path: Path) -> None:
    mountpoint = tmp_path.joinpath(*["folder" * 10] * 5).resolve()
    mountpoint.mkdir(parents=True)
    try:
        assert run_h5fs(file, mountpoint).returncode == 0
    finally:
        end_mount(mountpoint)


@pytest.mark.semantics("M10")
def test_a_relative_log_file_is_in_the_folder_of_the_shell(file: Path, mountpoint: Path) -> None:
    name = f"{mountpoint.parent.name}.log"
    command = [sys.executable, "-m", "h5fs", str(file), str(mountpoint), "-o", f"log={name}"]
    try:
        subprocess.run(command, cwd=file.parent, check=True, timeout=SECONDS)
        assert (file.parent / name).is_file()
    finally:
        Path("/", name).unlink(missing_ok=True)


@pytest.mark.semantics("M10")
def test_v_and_debug_log_more(file: Path) -> None:
    sizes = []
    for options in ([], ["-v"], ["--debug"]):
        with mounted(file, options=options) as mount:
            check_reads(mount.path)
            with contextlib.suppress(OSError):
                (mount.path / "nothing").stat()
            sizes.append(len(mount.log_lines()))
    assert sizes[0] == 0
    assert sizes[0] <= sizes[1] < sizes[2]


# Nothing is written


WRITES: dict[str, Callable[[Path], object]] = {
    "open to write": lambda m: os.open(m / "d.npy", os.O_WRONLY),
    "open to read and write": lambda m: os.open(m / "d.npy", os.O_RDWR),
    "append": lambda m: os.open(m / "d.npy", os.O_WRONLY | os.O_APPEND),
    "truncate at open": lambda m: os.open(m / "d.npy", os.O_WRONLY | os.O_TRUNC),
    "create": lambda m: os.open(m / "new.npy", os.O_WRONLY | os.O_CREAT),
    "truncate": lambda m: os.truncate(m / "d.npy", 0),
    "mkdir": lambda m: os.mkdir(m / "new"),
    "rmdir": lambda m: os.rmdir(m / "g"),
    "unlink": lambda m: os.unlink(m / "d.npy"),
    "rename": lambda m: os.rename(m / "d.npy", m / "e.npy"),
    "link": lambda m: os.link(m / "d.npy", m / "e.npy"),
    "symlink": lambda m: os.symlink("d.npy", m / "e"),
    "chmod": lambda m: os.chmod(m / "d.npy", 0o644),
    "chown": lambda m: os.chown(m / "d.npy", 1, 1),
    "utime": lambda m: os.utime(m / "d.npy"),
    "mkfifo": lambda m: os.mkfifo(m / "fifo"),
    "setxattr": lambda m: os.setxattr(m / "d.npy", "user.x", b"1"),
    "removexattr": lambda m: os.removexattr(m / "d.npy", "user.x"),
    "np.save": lambda m: np.save(m / "new.npy", NUMBERS),
}


@pytest.mark.semantics("M11")
def test_whatever_would_write_is_erofs_and_the_file_is_the_same_after(file: Path) -> None:
    os.utime(file, ns=(1_000_000_000_123_456_789, 1_000_000_000_123_456_789))
    before = (hashlib.sha256(file.read_bytes()).digest(), file.stat().st_mtime_ns)
    with mounted(file) as mount:
        for name, write_something in WRITES.items():
            with pytest.raises(OSError) as refused:
                write_something(mount.path)
            assert refused.value.errno == errno.EROFS, name
        for path in mount.path.rglob("*"):
            if path.is_file():
                path.read_bytes()
        assert os.statvfs(mount.path).f_flag & os.ST_RDONLY
        check_reads(mount.path)
        lines = table_of_mounts().splitlines()
        line = next(line.split() for line in lines if str(mount.path) in line)
        assert (line[2], line[3].split(",")[0]) == ("fuse.h5fs", "ro")
    assert (hashlib.sha256(file.read_bytes()).digest(), file.stat().st_mtime_ns) == before


@pytest.mark.semantics("M11")
def test_rw_in_the_options_does_not_make_it_writable(file: Path) -> None:
    with mounted(file, options=["-o", "rw"]) as mount, pytest.raises(OSError) as refused:
        os.open(mount.path / "d.npy", os.O_RDWR)
    assert refused.value.errno == errno.EROFS


@pytest.mark.semantics("M12")
def test_one_file_may_be_mounted_twice(file: Path) -> None:
    with mounted(file) as first, mounted(file) as second:
        check_reads(first.path)
        check_reads(second.path)
        assert first.pid != second.pid


def test_the_tests_own_temporary_folder_is_where_mounts_are(file: Path) -> None:
    with mounted(file) as mount:
        assert os.fsencode(mount.path.resolve()) in mounts_below(
            Path(tempfile.gettempdir()).resolve()
        )


@pytest.mark.semantics("M23")
@pytest.mark.parametrize(
    ("options", "kibibytes"),
    [([], 2048), (["-o", "max_readahead=65536"], 64), (["-o", "max_readahead=4194304"], 4096)],
)
def test_how_far_the_kernel_reads_ahead(file: Path, options: list[str], kibibytes: int) -> None:
    with mounted(file, options=options) as mount:
        device = mount.path.stat().st_dev
        limit = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        may_raise = os.access(limit, os.W_OK)
        assert int(limit.read_text()) == (kibibytes if may_raise else min(kibibytes, 128))


@needs_another_user
@pytest.mark.semantics("M23")
def test_of_another_user_s_mount_the_kernel_reads_ahead_as_far_as_the_system_says(
    public: Path,
) -> None:
    script = (
        "h5fs f.h5 mnt && cat /sys/class/bdi/$(mountpoint -d mnt)/read_ahead_kb && "
        "cat mnt/d.npy >/dev/null; h5fs umount mnt"
    )
    done = run_script_as_nobody(script, public)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) <= 128

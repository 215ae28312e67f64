"""How mounts of ``h5fs.mount`` end that do not end as their program wished."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import run_h5fs
from support.waiting import PATIENCE_SECONDS

import h5fs
from h5fs import api
from h5fs.daemon.registry import find_daemon
from h5fs.errors import MountError
from h5fs.system.kernel_mounts import find_mount

INTERRUPTED = """
import os, signal, sys, threading, time, h5fs

def hit_soon():
    while not os.path.exists("mnt"):  # the command has begun
        time.sleep(0.001)
    os.killpg(0, signal.SIGINT)

file, what = sys.argv[1:]
try:
    if what == "mount":
        threading.Thread(target=hit_soon).start()
        mount = h5fs.mount(file, "mnt", mode="r+")
        time.sleep(60)
    else:
        mount = h5fs.mount(file, "mnt", mode="r+")
        threading.Timer(0.02, os.killpg, (0, signal.SIGINT)).start()
        mount.unmount()
        time.sleep(60)
except KeyboardInterrupt:
    print(os.path.exists("mnt"))
    os._exit(0)
"""


def run_beside_a_file(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Python's, in a session of its own, in a folder with the file f.h5."""
    with h5py.File(folder / "f.h5", "w") as opened:
        opened["x"] = np.arange(3)
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True,
        timeout=240, check=False, start_new_session=True,
    )  # fmt: skip


@pytest.mark.semantics("C6")
@pytest.mark.parametrize("what", ["mount", "unmount"])
def test_ctrl_c_is_raised_when_nothing_is_mounted_any_more(tmp_path: Path, what: str) -> None:
    done = run_beside_a_file(tmp_path, INTERRUPTED, "f.h5", what)
    assert (done.stdout, done.returncode) == ("False\n", 0), done
    assert os.listdir(tmp_path) == ["f.h5"]


# A program whose commands get a Ctrl-C between two steps of a mount's beginning.
INTERRUPTED_BETWEEN = """
import os, signal, sys
from h5fs.cli.main import main
from h5fs.daemon import mounting

def after(function):
    def interrupted(*arguments, **keywords):
        result = function(*arguments, **keywords)
        if result is None or result:  # in the child of fork it is 0
            print(result or "", flush=True)
            os.kill(os.getpid(), signal.SIGINT)
        return result
    return interrupted

place, name = sys.argv[1].split(":")
module = {"os": os, "mounting": mounting}[place]
setattr(module, name, after(getattr(module, name)))
sys.exit(main(["mount", "--mode", "r+", "f.h5", "mnt"]))
"""


@pytest.mark.semantics("C6")
@pytest.mark.parametrize(
    ("step", "status"),
    [
        ("os:mkdir", 130),
        ("mounting:check_mount", 130),
        ("os:fork", 130),
        ("mounting:_check_answer", 0),
    ],
)
def test_ctrl_c_between_two_steps_of_a_mount_leaves_nothing_or_the_mount(
    tmp_path: Path, step: str, status: int
) -> None:
    done = run_beside_a_file(tmp_path, INTERRUPTED_BETWEEN, step)
    found = sorted(os.listdir(tmp_path))
    daemon = done.stdout.strip()
    assert not daemon or not Path("/proc", daemon).exists()
    if not status:
        run_h5fs("umount", tmp_path / "mnt")
    assert (done.returncode, done.stderr) == (status, "")
    assert found == (["f.h5"] if status else ["f.h5", "f.h5.h5fs-log", "mnt"])


# The same, where it comes before the command has begun, or as soon as it has.
INTERRUPTED_AT_ITS_BEGINNING = """
import os, signal, subprocess, sys, h5fs

moment, what = sys.argv[1:]
begin, begun = subprocess.Popen, []

def interrupted(*arguments, **keywords):
    subprocess.Popen = begin
    if moment == "before":
        raise KeyboardInterrupt
    begun.append(begin(*arguments, **keywords))
    signal.raise_signal(signal.SIGINT)
    return begun[0]

try:
    if what == "unmount":
        mount = h5fs.mount("f.h5", "mnt", mode="r+")
    subprocess.Popen = interrupted
    if what == "unmount":
        mount.unmount()
    h5fs.mount("f.h5", "mnt", mode="r+")
except KeyboardInterrupt:
    assert all(process.poll() is not None for process in begun)
    print(os.path.exists("mnt"), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    os._exit(0)
"""


@pytest.mark.semantics("C6")
@pytest.mark.parametrize("what", ["mount", "unmount"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_at_the_beginning_of_the_command_leaves_nothing_mounted(
    tmp_path: Path, moment: str, what: str
) -> None:
    done = run_beside_a_file(tmp_path, INTERRUPTED_AT_ITS_BEGINNING, moment, what)
    assert (done.stdout, done.stderr, done.returncode) == ("False True\n", "", 0)
    assert os.listdir(tmp_path) == ["f.h5"]


@pytest.mark.semantics("C6")
def test_what_could_not_be_unmounted_can_be_unmounted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = h5fs.mount(tmp_path / "f.h5", mode="x")
    with monkeypatch.context() as patched:
        patched.setattr(api, "isolated_command", lambda *words: ["false"])
        with pytest.raises(MountError):
            mount.unmount()
    assert repr(mount).endswith(", mounted>")
    mount.unmount()
    assert repr(mount).endswith("unmounted>") and not mount.path.exists()


@pytest.mark.semantics("C6")
def test_threads_that_unmount_all_wait_for_the_end(tmp_path: Path) -> None:
    mount = h5fs.mount(tmp_path / "f.h5", mode="x")

    def unmount(_: int) -> bool:
        mount.unmount()
        return find_mount(mount.path) is None

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(unmount, range(4)))


@pytest.mark.semantics("C6")
def test_a_process_that_is_forked_in_a_block_does_not_end_its_mount(tmp_path: Path) -> None:
    with h5fs.mount(tmp_path / "f.h5", mode="x") as path:
        mount = h5fs.Mount(path, is_made=False, writes=True, keeps=True)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=mount.__exit__, args=(None, None, None))
        child.start()
        child.join(PATIENCE_SECONDS)
        assert child.exitcode == 0 and find_mount(path) is not None


@pytest.mark.semantics("C6")
def test_an_empty_mountpoint_is_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(MountError, match="empty name"):
        h5fs.mount(tmp_path / "f.h5", "", mode="x")


@pytest.mark.semantics("C6", "M5", "U4")
def test_changes_of_a_killed_daemon_are_told_with_the_command_that_brings_them_in(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a b.h5"
    mount = h5fs.mount(file, tmp_path / "mnt", mode="x")
    np.save(mount.path / "x.npy", np.arange(3))
    daemon = find_daemon(mount.path)
    assert daemon is not None
    os.kill(daemon.pid, signal.SIGKILL)
    command = f"h5fs recover '{file}'"
    with pytest.raises(MountError, match=f"its daemon was killed.*{command} brings it in$"):
        mount.unmount()
    mount.unmount()
    assert not mount.path.exists()
    run_h5fs("recover", file)
    with h5py.File(file) as opened:
        assert list(opened["x"]) == [0, 1, 2]


@pytest.mark.semantics("C6", "M5")
def test_what_was_left_when_another_program_unmounted_is_an_error_at_the_end(
    tmp_path: Path,
) -> None:
    mount = h5fs.mount(tmp_path / "f.h5", mode="x")
    daemon = find_daemon(mount.path)
    assert daemon is not None
    process = os.pidfd_open(daemon.pid)
    with pytest.raises(OSError):
        (mount.path / "bad.npy").write_bytes(b"nonsense")
    subprocess.run(["fusermount3", "-u", mount.path], check=True)
    select.select([process], [], [], PATIENCE_SECONDS)
    os.close(process)
    with pytest.raises(MountError, match=r"/bad\.npy is not in the HDF5 file: not a \.npy file"):
        mount.unmount()


def test_a_mount_is_not_sent_to_another_process(tmp_path: Path) -> None:
    mount = h5fs.Mount(tmp_path, is_made=False, writes=False, keeps=True)
    with pytest.raises(TypeError, match=r"pass mount\.path"):
        pickle.dumps(mount)


@pytest.mark.semantics("C6", "C7")
def test_at_the_end_of_the_program_it_needs_no_warning_that_it_uses_the_mount(
    tmp_path: Path,
) -> None:
    program = """
import h5fs, numpy as np
mount = h5fs.mount("f.h5", mode="a")
np.save(mount.path / "x.npy", np.arange(3))
mapped = np.load(mount.path / "x.npy", mmap_mode="r+")
mapped[0] = 7
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    with h5fs.mount(tmp_path / "f.h5") as path:
        assert list(np.load(path / "x.npy")) == [7, 1, 2]


@pytest.mark.semantics("C6")
def test_a_warning_names_the_line_of_the_program(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="is in use") as told:  # noqa: SIM117
        with h5fs.mount(tmp_path / "f.h5", mode="x") as path:
            np.save(path / "x.npy", np.arange(3))
            held = (path / "x.npy").open("rb")
    held.close()
    mount = h5fs.mount(tmp_path / "f.h5", mode="r+")
    held = (mount.path / "x.npy").open("rb")
    with pytest.warns(RuntimeWarning, match="is in use") as told_again:
        mount.unmount()
    held.close()
    assert {each.filename for each in [*told, *told_again]} == {__file__}

"""``h5fs status`` of real mounts: the values are right, and nobody is disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.hostile import HEAP_LOOPS, write_looping_heap
from support.mounts import end_mount, mounted, run_h5fs
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
from support.waiting import PATIENCE_SECONDS, wait_until
from support.watching import find_workers
from support.writing import REFUSED, run_shell, shell

CHUNK_BYTES = 64 * 2**10
PAGE_BYTES = 4096
SECONDS = 240

CONNECT = """
import socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.settimeout(20)
try:
    client.connect(sys.argv[1])
    print(client.recv(100))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the records and sockets of this test's daemons."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "h5fs"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        numbers = np.arange(2**20)
        opened["plain"] = numbers
        opened.create_dataset("zip", data=numbers, chunks=(CHUNK_BYTES // 8,), compression="gzip")
        opened["text"] = ["a", "b"]
    return path


@pytest.fixture
def described(file: Path) -> Path:
    """The file, with an attribute of its root group."""
    with h5py.File(file, "a") as opened:
        opened.attrs["old"] = 1
    return file


def status_of(mountpoint: Path) -> dict[str, Any]:
    done = run_h5fs("status", mountpoint, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done
    (found,) = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def opened_at_random(path: Path) -> Iterator[int]:
    """Open a file of which the kernel reads what it is asked for and no more."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.semantics("C20")
def test_what_a_mount_is_and_what_it_was_asked(file: Path) -> None:
    with mounted(file) as mount:
        before = status_of(mount.path)
        assert (before["mountpoint"], before["file"]) == (str(mount.path), str(file))
        assert (before["mode"], before["pid"], before["problem"]) == ("r", mount.pid, None)
        assert before["drafts"] is before["uncommitted"] is None
        assert 0 < before["uptime_seconds"] < 120
        with opened_at_random(mount.path / "plain.npy") as descriptor:
            for page in range(20):
                os.pread(descriptor, PAGE_BYTES, 50 * page * PAGE_BYTES)
            assert status_of(mount.path)["open_files"] == 1
        with pytest.raises(FileNotFoundError):
            (mount.path / "none.npy").stat()
        wait_until(lambda: status_of(mount.path)["open_files"] == 0)  # the kernel lets go later
        after = status_of(mount.path)
        read = after["operations"]["read"]
        assert (read["count"], read["errors"]) == (20, 0)
        assert after["operations"]["open"]["count"] == 1
        assert after["operations"]["getattr"]["errors"] >= 1
        for found in after["operations"].values():
            times = [found[f"{name}_us"] for name in ("p50", "p90", "p99", "max")]
            assert times == sorted(times) and times[0] > 0
        assert after["uptime_seconds"] > before["uptime_seconds"]


@pytest.mark.semantics("C20")
def test_the_cache_has_what_was_read_before(file: Path) -> None:
    with mounted(file, options=["-o", "cache=4M"]) as mount:
        with opened_at_random(mount.path / "zip.npy") as descriptor:
            for chunk in (100, 20, 100, 20, 60):
                # A page in the middle of a chunk; afterwards the kernel has it no more.
                os.pread(descriptor, PAGE_BYTES, chunk * CHUNK_BYTES + CHUNK_BYTES // 2)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        cache = status_of(mount.path)["cache"]
        assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (2, 3, 0.4)
        assert 3 * CHUNK_BYTES <= cache["used_bytes"] <= cache["limit_bytes"] == 4 * 2**20


@pytest.mark.semantics("C20")
def test_a_worker_that_was_killed_has_been_replaced(file: Path) -> None:
    with mounted(file, options=["-o", "workers=1"]) as mount:
        (killed,) = status_of(mount.path)["workers"]["pids"]
        assert [killed] == find_workers(mount.pid)
        os.kill(killed, signal.SIGKILL)
        assert np.load(mount.path / "text.npy").tolist() == ["a", "b"]
        workers = status_of(mount.path)["workers"]
        assert workers["pids"] == find_workers(mount.pid) != [killed]
        assert (workers["usual_count"], workers["replaced_count"]) == (1, 1)


@pytest.mark.semantics("C20")
def test_an_object_in_quarantine_is_named_with_the_reason(tmp_path: Path) -> None:
    write_looping_heap(tmp_path / "f.h5", HEAP_LOOPS[0])
    with mounted(tmp_path / "f.h5", options=["-o", "deadline=1"]) as mount:
        with pytest.raises(OSError, match="Input/output"):
            (mount.path / "loop.npy").read_bytes()
        found = status_of(mount.path)
        assert found["quarantined_count"] == 1
        (subject,) = found["quarantined"]
        assert (subject["file"], subject["path"]) == (found["file"], "/loop")
        assert "no answer within 1 s" in subject["reason"]
        assert "/loop: no answer within 1 s" in run_h5fs("status", mount.path).stdout


@pytest.mark.semantics("C23")
def test_what_is_written_is_a_draft_then_uncommitted_then_neither(file: Path) -> None:
    with mounted(file, options=["--mode", "r+", "-o", "durability=off"]) as mount:
        found = status_of(mount.path)
        assert found["mode"] == "r+"
        assert (found["uncommitted"]["changes"], found["uncommitted"]["bytes"]) == (0, 0)
        data = npy_bytes(np.arange(1000))
        with (mount.path / "new.npy").open("wb", buffering=0) as draft:
            draft.write(data[:5000])
            assert status_of(mount.path)["drafts"] == {"count": 1, "bytes": 5000}
            draft.write(data[5000:])
        found = status_of(mount.path)
        assert found["drafts"] == {"count": 0, "bytes": 0}
        # An array is handed over with its header.
        assert found["uncommitted"]["bytes"] == len(data)
        assert found["uncommitted"]["changes"] >= 1
        assert found["uncommitted"]["oldest_seconds"] > 0 < found["uncommitted"]["log_bytes"]
        folder = os.open(mount.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        found = status_of(mount.path)["uncommitted"]
        assert (found["changes"], found["bytes"], found["oldest_seconds"]) == (0, 0, None)


@pytest.mark.semantics("C20")
def test_people_get_text_with_colours_where_they_ask_for_them(file: Path) -> None:
    with mounted(file) as mount:
        (mount.path / "zip.npy").read_bytes()
        done = run_h5fs("status")
        assert "\033" not in done.stdout
        for text in (str(mount.path), f"pid {mount.pid}", "mode r", "hits (", "getattr", "p99"):
            assert text in done.stdout, text
        link = mount.path.parent / "link"
        link.symlink_to("mnt")
        for name in (link, f"{mount.path}/", mount.path.parent / "." / "mnt"):
            assert f"pid {mount.pid}" in run_h5fs("status", name).stdout
        assert "\033[" in run_h5fs("status", mount.path, "--color", "always").stdout


@pytest.mark.semantics("C21")
def test_what_is_no_h5fs_mount_is_an_error_of_one_line(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "none", "/proc"):
        done = run_h5fs("status", name)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert f"{name} is no h5fs mount" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.semantics("C21")
def test_a_stuck_daemon_is_named_after_five_seconds(file: Path) -> None:
    with mounted(file) as mount, mounted(file) as other:
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            done = run_h5fs("status", mount.path)
            assert 5 <= time.monotonic() - start < PATIENCE_SECONDS
            assert done.returncode == 1
            assert f"pid {mount.pid}) is stuck" in done.stderr
            everything = run_h5fs("status", "--json")
            assert everything.returncode == 1
            found = {each["mountpoint"]: each for each in json.loads(everything.stdout)}
            assert "stuck" in found[str(mount.path)]["problem"]
            assert found[str(other.path)]["problem"] is None
        finally:
            os.kill(mount.pid, signal.SIGCONT)
        assert status_of(mount.path)["problem"] is None


@pytest.mark.semantics("C22")
def test_garbage_disturbs_nobody(file: Path, runtime: Path, monkeypatch: Any) -> None:
    with mounted(file) as mount, contextlib.ExitStack() as clients:
        monkeypatch.chdir(runtime)  # the address of a socket is short
        for number in range(24):
            client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            with contextlib.suppress(OSError):
                client.connect(f"{mount.pid}.sock")
                if number % 3:
                    client.sendall(os.urandom(100_000))
                if number % 3 == 1:
                    client.close()
        assert np.load(mount.path / "zip.npy")[-1] == 2**20 - 1
        assert status_of(mount.path)["problem"] is None
        assert mount.log_lines() == []


@pytest.mark.skipif(
    why_not_another_user() is not None or python_of_nobody() is None,
    reason="needs root and a Python that another user may run",
)
@pytest.mark.semantics("C22")
def test_another_user_is_told_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with public_folder() as public:
        runtime = public / "runtime"
        runtime.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        with mounted(file, options=["-o", "allow_other"]) as mount:
            python, path = python_of_nobody(), runtime / "h5fs" / f"{mount.pid}.sock"
            assert python is not None
            done = run_h5fs_as_nobody("status", mount.path, env={"XDG_RUNTIME_DIR": str(runtime)})
            assert (done.returncode, done.stdout) == (1, ""), done
            assert "PermissionError" in run_as_nobody(python, "-c", CONNECT, path).stdout
            # Also where the way is open, the socket tells only whom it may.
            path.parent.chmod(0o755)
            path.chmod(0o666)
            assert run_as_nobody(python, "-c", CONNECT, path).stdout == "b''\n"
            assert status_of(mount.path)["pid"] == mount.pid


@pytest.mark.semantics("C22")
def test_nothing_is_left_after_the_mount_however_it_ended(file: Path, runtime: Path) -> None:
    with mounted(file) as mount:
        names = {f"{mount.pid}.json", f"{mount.pid}.sock"}
        assert {each.name for each in runtime.iterdir()} == names
        assert run_h5fs("umount", mount.path).returncode == 0
        assert list(runtime.iterdir()) == []
    with mounted(file) as mount:
        os.kill(mount.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{mount.pid}/exe").exists())
        assert len(list(runtime.iterdir())) == 2
        done = run_h5fs("status", mount.path)
        assert done.returncode == 1 and "or gone" in done.stderr
        assert list(runtime.iterdir()) == []
        end_mount(mount.path)


@pytest.mark.semantics("C22", "M5")
def test_a_stale_record_whose_number_a_stranger_has_keeps_nobody_waiting(
    file: Path, runtime: Path
) -> None:
    with mounted(file) as mount, subprocess.Popen(["sleep", "100"]) as stranger:
        os.kill(mount.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{mount.pid}/exe").exists())
        (runtime / f"{mount.pid}.json").rename(runtime / f"{stranger.pid}.json")
        try:
            done = run_h5fs("umount", mount.path)
            assert (done.returncode, done.stderr) == (0, "")
        finally:
            stranger.kill()
        assert list(runtime.iterdir()) == []


@pytest.mark.semantics("C20", "M5")
def test_a_daemon_is_known_in_any_environment_and_after_a_logout(
    file: Path, runtime: Path, tmp_path: Path
) -> None:
    elsewhere = {"XDG_RUNTIME_DIR": "/nowhere"}
    with mounted(file, options=["--mode", "r+"]) as mount:
        np.save(mount.path / "new.npy", np.arange(3))
        shutil.rmtree(runtime)
        for environment in ({}, elsewhere):
            done = run_h5fs("status", mount.path, "--json", env=environment)
            (found,) = json.loads(done.stdout)
            assert (found["pid"], found["problem"]) == (mount.pid, None)
        assert run_h5fs("umount", mount.path, env=elsewhere).returncode == 0
        assert not Path(f"/proc/{mount.pid}/exe").exists()
        assert not file.with_name("f.h5.h5fs-log").exists()


@pytest.mark.skipif(
    why_not_another_user() is not None or python_of_nobody() is None,
    reason="needs root and a Python that another user may run",
)
@pytest.mark.parametrize("kind", ["folder", "link"])
@pytest.mark.semantics("C22")
def test_what_somebody_else_planted_in_tmp_stops_no_mount_and_harms_nothing(
    file: Path, kind: str
) -> None:
    with public_folder("/var/tmp") as public:
        shutil.copy(file, public / "f.h5")
        os.chown(public / "f.h5", NOBODY, NOBODY)
        for name in ("mnt", "tmp", "precious"):
            (public / name).mkdir()
            os.chown(public / name, NOBODY, NOBODY)
        (public / "tmp").chmod(0o1777)
        (public / "precious/1.json").touch()
        planted = public / "tmp" / f"h5fs-{NOBODY}"
        if kind == "folder":
            planted.mkdir(0o755)
        else:
            planted.symlink_to(public / "precious")
        script = (
            "unset XDG_RUNTIME_DIR; trap 'umount -l mnt 2>/dev/null' EXIT\n"
            "h5fs f.h5 mnt && h5fs status mnt --json && h5fs umount mnt && h5fs status"
        )
        done = run_script_as_nobody(script, public, before=f"mount --bind {public}/tmp /tmp")
        assert done.returncode == 0, done
        document, _, rest = done.stdout.rpartition("]")
        assert json.loads(document + "]")[0]["problem"] is None
        assert rest.strip() == "no h5fs mounts"
        assert (public / "precious/1.json").exists()


@pytest.mark.skipif(
    why_not_another_user() is not None or python_of_nobody() is None,
    reason="needs root and a Python that another user may run",
)
@pytest.mark.semantics("C20", "M5")
def test_root_is_told_of_another_user_s_mount_and_waits_for_its_daemon(
    file: Path, tmp_path: Path
) -> None:
    with public_folder() as public:
        shutil.copy(file, public / "f.h5")
        (public / "mnt").mkdir()
        for name in ("f.h5", "mnt"):
            os.chown(public / name, NOBODY, NOBODY)
        # As after `su`, which keeps root's variable.
        script = (
            f"trap 'umount -l mnt 2>/dev/null' EXIT; XDG_RUNTIME_DIR={tmp_path}\n"
            f"h5fs f.h5 mnt --mode r+ || exit 10\n"
            "touch ready; while [ ! -e go ]; do sleep 0.1; done; test ! -e f.h5.h5fs-log"
        )
        as_root = (
            f"(cd {public}; while [ ! -e ready ]; do sleep 0.1; done; "
            f"{{ {sys.executable} -m h5fs status mnt --json > told; "
            f"{sys.executable} -m h5fs umount mnt; }} 2> said; echo $? > status; touch go) &"
            " true"
        )
        done = run_script_as_nobody(script, public, before=f"eval {shlex.quote(as_root)}")
        said = (public / "said").read_text()
        assert (done.returncode, said) == (0, ""), (done, said)
        assert (public / "status").read_text() == "0\n"
        (found,) = json.loads((public / "told").read_text())
        assert (found["mountpoint"], found["problem"]) == (str(public / "mnt"), None)


@pytest.mark.semantics("C20")
def test_the_files_of_a_folder_are_told_of_together(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(file, folder / "one.h5")
    write_looping_heap(folder / "two.h5", HEAP_LOOPS[0])
    with mounted(folder, options=["-o", "deadline=1,cache=8M"]) as mount:
        found = status_of(mount.path)
        assert (found["file"], found["workers"]["pids"]) == (str(folder), [])
        (mount.path / "one.h5/zip.npy").read_bytes()
        with pytest.raises(OSError, match="Input/output"):
            (mount.path / "two.h5/loop.npy").read_bytes()
        assert np.load(mount.path / "two.h5/z/text.npy").size  # by the worker that has replaced it
        found = status_of(mount.path)
        assert len(found["workers"]["pids"]) == 2 == found["workers"]["usual_count"]
        assert found["cache"]["misses"] > 0
        (subject,) = found["quarantined"]
        assert (subject["file"], subject["path"]) == (str(folder / "two.h5"), "/loop")


@pytest.mark.semantics("C20")
def test_counts_go_on_when_the_file_was_replaced(file: Path, tmp_path: Path) -> None:
    with mounted(file) as mount:
        (mount.path / "zip.npy").read_bytes()
        before = status_of(mount.path)
        shutil.copy(file, tmp_path / "next")
        os.replace(tmp_path / "next", file)

        def is_new() -> bool:
            assert (mount.path / "text.npy").exists()
            return status_of(mount.path)["cache"]["used_bytes"] == 0

        wait_until(is_new)
        after = status_of(mount.path)
        assert after["cache"]["misses"] == before["cache"]["misses"] > 0
        assert set(after["workers"]["pids"]).isdisjoint(before["workers"]["pids"])
        assert after["cache"]["limit_bytes"] == before["cache"]["limit_bytes"]


def leave_nonsense(mountpoint: Path) -> None:
    (mountpoint / "bad.npy").touch()
    with pytest.raises(OSError), (mountpoint / "bad.npy").open("wb") as opened:
        opened.write(b"nonsense")


@pytest.mark.semantics("M5")
def test_umount_tells_what_is_not_in_the_hdf5_file(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]) as mount:
        leave_nonsense(mount.path)
        done = run_h5fs("umount", mount.path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()  # the reason and the place
        saved = f"{file}.h5fs-left/bad.npy"
        assert f"/bad.npy is not in the HDF5 file: not a .npy file; saved as {saved}" in line
        assert run_h5fs("status", mount.path).stderr.count("\n") == 1  # and not a second time


@pytest.mark.semantics("M5")
def test_what_nobody_was_told_status_tells_until_it_is_asked_about_the_mount(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]) as mount:
        leave_nonsense(mount.path)
        daemon = os.pidfd_open(mount.pid)
        subprocess.run(["fusermount3", "-u", mount.path], check=True, timeout=SECONDS)
        select.select([daemon], [], [], SECONDS)
        os.close(daemon)
        text = f"{mount.path} has ended: /bad.npy is not in the HDF5 file"
        for words in (["status"], ["status", "--json"]):
            told = run_h5fs(*words).stderr
            assert text in told
            assert f"or until you run: h5fs status {mount.path}" in told
        assert text in run_h5fs("status", mount.path).stderr
        for words in (["status"], ["status", mount.path]):
            assert text not in run_h5fs(*words).stderr


@pytest.mark.semantics("M5", "R18")
def test_umount_tells_what_a_shell_said_nothing_of(described: Path) -> None:
    with mounted(described, options=["--mode", "r+"]) as mount:
        before = (mount.path / ".attrs.json").read_bytes()
        assert shell("echo '{bad' > .attrs.json", mount.path) == ""
        assert (mount.path / ".attrs.json").read_bytes() == before
        done = run_h5fs("umount", mount.path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert f"{mount.path} has ended: /.attrs.json{REFUSED}not JSON: " in line
        assert line.endswith(f"; saved as {described}.h5fs-left/.attrs.json")
    assert Path(f"{described}.h5fs-left/.attrs.json").read_text() == "{bad\n"


@pytest.mark.semantics("M5", "R18")
def test_umount_tells_what_a_program_took_away_after_a_refused_rename(described: Path) -> None:
    with mounted(described, options=["--mode", "r+"]) as mount:
        assert "cannot rename" in run_shell("sed -i 's/{/{{/' .attrs.json", mount.path).stderr
        assert [each.name for each in mount.path.iterdir() if each.name.startswith("sed")] == []
        done = run_h5fs("umount", mount.path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert f"{mount.path} has ended: /.attrs.json{REFUSED}not JSON: " in line
        assert line.endswith(f"; saved as {described}.h5fs-left/.attrs.json")
    assert Path(f"{described}.h5fs-left/.attrs.json").read_text().startswith("{{")


@pytest.mark.semantics("M5", "R18")
def test_umount_says_nothing_of_what_was_corrected(described: Path) -> None:
    with mounted(described, options=["--mode", "r+"]) as mount:
        shell("echo '{bad' > .attrs.json; echo '{\"good\": 1}' > .attrs.json", mount.path)
        done = run_h5fs("umount", mount.path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with h5py.File(described) as opened:
        assert dict(opened.attrs) == {"good": 1}
    assert not Path(f"{described}.h5fs-left").exists()


@pytest.mark.semantics("M5", "R18")
def test_the_next_status_tells_what_was_refused(described: Path) -> None:
    with mounted(described, options=["--mode", "r+"]) as mount:
        shell("echo '{bad' > .attrs.json", mount.path)
        daemon = os.pidfd_open(mount.pid)
        subprocess.run(["fusermount3", "-u", mount.path], check=True, timeout=SECONDS)
        select.select([daemon], [], [], SECONDS)
        os.close(daemon)
        assert f"/.attrs.json{REFUSED}" in run_h5fs("status", mount.path).stderr


@pytest.mark.semantics("M5")
def test_umount_has_a_line_for_each_of_many_files(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]) as mount:
        shell("for i in {1..90}; do echo bad > $i.npy 2>/dev/null || true; done", mount.path)
        done = run_h5fs("umount", mount.path)
        for number in range(1, 91):
            assert f"/{number}.npy is not in the HDF5 file" in done.stderr, number
        assert len(done.stderr.splitlines()) == 90


@pytest.mark.semantics("C20", "C26")
def test_refusals_are_in_the_status_and_the_log_is_named_and_shown(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]) as mount:
        with pytest.raises(OSError):
            (mount.path / ".attrs.json").write_text("{bad")
        found = status_of(mount.path)
        assert found["log"] == str(mount.log)
        (message,) = found["messages"]
        assert ".attrs.json: Invalid argument" in message["text"]
        assert abs(message["seconds"] - time.time()) < 120
        assert ".attrs.json: Invalid argument" in run_h5fs("status", mount.path).stdout
        assert run_h5fs("log", mount.path).stdout == mount.log.read_text()


@pytest.mark.semantics("C26")
def test_the_log_is_followed_until_the_mount_ends(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]) as mount:
        following = subprocess.Popen(
            [sys.executable, "-m", "h5fs", "log", "-f", mount.path],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            with pytest.raises(OSError):
                (mount.path / ".attrs.json").write_text("{bad")
            assert following.stdout is not None
            assert ".attrs.json: Invalid argument" in following.stdout.readline()
            run_h5fs("umount", mount.path)
            following.communicate(timeout=SECONDS)
            assert following.returncode == 0
        finally:
            following.kill()

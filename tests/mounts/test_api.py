"""``h5fs.mount`` for Python programs."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import select
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import end_mount
from support.waiting import PATIENCE_SECONDS
from support.writing import REFUSED

import h5fs
from h5fs.daemon.registry import find_daemon
from h5fs.errors import MountError
from h5fs.system.kernel_mounts import find_mount


@pytest.mark.semantics("C6")
def test_a_block_mounts_a_file_and_what_it_wrote_is_there_after_it(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5fs.mount(file, mode="a", compression="gzip:1", xattr=False) as path:
        np.save(path / "x.npy", np.arange(1000))
        assert find_mount(path.resolve()) is not None
    assert not path.exists()
    with h5py.File(file) as opened:
        assert opened["x"].compression == "gzip"
        assert (opened["x"][()] == np.arange(1000)).all()


@pytest.mark.semantics("C6")
def test_an_exception_in_the_block_unmounts_and_loses_nothing(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with (
        pytest.raises(ZeroDivisionError),
        h5fs.mount(tmp_path / "f.h5", mountpoint, mode="x") as path,
    ):
        np.save(path / "x.npy", np.arange(3))
        raise ZeroDivisionError
    assert find_mount(mountpoint) is None
    with h5py.File(tmp_path / "f.h5") as opened:
        assert opened["x"][2] == 2


@pytest.mark.semantics("C6")
def test_keywords_and_the_mapping_of_options_are_one(tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    with h5fs.mount(file, mode="x", options={"compression": "gzip"}, chunks="2x3") as path:
        np.save(path / "x.npy", np.zeros((4, 6)))
    with h5py.File(file) as opened:
        assert (opened["x"].compression, opened["x"].chunks) == ("gzip", (2, 3))
    with (
        pytest.raises(MountError, match="did you mean cache"),
        h5fs.mount(
            file,
            chace="1M",  # type: ignore[call-arg]
        ),
    ):
        pass


def test_a_file_that_is_not_there_is_an_error_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="no such file"), h5fs.mount(tmp_path / "none.h5"):
        pass


@pytest.mark.semantics("C6")
def test_an_array_that_is_mapped_outlives_the_block_and_nothing_stays_mounted(
    tmp_path: Path,
) -> None:
    numbers = np.arange(100_000)
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["x"] = numbers
    with h5fs.mount(tmp_path / "f.h5") as path:
        mapped = np.load(path / "x.npy", mmap_mode="r")
    assert find_mount(path) is None and not path.exists()
    assert (mapped == numbers).all()


@pytest.mark.semantics("C6", "M5", "U6")
def test_a_mount_that_writes_and_is_in_use_at_the_end_warns_and_loses_nothing(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["x"] = np.arange(3)
    with (
        pytest.warns(RuntimeWarning, match=r"^[^ ]*/mnt is in use; .*last use; .*del "),
        h5fs.mount(tmp_path / "f.h5", tmp_path / "mnt", mode="r+") as path,
    ):
        np.save(path / "y.npy", np.arange(5))
        held = (path / "x.npy").open("rb")
        found = find_daemon(path)
    assert find_mount(path) is None and found is not None
    pid = found.pid
    daemon = os.pidfd_open(pid)
    with pytest.raises(
        MountError, match=rf"pid {pid}\), which had it .* still use that.*kill {pid}$"
    ):
        h5fs.mount(tmp_path / "f.h5", tmp_path / "again")
    assert held.read()[-24:] == np.arange(3).tobytes()
    held.close()
    ended, _, _ = select.select([daemon], [], [], 30)
    os.close(daemon)
    assert ended
    with h5py.File(tmp_path / "f.h5") as opened:
        assert list(opened["y"]) == [0, 1, 2, 3, 4]


@pytest.mark.semantics("C6")
def test_a_mount_has_a_handle_and_ends_once(tmp_path: Path) -> None:
    mount = h5fs.mount(tmp_path / "f.h5", tmp_path / "mnt", mode="x")
    assert repr(mount) == f"<h5fs.Mount '{tmp_path / 'mnt'}', mounted>"
    np.save(mount.path / "x.npy", np.arange(4))
    mount.unmount()
    mount.unmount()
    assert repr(mount).endswith("unmounted>") and not mount.path.exists()
    with h5py.File(tmp_path / "f.h5") as opened:
        assert opened["x"].shape == (4,)


def leave_nonsense(path: Path) -> None:
    for name in ("bad.npy", "worse.npy"):
        with pytest.raises(OSError), open(path / name, "wb") as file:
            file.write(b"nonsense")
            file.flush()


@pytest.mark.semantics("C6", "M5")
def test_what_did_not_become_hdf5_is_an_error_at_the_end(tmp_path: Path) -> None:
    assert issubclass(h5fs.MountError, OSError)
    with pytest.raises(h5fs.MountError) as raised:  # noqa: SIM117
        with h5fs.mount(tmp_path / "f.h5", mode="x") as path:
            leave_nonsense(path)
    left = tmp_path / "f.h5.h5fs-left"
    why = "is not in the HDF5 file: not a .npy file; saved as"
    assert str(raised.value).splitlines() == [
        f"{path} has ended: /{name} {why} {left}/{name}" for name in ("bad.npy", "worse.npy")
    ]
    assert (tmp_path / "f.h5.h5fs-left" / "bad.npy").read_bytes() == b"nonsense"


@pytest.mark.semantics("C6", "M5", "R18")
def test_what_was_refused_is_an_error_at_the_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["x"] = np.arange(3)
    with (
        pytest.raises(h5fs.MountError, match=rf"/x\.npy{REFUSED}not a \.npy file; saved as "),
        h5fs.mount(tmp_path / "f.h5", mode="r+") as path,
    ):
        subprocess.run(["bash", "-c", "echo bad > x.npy"], cwd=path, check=True)
    assert (tmp_path / "f.h5.h5fs-left" / "x.npy").read_bytes() == b"bad\n"
    with h5py.File(tmp_path / "f.h5") as opened:
        assert list(opened["x"]) == [0, 1, 2]


@pytest.mark.semantics("C6")
def test_an_exception_of_the_block_is_not_hidden_by_what_did_not_become_hdf5(
    tmp_path: Path,
) -> None:
    with pytest.warns(RuntimeWarning, match=r"bad\.npy"), pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with h5fs.mount(tmp_path / "f.h5", mode="x") as path:
            leave_nonsense(path)
            raise ZeroDivisionError
    assert find_mount(path) is None


ENDS = {
    "by itself": "",
    "by an exception": "raise ValueError",
    "at once": "os._exit(0)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.semantics("C7", "M27")
@pytest.mark.parametrize("way", ENDS)
def test_a_mount_ends_with_its_program_however_that_ends(tmp_path: Path, way: str) -> None:
    program = f"""
import os, signal, h5fs, numpy as np
mount = h5fs.mount({str(tmp_path / "f.h5")!r}, {str(tmp_path / "mnt")!r}, mode="x")
np.save(mount.path / "x.npy", np.arange(3))
mapped = np.load(mount.path / "x.npy", mmap_mode="r")
from h5fs.daemon.registry import find_daemon
print(find_daemon(mount.path).pid, flush=True)
input()
{ENDS[way]}
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    daemon = os.pidfd_open(int(child.stdout.readline()))
    try:
        child.communicate("go\n", timeout=240)
        ended, _, _ = select.select([daemon], [], [], 60)
    finally:
        os.close(daemon)
        child.kill()
    assert ended and find_mount(tmp_path / "mnt") is None and not (tmp_path / "mnt").exists()
    with h5py.File(tmp_path / "f.h5") as opened:
        assert list(opened["x"]) == [0, 1, 2]


@pytest.mark.semantics("C7")
def test_a_mount_to_keep_outlives_its_program(tmp_path: Path) -> None:
    program = f"import h5fs; h5fs.mount({str(tmp_path / 'f.h5')!r}, 'mnt', mode='x', keep=True)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=240)
    try:
        assert find_mount(tmp_path / "mnt") is not None
    finally:
        end_mount(tmp_path / "mnt")


@pytest.mark.semantics("C7")
def test_a_process_that_the_program_has_forked_does_not_end_its_mount(tmp_path: Path) -> None:
    with h5fs.mount(tmp_path / "f.h5", mode="x") as path:
        context = multiprocessing.get_context("fork")
        child = context.Process(target=atexit._run_exitfuncs)
        child.start()
        child.join(PATIENCE_SECONDS)
        assert child.exitcode == 0 and find_mount(path) is not None


def test_python_and_its_tools_know_what_there_is() -> None:
    assert {"mount", "Mount", "MountError", "__version__"} <= set(dir(h5fs))
    with pytest.raises(AttributeError, match="has no attribute 'mout'"):
        h5fs.mout  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.semantics("C6")
@pytest.mark.parametrize("name", ["a\\b", "a,b", "a\\,b", "a\\\\,,b", "end\\", "a b=c", "é"])
def test_an_options_value_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    log = tmp_path / name
    with h5fs.mount(tmp_path / "f.h5", mode="a", options={"log": str(log)}):
        assert log.exists()


@pytest.mark.semantics("C6")
@pytest.mark.parametrize("name", ["status", "-o", "--help"])
def test_a_file_may_have_the_name_of_a_command_or_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5fs.mount(name, mode="x"):
        pass
    with h5fs.mount(os.fsencode(name)):
        pass


# Modules that h5fs imports: of Python's own library, packages that it needs, and one that it uses
# where it is installed.
SHADOWED = "typing select socket json pathlib dataclasses numpy h5py fuse msgspec tqdm".split()
TRAP = "import os\nos.makedirs(os.path.join({trap!r}, __name__), exist_ok=True)\n"


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with files of such names, which tell in ``run`` that they were run."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in SHADOWED:
        (folder / f"{name}.py").write_text(TRAP.format(trap=str(tmp_path / "run")))
    with h5py.File(folder / "f.h5", "w") as opened:
        opened.create_dataset("x", data=np.arange(1000), chunks=(10,), compression="gzip")
        opened["text"] = ["a", "b"]
    return folder


MOUNT = """
import os
from h5fs import mount
os.chdir({folder!r})
with mount("f.h5", mode="r+") as path:
    assert (path / "x.npy").stat().st_size > 1000
    (path / "x.npy").read_bytes(), (path / "text.npy").read_bytes()
"""


@pytest.mark.semantics("C6")
@pytest.mark.parametrize("way", ["-c", "script", "-m", "PYTHONPATH="])
def test_no_code_of_the_working_directory_or_beside_the_file_is_run(
    trapped: Path, tmp_path: Path, way: str
) -> None:
    program = MOUNT.format(folder=str(trapped))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    home = os.fspath(Path(h5fs.__file__).parent.parent)
    if way == "script":  # it has imported what it needs when it goes to the folder
        (tmp_path / "program.py").write_text(program)
        words = [str(tmp_path / "program.py")]
        environment["PYTHONPATH"] = home
    elif way == "-m":
        words = ["-m", "h5fs", "cat", "f.h5:/x.npy"]
        environment["PYTHONPATH"] = home
    elif way == "-c":
        words = ["-c", program]
        environment["PYTHONPATH"] = home
    else:
        # This process has the folder in its way by two names, and has what it needs before.
        first = "import sys\nbefore, sys.path[:2] = sys.path[:2], []\n"
        words = ["-c", first + program.replace("os.chdir", "sys.path[:0] = before; os.chdir")]
        environment["PYTHONPATH"] = os.pathsep.join(["", home])
    done = subprocess.run(
        [sys.executable, *words], cwd=trapped if way in ("-m", "PYTHONPATH=") else tmp_path,
        env=environment, capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert not (tmp_path / "run").exists(), os.listdir(tmp_path / "run")

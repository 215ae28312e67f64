"""Mounts that another program has made, as Apptainer's --fusemount does: /dev/fd/N."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import needs_libfuse_3, run_h5fs
from support.waiting import wait_until

from h5fs.daemon.registry import find_daemons

LAUNCHER = Path(__file__).parents[1] / "support" / "launching.py"
# What a user who is not root may do: namespaces in which it is root.
NAMESPACES = {"root": ["--mount"], "user namespace": ["--user", "--map-root-user", "--mount"]}


def why_not(kind: str) -> str:
    """Return why such namespaces cannot be made here; empty when they can."""
    done = subprocess.run(
        ["unshare", *NAMESPACES[kind], "true"], capture_output=True, text=True, check=False
    )
    return done.stderr


def launch(
    kind: str, file: Path, folder: Path, script: str, *, options: Sequence[str] = (),
    as_daemon: bool = False, env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Mount a file at a folder as Apptainer does, and run a shell script there."""
    if reason := why_not(kind):
        pytest.skip(f"namespaces cannot be made here: {reason}")
    program = [sys.executable, "-m", "h5fs", str(file), *options]
    return subprocess.run(
        ["unshare", *NAMESPACES[kind], sys.executable, LAUNCHER, folder, *["daemon"] * as_daemon,
         *program, "--", "sh", "-exc", script],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **(env or {})},
    )  # fmt: skip


def in_python(text: str) -> str:
    """Return the command of a shell that runs a line of Python."""
    return f'{sys.executable} -c "import numpy as np; {text}"'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mnt").mkdir()
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as opened:
        opened["g/d"] = np.arange(10.0)
        opened["c"] = np.arange(100_000)
        opened.create_dataset("z", data=np.arange(100_000), chunks=(1000,), compression="gzip")
    return path


@needs_libfuse_3
@pytest.mark.semantics("M28")
@pytest.mark.parametrize("kind", NAMESPACES)
def test_a_mount_that_another_program_made_is_answered_until_sigterm(
    file: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "mnt"
    check = in_python("assert (np.load('z.npy') == range(100000)).all()")
    refused = " || ".join(
        f"{words} 2>>{tmp_path}/said" for words in
        ("mkdir new", "touch new", "sh -c '>c.npy'", "sh -c '>>c.npy'", "rm c.npy",
         "chmod 700 c.npy", "ln -s a b", "mv c.npy d.npy", "touch -d 2020-01-01 c.npy")
    )  # fmt: skip
    done = launch(
        kind, file, folder,
        f"cd {folder}; ls -R . > {tmp_path}/listing; cmp c.npy c.npy; {check}; ! ({refused})",
    )  # fmt: skip
    assert done.stdout.split() == ["0", "0"], done.stderr
    assert (tmp_path / "listing").read_text().split() == [
        ".:", "c.npy", "g", "z.npy", "./g:", "d.npy",
    ]  # fmt: skip
    said = (tmp_path / "said").read_text().splitlines()
    assert len(said) == 9
    assert all("Read-only file system" in line for line in said)
    assert "Traceback" not in done.stderr
    assert not list(folder.iterdir())


@needs_libfuse_3
@pytest.mark.semantics("M28")
@pytest.mark.parametrize("kind", NAMESPACES)
def test_what_was_written_to_such_a_mount_is_in_the_file_after_sigterm(
    file: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "mnt"
    script = f"cd {folder}; cp g/d.npy e.npy; rm c.npy; mkdir n; " + in_python(
        "np.load('g/d.npy', mmap_mode='r+')[3] = 99"
    )
    done = launch(kind, file, folder, script, options=["--mode", "r+"])
    assert done.stdout.split() == ["0", "0"], done.stderr
    with h5py.File(file) as opened:
        assert sorted(opened) == ["e", "g", "n", "z"]
        assert opened["g/d"][3] == 99
    assert [name for name in os.listdir(tmp_path) if "run" in name] == ["run.h5"]  # no log


@needs_libfuse_3
@pytest.mark.semantics("M28")
def test_without_f_the_command_returns_when_the_mount_answers_and_an_unmount_ends_the_daemon(
    file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mnt"
    log = tmp_path / "log"
    script = (
        f"cp {folder}/g/d.npy {folder}/e.npy; {sys.executable} -m h5fs status > {tmp_path}/status;"
        f" umount {folder}"
    )
    done = launch(
        "root", file, folder, script, options=["--mode", "r+", "-o", f"log={log}"], as_daemon=True
    )
    assert done.stdout.split() == ["0", "0"], done.stderr
    assert "/dev/fd" not in (tmp_path / "status").read_text()
    daemon = ["pgrep", "-f", f"{file} .*/dev/fd/3"]
    wait_until(lambda: subprocess.run(daemon, check=False).returncode)
    with h5py.File(file) as opened:
        assert "e" in opened
    assert log.read_text() == ""


@needs_libfuse_3
@pytest.mark.semantics("M23", "M28")
def test_such_a_mount_of_roots_reads_ahead_as_far_as_any_other(file: Path, tmp_path: Path) -> None:
    folder, told, found = tmp_path / "mnt", tmp_path / "told", tmp_path / "found"
    limit = f"/sys/class/bdi/$(mountpoint -d {folder})/read_ahead_kb"
    done = launch(
        "root", file, folder,
        f"ls {folder}; grep -hs fuse_connection /proc/[0-9]*/fdinfo/* > {told} || :; "
        f"cat {limit} > {found}; test -w {limit} || rm {told}",
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["0", "0"], done.stderr
    can_be_found = told.exists() and bool(told.read_text())
    assert int(found.read_text()) == (2048 if can_be_found else 128)


@pytest.mark.semantics("M28")
def test_a_descriptor_of_something_else_is_refused(file: Path) -> None:
    for number in (0, 77):
        done = run_h5fs(file, f"/dev/fd/{number}", "-f")
        assert done.returncode == 1
        assert f"/dev/fd/{number} is no open /dev/fuse" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not [daemon for daemon in find_daemons() if daemon.mountpoint.startswith("/dev/fd")]

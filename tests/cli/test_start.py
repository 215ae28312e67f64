"""The beginning of the command: what it starts first, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from h5fs.cli import start

PROGRAM = """
import sys
from h5fs.cli.start import main
status = main()
loaded = [name for name in sys.modules if name == "h5py" or "tree.writing" in name]
sys.stderr.write(f"{status} {loaded}")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["x"] = 1
    return tmp_path / "f.h5"


def run(*words: str | Path, shell: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_command_that_looks_into_a_file_imports_no_h5py_and_nothing_that_writes(
    file: Path,
) -> None:
    done = run("tree", file)
    assert "x.npy" in done.stdout
    assert done.stderr == "0 []"


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_no_stream_that_is_closed_becomes_something_else(closed: str, file: Path) -> None:
    before = file.read_bytes()
    assert run("tree", file, shell=closed).stderr == "0 []"
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "words", [[], ["tree"], ["status", "x"], ["f.h5", "mnt"], ["tree", "--help"],
              ["cat", "s3://user:secret@host/b/f.h5:/x.npy"]],
)  # fmt: skip
def test_what_may_need_no_workers_starts_none(words: list[str]) -> None:
    assert start._start(words) is None

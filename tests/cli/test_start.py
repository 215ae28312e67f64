"""The beginning of the command: what it starts first, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from h5fs.cli import start

PROGRAM = """
import sys
from h5fs.cli.start import main
status = main()
loaded = [name for name in sys.modules if name == "h5py" or "tree.writing" in name]
sys.stderr.write(f"{status} {loaded}")
"""


INTERRUPTED = """
import sys
from h5fs.cli import start

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            raise KeyboardInterrupt

module = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupting())
sys.exit(start.main())
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
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


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


# What a look at a small file needs none of: each takes milliseconds to import.
LATE = (
    "hdf5plugin imagecodecs deflate h5fs.fuse h5fs.daemon.mounting h5fs.store.chunks.reader "
    "h5fs.store.chunks.filters h5fs.store.log.logged_file h5fs.store.format.headers.scan "
    "h5fs.projection.json.attribute_file h5fs.projection.views.columns h5fs.cli.mount_options "
    "h5fs.store.hdf5.writing_store h5fs.store.hdf5.reading.looking_ahead"
).split()

IN_BOTH_PROCESSES = """
import os, sys
import h5fs.store.workers.starting.starter_messages as starter_messages
from h5fs.cli.start import main

serve = starter_messages.serve

def tell(who):
    loaded = sorted(set(sys.argv[1].split()) & set(sys.modules))
    os.write(2, f"{who}: {loaded}\\n".encode())

def serve_and_tell(control, *how):
    tell("starter")
    serve(control, *how)

starter_messages.serve = serve_and_tell
late = sys.argv.pop(1)
status = main()
sys.argv.insert(1, late)
tell("command")
"""


def test_a_look_at_a_small_file_imports_nothing_that_it_needs_none_of(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(10)
        file["x"].attrs["units"] = "m"
        file["text"] = "abc"
        file.create_dataset("g/z", data=np.arange(1000), compression="gzip", shuffle=True)
    done = subprocess.run(
        [sys.executable, "-c", IN_BOTH_PROCESSES, " ".join(LATE), "tree", str(path)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert "z.npy" in done.stdout
    assert sorted(done.stderr.splitlines()) == ["command: []", "starter: []"]


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["help"], ["tree", "--help"]])
def test_what_looks_into_no_file_imports_no_numpy(words: list[str]) -> None:
    program = (
        "import sys\nfrom h5fs.cli.start import main\ntry:\n    main()\n"
        "except SystemExit as end:\n    sys.exit(f'{end.code} {\"numpy\" in sys.modules}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.stderr == "0 False\n"


@pytest.mark.parametrize(
    "filters", [hdf5plugin.Blosc(), hdf5plugin.Bitshuffle(), {"compression": "lzf"}]
)
def test_filters_that_a_confined_worker_loads_late_decode(filters: dict, tmp_path: Path) -> None:
    array = np.arange(5000).reshape(50, 100)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("x", data=array, chunks=(7, 9), **filters)
        space = h5py.VirtualLayout(array.shape, array.dtype)
        space[...] = h5py.VirtualSource(".", "x", array.shape)
        file.create_virtual_dataset("v", space)
    for name in ("x", "v"):
        done = subprocess.run(
            [sys.executable, "-m", "h5fs", "cat", f"{tmp_path / 'f.h5'}:/{name}.npy"],
            capture_output=True, timeout=240, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.endswith(array.tobytes())


def test_the_process_ends_with_the_commands_status_and_all_that_it_said(file: Path) -> None:
    for words, status in ((["tree", str(file)], 0), (["tree", "no such"], 1), (["tree"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "h5fs", *words], capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == status
        assert ("x.npy" in done.stdout) == (status == 0)
        assert done.stderr.startswith("h5fs: ") == (status != 0)


@pytest.mark.parametrize("module", ["h5fs.store.workers.messages", "h5fs.cli.parsers"])
def test_ctrl_c_at_the_very_beginning_says_nothing(module: str, file: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module, "tree", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

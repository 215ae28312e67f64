"""Where the HDF5 library runs, and what workers share."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import Mounted, mounted, run_h5fs
from support.processes import family
from support.reference import npy_bytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number in range(8):
            words = [f"word {n} of {number}" for n in range(5000)]
            opened.create_dataset(f"words {number}", data=words, dtype=h5py.string_dtype())
        opened.attrs["title"] = "words"
    return tmp_path / "f.h5"


def has_library(pid: int) -> bool:
    return re.search(r"/libhdf5\W", Path(f"/proc/{pid}/maps").read_text()) is not None


def read_all(mount: Mounted) -> None:
    for path in mount.path.iterdir():
        path.read_bytes()


@pytest.mark.semantics("W1")
def test_the_daemon_is_without_the_library_and_workers_have_it(file: Path) -> None:
    with mounted(file) as mount:
        read_all(mount)
        daemon, starter, *workers = family(mount.pid)
        assert not has_library(daemon)
        assert has_library(starter)
        assert 1 <= len(workers) <= max(os.cpu_count() or 1, 2)


@pytest.mark.semantics("W1")
def test_the_number_of_workers_is_an_option(file: Path) -> None:
    with mounted(file, options=["-o", "workers=3"]) as mount:
        threads = [threading.Thread(target=read_all, args=(mount,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _, _, *workers = family(mount.pid)
        assert len(workers) == 3


@pytest.mark.semantics("W1")
def test_with_no_workers_the_daemon_reads_itself(file: Path) -> None:
    with mounted(file, options=["-o", "workers=0"]) as mount:
        assert list(family(mount.pid)) == [mount.pid]
        assert has_library(mount.pid)
        with h5py.File(file) as opened:
            expected = npy_bytes(opened["words 3"].asstr()[...].astype(str))
        assert (mount.path / "words 3.npy").read_bytes() == expected


@pytest.mark.semantics("D12", "W1")
def test_strings_read_in_parallel_are_right(file: Path) -> None:
    with mounted(file) as mount:
        wrong: list[int] = []

        def read(number: int) -> None:
            words = np.load(mount.path / f"words {number}.npy")
            if words.tolist() != [f"word {n} of {number}" for n in range(5000)]:
                wrong.append(number)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@pytest.mark.semantics("M7")
@pytest.mark.parametrize(
    "option",
    "workers=x workers=-1 workers=1000 cache=0 cache=1X deadline=0 deadline=soon memory=-1 "
    "max_chunk= max_depth=0".split(),
)
def test_what_is_no_number_is_refused(file: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "mnt").mkdir()
    done = run_h5fs(file, tmp_path / "mnt", "-o", option)
    assert done.returncode == 2
    assert option.split("=", maxsplit=1)[0] in done.stderr

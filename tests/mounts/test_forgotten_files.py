"""A mount whose daemon holds too much: the kernel forgets files that nobody uses."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import end_mount, needs_libfuse_3
from support.waiting import wait_until

COUNT = 100

# The command, with a daemon that takes few files for many and its memory for too much, and that
# writes down each status that it is asked for.
PROGRAM = """
import sys
from h5fs.fuse import node_limit
from h5fs.fuse.operations import Operations
node_limit._LOOK_EVERY, node_limit._NEWEST_KEPT = 150, 110
node_limit.own_memory_bytes = lambda: 2**40
put_status = Operations._put_status
def noted(self, status, buffer):
    with open({notes!r}, "a") as file:
        print(status, file=file)
    put_status(self, status, buffer)
Operations._put_status = noted
sys.argv = ["h5fs", *sys.argv[1:]]
from h5fs.cli.start import main
sys.exit(main())
"""


class Place:
    """A mount of two groups of datasets, and what its daemon was asked for."""

    def __init__(self, mountpoint: Path, notes: Path) -> None:
        self.mountpoint = mountpoint
        self.notes = notes

    def look(self, group: str) -> None:
        """Look at all files of a group."""
        for entry in os.scandir(self.mountpoint / group):
            entry.stat()

    def asks(self, path: str) -> bool:
        """Return whether the kernel asks for a file when a program does."""
        before = self.notes.stat().st_size
        (self.mountpoint / path).stat()
        return self.notes.stat().st_size > before


@pytest.fixture(params=["r", "r+"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for group in "ab":
            for number in range(COUNT):
                file[f"{group}/d{number:03d}"] = np.arange(number, number + 9)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder, "mnt"), Path(folder, "notes"))
        place.mountpoint.mkdir()
        program = PROGRAM.format(notes=str(place.notes))
        options = ["--mode", request.param, "-o", f"log={folder}/log"]
        words = [str(tmp_path / "f.h5"), str(place.mountpoint), *options]
        subprocess.run([sys.executable, "-c", program, *words], check=True, timeout=90)
        try:
            yield place
        finally:
            end_mount(place.mountpoint)


@needs_libfuse_3
@pytest.mark.semantics("W7")
@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 18),
    reason="kernels before 6.18 are not to be asked to forget files that nobody uses",
)
def test_the_kernel_forgets_what_nobody_uses_when_the_daemon_holds_too_much(place: Place) -> None:
    place.look("a")
    assert not place.asks("a/d001.npy")
    with open(place.mountpoint / "a" / "d002.npy", "rb") as used:
        place.look("b")
        wait_until(lambda: place.asks("a/d001.npy"))
        assert not place.asks("a/d002.npy")
        assert np.load(used).tolist() == list(range(2, 11))
    assert not place.asks("b/d099.npy")
    assert np.load(place.mountpoint / "a" / "d001.npy").tolist() == list(range(1, 10))

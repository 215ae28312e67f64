"""What the kernel keeps of a mount that writes: as much as in mode r, and nothing that is old."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.cache_fuzzing import Actors, make_file
from support.kernel_caches import differences, status_now
from support.mounts import Mounted, mounted, needs_libfuse_3, run_h5fs
from support.waiting import wait_until

pytestmark = needs_libfuse_3

ARRAYS = 300
NUMBERS = np.arange(300_000)


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    file = tmp_path_factory.mktemp("caches") / "f.h5"
    with h5py.File(file, "w") as opened:
        for number in range(ARRAYS):
            opened[f"many/x{number}"] = np.arange(number)
        opened.create_dataset("z", data=NUMBERS, chunks=(10_000,), compression="gzip")
        opened["plain"] = NUMBERS
        opened["r"] = NUMBERS
        opened["two"] = np.arange(10)
        opened["second"] = opened["two"]
    with mounted(file, options=["--mode", "r+"]) as mount:
        yield mount


def calls(mount: Mounted) -> dict[str, int]:
    """Return how often each call has arrived at the daemon."""
    (found,) = json.loads(run_h5fs("status", "--json", mount.path).stdout)
    return {name: operation["count"] for name, operation in found["operations"].items()}


def settled_reads(mount: Mounted) -> int:
    """Return how many reads have arrived: one is counted a moment after it was answered."""
    counts = [-1, calls(mount)["read"]]

    def are_settled() -> bool:
        counts.append(calls(mount)["read"])
        return counts[-1] == counts[-2]

    wait_until(are_settled)
    return counts[-1]


def other_program(code: str, *arguments: object) -> None:
    """Let another process do something."""
    text = f"import os, sys, numpy as np\n{code}"
    subprocess.run([sys.executable, "-c", text, *map(str, arguments)], check=True, timeout=240)


@pytest.mark.semantics("R23")
def test_names_and_statuses_are_kept_between_calls_and_over_changes(mount: Mounted) -> None:
    folder = mount.path / "many"
    for entry in os.scandir(folder):
        entry.stat()
    other_program("np.save(sys.argv[1], np.arange(7))", folder / "new.npy")
    before = calls(mount)
    sizes = {name: os.stat(folder / name).st_size for name in os.listdir(folder)}
    after = calls(mount)
    assert sizes["new.npy"] == 128 + 7 * 8
    assert len(sizes) == ARRAYS + 1
    assert after["getattr"] - before["getattr"] < 10  # of some 300


@pytest.mark.semantics("R23")
@pytest.mark.parametrize("name", ["z.npy", "plain.npy"])
def test_pages_are_kept_until_the_data_change(mount: Mounted, name: str) -> None:
    path = mount.path / name
    for _ in range(2):
        assert (np.load(path) == NUMBERS).all()
    reads = 1
    for _ in range(10):  # the kernel may drop pages, when somebody on the machine asks it to
        before = settled_reads(mount)
        assert (np.load(path) == NUMBERS).all()
        reads = settled_reads(mount) - before
        if not reads:
            break
    assert reads == 0
    other_program("np.load(sys.argv[1], mmap_mode='r+')[5] = 77", path)
    assert np.load(path)[5] == 77
    np.save(path, NUMBERS)
    assert (np.load(path) == NUMBERS).all()


@pytest.mark.semantics("R23", "L2")
def test_a_change_by_another_hard_link_is_seen_at_once(mount: Mounted) -> None:
    two, second = mount.path / "two.npy", mount.path / "second.npy"
    with open(second, "rb") as opened:
        assert opened.read() == two.read_bytes()
        other_program("np.load(sys.argv[1], mmap_mode='r+')[3] = 55", two)
        opened.seek(0)
        assert np.load(opened)[3] == 55
    assert np.load(second)[3] == 55
    os.link(mount.path / "many/x3.npy", mount.path / "third.npy")
    assert os.stat(mount.path / "many/x3.npy").st_nlink == 2
    other_program("os.unlink(sys.argv[1])", mount.path / "third.npy")
    assert os.stat(mount.path / "many/x3.npy").st_nlink == 1


@pytest.mark.semantics("R23", "R8")
def test_what_was_refused_leaves_nothing_with_the_kernel(mount: Mounted) -> None:
    path = mount.path / "many/x9.npy"
    for _ in range(3):
        assert (np.load(path) == np.arange(9)).all()
    before = status_now(path, asks=False)
    with pytest.raises(OSError, match="Invalid argument"):
        path.write_bytes(b"no array at all")
    assert status_now(path, asks=False) == before
    assert (np.load(path) == np.arange(9)).all()


@pytest.mark.semantics("R10")
def test_who_maps_a_replaced_array_gets_no_page_of_the_old_one(mount: Mounted) -> None:
    path = mount.path / "r.npy"
    with open(path, "rb") as old:
        mapped = mmap.mmap(old.fileno(), 0, prot=mmap.PROT_READ)
        mapped.madvise(mmap.MADV_RANDOM)
        other_program("np.save(sys.argv[1], np.ones(300_000))", path)
        with open(path, "rb") as new:
            _ = mapped[2**20 : 2**20 + 4096]  # the old one goes on being read
            assert (np.frombuffer(new.read()[128:]) == 1).all()
            with contextlib.suppress(OSError):
                np.testing.assert_array_equal(np.load(path, mmap_mode="r"), 1)
        mapped.close()
    assert (np.load(path, mmap_mode="r") == 1).all()


@pytest.mark.semantics("R23")
def test_several_processes_leave_nothing_old_with_the_kernel(tmp_path: Path) -> None:
    """A short run of scripts/fuzz_caches.py."""
    make_file(tmp_path / "f.h5")
    with mounted(tmp_path / "f.h5", options=["--mode", "r+", "-o", "views=all"]) as mount:
        actors = Actors(mount.path, seed=1, count=2)
        actors.play(turns=4)
        found = actors.end()
        assert found.problems == []
        # What a process has counted goes with it, when it reads what another one cuts off (SIGBUS).
        assert found.operations.total() > 0


def test_old_pages_of_the_kernel_are_found(tmp_path: Path) -> None:
    """The judge of these tests is no rubber stamp."""
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["g/x"] = np.arange(1000)
        offset = opened["g/x"].id.get_offset()
    with mounted(file, options=["--mode", "r+"]) as mount:
        folder = mount.path / "g"
        names = {folder / "x.npy", folder / "nothing"}
        assert differences(folder, names) == []
        # Behind the back of the mount, which therefore tells the kernel nothing.
        with file.open("r+b") as raw:
            os.pwrite(raw.fileno(), b"\xff" * 8, offset)
        found = differences(folder, names)
        assert any("x.npy: read_kept has 8128 bytes" in line for line in found), found
        assert any("x.npy: read_mapped has 8128 bytes" in line for line in found), found


@pytest.mark.semantics("R23")
def test_who_writes_a_new_file_sees_what_other_programs_do_to_it(mount: Mounted) -> None:
    path, moved = mount.path / ".fresh", mount.path / ".fresher"
    before = calls(mount)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for _ in range(20):
            assert os.fstat(descriptor).st_size == 0
        assert calls(mount)["getattr"] - before["getattr"] < 10
        os.write(descriptor, b"begun")
        assert os.fstat(descriptor).st_size == 5 == os.stat(path).st_size
        other_program("open(sys.argv[1], 'r+b').write(b'0123456789')", path)
        assert os.fstat(descriptor).st_size == 10
        other_program("os.truncate(sys.argv[1], 3)", path)
        assert os.fstat(descriptor).st_size == 3
        other_program("os.utime(sys.argv[1], ns=(10**18, 10**18 + 7))", path)
        assert os.fstat(descriptor).st_mtime_ns == 10**18 + 7
        other_program("os.rename(*sys.argv[1:])", path, moved)
        assert os.fstat(descriptor).st_nlink == 1
        other_program("np.save(open(sys.argv[1], 'wb'), np.arange(3))", moved)
        assert os.fstat(descriptor).st_size == 128 + 3 * 8
        other_program("os.unlink(sys.argv[1])", moved)
        assert os.fstat(descriptor).st_nlink == 0
        assert not path.exists() and not moved.exists()
    finally:
        os.close(descriptor)

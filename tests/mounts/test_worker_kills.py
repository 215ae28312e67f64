"""Workers and the process that starts them, killed at any moment: no reader notices."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.fuzzing import (
    end_and_judge,
)
from support.mounts import Mounted, mounted
from support.reference import npy_bytes
from support.waiting import PATIENCE_SECONDS
from support.watching import (
    Process,
    find_children,
    find_descendants,
    find_workers,
    run_bounded,
)

READERS = 4
SECONDS = 8
TEXTS, ATTRIBUTES, LISTED = 20, 40, 300

# Reads at random through the mount and compares with plain files; what the kernel would answer by
# itself it is told to forget. Ends at the first answer that is wrong.
READER = r"""
import collections, json, os, random, sys, time
mount, expected, seconds, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
chance, counts, end = random.Random(seed), collections.Counter(), time.monotonic() + seconds
names = json.loads(open(expected + "/names.json").read())

def read_part(name, largest):
    descriptor = os.open(f"{mount}/{name}", os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(descriptor).st_size
        start = chance.randrange(size)
        return start, os.pread(descriptor, chance.randrange(1, largest), start)
    finally:
        os.close(descriptor)

def check_part(kind, name, largest):
    start, got = read_part(name, largest)
    with open(f"{expected}/{name.replace('/', '_')}", "rb", buffering=0) as file:
        assert len(got) == len(os.pread(file.fileno(), len(got), start)), f"{name}: short"
        assert got == os.pread(file.fileno(), len(got), start), f"{name}: wrong at {start}"
        assert got, f"{name}: nothing at {start}"
    counts[kind] += 1

def check_attributes():
    name = chance.choice(names["attributes"])
    with open(f"{mount}/{name}.attrs.json", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        value = json.load(file)
    assert value == {"name": name, "text": name * 2000}, f"{name}: wrong attributes"
    counts["attributes"] += 1

def check_listing():
    assert sorted(os.listdir(f"{mount}/listed")) == names["listed"], "a wrong listing"
    counts["listing"] += 1

while time.monotonic() < end:
    check_part("contiguous", "contiguous.npy", 300_000)
    check_part("gzip", "gzip.npy", 300_000)
    check_part("text", chance.choice(names["texts"]) + ".npy", 20_000)
    check_part("filtered", "lzf.npy", 20_000)
    check_attributes()
    check_listing()
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file with something of each kind, and a folder of plain files with what must be read."""
    folder = tmp_path_factory.mktemp("kills")
    expected = folder / "expected"
    expected.mkdir()
    file = folder / "f.h5"
    numbers = np.arange(2**22, dtype="<i8") * 1_000_003 % 2**32  # 32 MiB
    names: dict[str, list[str]] = {"texts": [], "attributes": [], "listed": []}
    with h5py.File(file, "w") as opened:
        opened["contiguous"] = numbers
        opened.create_dataset(
            "gzip", data=numbers, chunks=(8192,), compression="gzip", compression_opts=1
        )
        opened.create_dataset("lzf", data=numbers[: 2**19], chunks=(4096,), compression="lzf")
        for index in range(TEXTS):
            texts = [f"{index} {number} " + "ä" * (number % 7) for number in range(2000)]
            opened.create_dataset(f"text{index}", data=texts, dtype=h5py.string_dtype())
            (expected / f"text{index}.npy").write_bytes(npy_bytes(np.array(texts)))
            names["texts"].append(f"text{index}")
        for index in range(ATTRIBUTES):
            name = f"object{index}"
            opened[name] = index
            opened[name].attrs["name"] = name
            opened[name].attrs["text"] = name * 2000  # too long to be kept by the daemon
            names["attributes"].append(name)
        for index in range(LISTED):
            opened[f"listed/{index}"] = index
            names["listed"].append(f"{index}.npy")
    for name, values in (("contiguous", numbers), ("gzip", numbers), ("lzf", numbers[: 2**19])):
        (expected / f"{name}.npy").write_bytes(npy_bytes(values))
    names["listed"].sort()
    (expected / "names.json").write_text(json.dumps(names))
    return file, expected


class Load:
    """Processes that read and compare until their time is over."""

    def __init__(self, mount: Mounted, expected: Path, seconds: float) -> None:
        self._mount = mount
        self._readers = [
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", READER, str(mount.path), str(expected),
                 str(seconds), str(seed)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for seed in range(READERS)
        ]  # fmt: skip

    def is_running(self) -> bool:
        """Whether any has not ended."""
        return any(reader.poll() is None for reader in self._readers)

    def finish(self) -> Counter[str]:
        """Return how much of each kind was read. Fails when one of them was answered wrongly."""
        counts: Counter[str] = Counter()
        complaints = []
        for reader in self._readers:
            try:
                output, complaint = reader.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                reader.kill()  # not waited for: it ends when the mount does
                complaints.append("a reader got no answer for a minute")
                continue
            if reader.returncode:
                complaints.append(complaint[-600:])
            else:
                counts.update(json.loads(output))
        assert not complaints, "\n".join([*complaints, *self._mount.log_lines()[-20:]])
        return counts


@contextlib.contextmanager
def mounted_and_timed(file: Path) -> Iterator[tuple[Mounted, float]]:
    """A mount, and how much longer everything takes here than on a quiet machine.

    Workers cannot be killed more often than they can be started: a request is asked for again some
    twenty times, and no more.
    """
    begin = time.monotonic()
    with mounted(file) as mount:
        yield mount, max(1.0, time.monotonic() - begin)  # quiet: half a second


def check_end(mount: Mounted, daemon: Process) -> None:
    """The daemon has not changed, blames no object, and leaves nothing behind."""
    assert daemon.is_running()
    assert not [line for line in mount.log_lines() if "quarantined" in line]
    processes = [daemon, *map(Process.find, find_descendants(mount.pid))]
    assert len(processes) < 20
    assert list(end_and_judge(mount, processes)) == []


@pytest.mark.semantics("W3")
def test_no_read_fails_or_is_wrong_while_workers_are_killed(made: tuple[Path, Path]) -> None:
    file, expected = made
    chance = random.Random(4)
    with mounted_and_timed(file) as (mount, slowness):
        daemon = Process.find(mount.pid)
        load = Load(mount, expected, SECONDS * slowness)
        kills = 0
        while load.is_running():
            time.sleep(slowness * chance.uniform(0.01, 0.15))
            workers = find_workers(mount.pid)
            if workers:
                Process.find(chance.choice(workers)).kill()
                kills += 1
        counts = load.finish()
        assert set(counts) == {
            "contiguous", "gzip", "filtered", "text", "attributes", "listing",
        }  # fmt: skip
        assert kills >= 10
        check_end(mount, daemon)


@pytest.mark.semantics("W3")
def test_no_read_fails_when_all_workers_are_killed_at_once(made: tuple[Path, Path]) -> None:
    file, expected = made
    with mounted_and_timed(file) as (mount, slowness):
        daemon = Process.find(mount.pid)
        load = Load(mount, expected, 4 * slowness)
        while load.is_running():
            time.sleep(0.2 * slowness)
            for worker in find_workers(mount.pid):
                Process.find(worker).kill()
        assert load.finish()
        check_end(mount, daemon)


def test_no_read_fails_when_the_process_that_starts_workers_is_killed(
    made: tuple[Path, Path],
) -> None:
    file, expected = made
    chance = random.Random(5)
    with mounted_and_timed(file) as (mount, slowness):
        daemon = Process.find(mount.pid)
        load = Load(mount, expected, SECONDS * slowness)
        kills = 0
        while load.is_running():
            time.sleep(slowness * chance.uniform(0.05, 0.6))
            if not find_workers(mount.pid):
                continue  # the last one's successor has not begun
            for starter in find_children(mount.pid):
                Process.find(starter).kill()
                kills += 1
        assert load.finish()
        assert kills >= 2
        check_end(mount, daemon)


@pytest.mark.semantics("W3")
def test_a_worker_that_dies_while_nobody_asks_is_replaced_silently(
    made: tuple[Path, Path],
) -> None:
    file, _ = made
    with mounted(file) as mount:
        daemon, at_start = Process.find(mount.pid), mount.log_lines()
        for number in range(3):
            workers = find_workers(mount.pid)
            assert workers
            for worker in workers:
                Process.find(worker).kill()
            text = run_bounded(["cat", f"object{number}.attrs.json"], seconds=60, cwd=mount.path)
            assert json.loads(text)["name"] == f"object{number}"
        assert mount.log_lines() == at_start
        check_end(mount, daemon)


@pytest.mark.semantics("W3")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops the kernel's caches")
def test_workers_start_while_the_kernel_drops_its_caches(tmp_path: Path) -> None:
    """What the kernel has dropped of /proc are other inodes when they are there again."""
    count = 20
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number in range(count):
            words = [f"{number} {index}" for index in range(50)]
            opened.create_dataset(f"d{number}", data=words, dtype=h5py.string_dtype())
    stop = threading.Event()

    def drop() -> None:
        while not stop.is_set():
            Path("/proc/sys/vm/drop_caches").write_text("2")

    dropping = threading.Thread(target=drop)
    with mounted(tmp_path / "f.h5") as mount:
        daemon = Process.find(mount.pid)
        dropping.start()
        try:
            for number in range(count):
                for worker in find_workers(mount.pid):
                    Process.find(worker).kill()
                words = np.load(mount.path / f"d{number}.npy")
                assert words.tolist() == [f"{number} {index}" for index in range(50)]
        finally:
            stop.set()
            dropping.join()
        check_end(mount, daemon)


def pause(processes: list[int], seconds: float) -> None:
    """Stop processes, as a suspended machine or a paused container does, and let them go on."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):  # a worker that was replaced meanwhile
            os.kill(pid, signal.SIGCONT)


@pytest.mark.semantics("W2", "W3")
@pytest.mark.parametrize("who", ["the workers", "everything"])
def test_a_pause_that_is_longer_than_the_deadline_is_no_fault_of_the_file(
    made: tuple[Path, Path], who: str
) -> None:
    file, expected = made
    deadline = 5  # on a busy machine a worker may get no core for some seconds
    with mounted(file, options=["-o", f"deadline={deadline}"]) as mount:
        daemon = Process.find(mount.pid)
        load = Load(mount, expected, SECONDS)
        while not find_workers(mount.pid):
            time.sleep(0.05)
        workers = find_workers(mount.pid)
        others = [mount.pid, *find_children(mount.pid)] if who == "everything" else []
        pause([*others, *workers], deadline + 2)
        assert load.finish()
        check_end(mount, daemon)

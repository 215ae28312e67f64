#!/usr/bin/env python3
"""How reading compressed data grows with the number of workers: measured on few cores, then said
for many.

    scripts/simulate_workers.py [--size MB] [--runs N]

A shuffle+gzip dataset is read through fresh mounts with one worker, by ``cat``. The processor time
of the worker is what more workers share. What they cannot share is the time that one of the
daemon's threads has the interpreter's lock, and the reader's own time. The rest of the daemon's
time, copies of bytes above all, several threads spend at once. With N workers, and a core for each
and for the others, the slowest of these says how fast the whole can be:

    rate(N) = min(N / worker, 1 / lock, 1 / reader)

How long the lock is held is sampled by py-spy (``pip install py-spy``) in reads of their own; where
it is not there, all of the daemon's time outside of the kernel counts, copies too. As a check the
same is read with two workers. Needs ``pip install -e '.[test]'`` and /dev/fuse.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [PYTHON, __file__, *sys.argv[1:]])
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import h5py  # noqa: E402
from benchmarks.files import make_walks  # noqa: E402
from support.mounts import mounted  # noqa: E402
from support.watching import find_workers  # noqa: E402

WORKERS = (1, 2, 4, 8)
_TICKS = os.sysconf("SC_CLK_TCK")
_ROW = 4096
_SAMPLES_A_SECOND = 500


@dataclass(frozen=True)
class Times:
    """Seconds: of the clock, and of processors."""

    wall: float
    workers: float
    daemon_user: float
    daemon_kernel: float
    reader: float


def make_file(path: Path, size_mb: int) -> None:
    """Write ``size_mb`` MB of int32 that gzip shrinks to about a quarter, in chunks of 1 MiB."""
    rows = size_mb * 2**20 // (4 * _ROW)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "d", (rows, _ROW), "i4", chunks=(64, _ROW), compression="gzip", shuffle=True
        )
        data[:256] = make_walks(256, _ROW)
        chunks = [data.id.read_direct_chunk((row, 0))[1] for row in range(0, 256, 64)]
        for row in range(256, rows, 64):
            data.id.write_direct_chunk((row, 0), chunks[row // 64 % len(chunks)])


def read_with(path: Path, workers: int) -> Times:
    """Read the dataset once through a fresh mount."""
    with mounted(path, options=["-o", f"workers={workers}"]) as mount:
        (mount.path / "d.npy").stat()
        pids = find_workers(mount.pid)
        before = [cpu_seconds(pid) for pid in (mount.pid, *pids)]
        begun = time.perf_counter()
        reader = subprocess.Popen(["cat", mount.path / "d.npy"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(reader.pid, 0)
        wall = time.perf_counter() - begun
        reader.returncode = status
        after = [cpu_seconds(pid) for pid in (mount.pid, *pids)]
    if status or set(pids) == set():
        raise SystemExit(f"cat failed with status {status}, or there was no worker")
    spent = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
    return Times(
        wall,
        sum(user + kernel for user, kernel in spent[1:]),
        *spent[0],
        used.ru_utime + used.ru_stime,
    )


def lock_seconds(path: Path) -> float | None:
    """Return how long the daemon's threads have the interpreter's lock during a read with one
    worker; None where py-spy is not there."""
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        return None
    samples = path.with_name("samples")
    with mounted(path, options=["-o", "workers=1"]) as mount:
        (mount.path / "d.npy").stat()
        record = [spy, "record", "--gil", "-p", str(mount.pid), "-r", str(_SAMPLES_A_SECOND)]
        with subprocess.Popen(
            [*record, "-f", "raw", "-o", samples],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as sampling:
            assert sampling.stdout is not None
            sampling.stdout.readline()  # it says when it begins
            subprocess.run(["cat", mount.path / "d.npy"], stdout=subprocess.DEVNULL, check=True)
            sampling.send_signal(signal.SIGINT)
            sampling.communicate()
    counts = (int(line.rpartition(" ")[2]) for line in samples.read_text().splitlines())
    return sum(counts) / _SAMPLES_A_SECOND


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the user and the kernel time of a process (fields 14 and 15 of proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS


def main() -> int:
    """Print what was measured with one worker and with two, and what follows for more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, metavar="MB")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.h5"
        make_file(path, given.size)
        found: dict[int, list[Times]] = {1: [], 2: []}
        for _ in range(given.runs):
            for workers, times in found.items():
                times.append(read_with(path, workers))
        held = [lock_seconds(path) for _ in range(given.runs)]
    for workers, times in found.items():
        print(f"{workers} worker(s), {given.size} MB, medians of {given.runs}, seconds: ", end="")
        print(", ".join(f"{name} {middle(times, name):.2f}" for name in Times.__annotations__))
    one = found[1]
    worker = middle(one, "workers")
    names = ("daemon_user", "daemon_kernel", "reader")
    shares = {name: middle(one, name) for name in names}
    locks = [seconds for seconds in held if seconds is not None]
    if locks:
        shares["lock"] = statistics.median(locks)
    for name, seconds in shares.items():
        print(f"{name}: {seconds:.3f} s, {seconds / worker:.1%} of a worker's time")
    serial = (shares.get("lock", shares["daemon_user"]), shares["reader"])
    for workers in WORKERS:
        seconds = max(worker / workers, *serial)
        print(f"{workers} workers, a core for each: {given.size / seconds:.0f} MB/s,", end=" ")
        print(f"{worker / seconds:.1f} times one worker")
    return 0


def middle(times: list[Times], name: str) -> float:
    """Return the median of one of the times."""
    return statistics.median(getattr(each, name) for each in times)


if __name__ == "__main__":
    raise SystemExit(main())

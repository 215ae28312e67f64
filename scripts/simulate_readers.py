#!/usr/bin/env python3
"""What many readers at once do to one object store or one data service: measured, then simulated.

    scripts/simulate_readers.py [--readers 1,10,100,1000] [--size MB] [--over SECONDS]

One reader is measured through a mount: its requests and bytes, as the server counts them, and for
the data service (HSDS) the processor time of its nodes. Then readers are simulated that all do the
same, each with as many requests under way as h5fs has (16), against a server that takes requests in
turn: an object store by the rates that its provider names (S3: 5,500 GET a second for one prefix)
and a network, a data service by its processors. A request that waits longer than `timeout=` (60 s)
is an error of the program that reads. `--over`: readers begin within so many seconds, not at once.
Needs `pip install -e '.[test]'` and /dev/fuse; takes about a minute.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
if PYTHON.exists() and Path(sys.prefix) != PYTHON.parent.parent:
    os.execv(PYTHON, [PYTHON, __file__, *sys.argv[1:]])
sys.path.insert(0, str(ROOT / "tests"))

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from support.hsds_service import Service, running_service, why_missing  # noqa: E402
from support.mounts import mounted  # noqa: E402
from support.object_server import ObjectServer  # noqa: E402

AT_ONCE = 16
TIMEOUT_SECONDS = 60.0
DATASETS = 600
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What one reader asks for: requests, bytes, and seconds of the server's processors."""

    name: str
    requests: int
    size_bytes: int
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Server:
    """``places`` requests are served at a time, each for ``seconds``; an answer comes no sooner
    than after ``latency``."""

    name: str
    places: int
    latency: float
    requests_per_second: float = 0.0
    bytes_per_second: float = 0.0

    def seconds(self, load: Load) -> float:
        """How long a request of such a load has one of the places."""
        if load.cpu_seconds:
            return load.cpu_seconds / load.requests
        each = load.size_bytes / load.requests
        return self.places * max(1 / self.requests_per_second, each / self.bytes_per_second)


@dataclass(frozen=True)
class Outcome:
    """Seconds until the median and the last reader have all, the longest wait, and who failed."""

    median: float
    last: float
    longest_wait: float
    failed: int


def simulate(load: Load, server: Server, readers: int, over: float) -> Outcome:
    """Let readers ask, in the order of time; a server's place takes whoever has waited longest."""
    chance = random.Random(1)
    service = server.seconds(load)
    free = [0.0] * server.places
    heapq.heapify(free)
    # One event: a reader sends a request. Each begins with as many as it may have under way.
    events = []
    left = [load.requests] * readers
    for reader in range(readers):
        start = chance.uniform(0, over) if over else 0.0
        for _ in range(min(AT_ONCE, load.requests)):
            left[reader] -= 1
            events.append((start, reader))
    heapq.heapify(events)
    ended, longest, failed = [0.0] * readers, 0.0, set()
    while events:
        now, reader = heapq.heappop(events)
        begin = max(now, heapq.heappop(free))
        busy = service * chance.expovariate(1.0)
        heapq.heappush(free, begin + busy)
        done = max(begin + busy, now + server.latency)
        longest = max(longest, done - now)
        if done - now > TIMEOUT_SECONDS:
            failed.add(reader)
        ended[reader] = max(ended[reader], done)
        if left[reader]:
            left[reader] -= 1
            heapq.heappush(events, (done, reader))
    ended.sort()
    return Outcome(ended[readers // 2], ended[-1], longest, len(failed))


def measure_object_store(folder: Path, size: int) -> list[Load]:
    """Measure one reader of a file at an object server."""
    path = folder / "x.h5"
    with h5py.File(path, "w") as opened:
        for number in range(DATASETS):
            opened[f"small/d{number}"] = np.arange(10.0)
        opened["big"] = np.random.default_rng(0).random(size // 8)
    loads = []
    with ObjectServer(folder) as server:
        for name, program in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as cache:
                options = ["-o", f"disk_cache=10G:{cache}"]
                server.reset()
                with mounted(f"{server.url}/x.h5", options=options) as mount:  # type: ignore[arg-type]
                    run(program, mount.path)
                counts = server.counts()
            loads.append(Load(name, counts["requests"], counts["bytes"]))
    return loads


def measure_service(folder: Path, size: int) -> list[Load]:
    """Measure one reader of a domain, and what it costs the service's processors."""
    loads = []
    with running_service(folder / "c") as service:
        os.environ.update(service.environment)
        service.load(folder / "x.h5", "x.h5")
        for name, program in PROGRAMS.items():
            before = usage_of(service)
            with mounted("hdf5://home/user/x.h5") as mount:  # type: ignore[arg-type]
                run(program, mount.path)
            requests, cpu = (now - then for now, then in zip(usage_of(service), before,
                                                             strict=True))  # fmt: skip
            loads.append(Load(name, int(requests), size * (name != "list"), cpu))
    return loads


def usage_of(service: Service) -> tuple[float, float]:
    """Return how many requests a service has had, and the processor time of its nodes."""
    told = service.client.get("/info", dict, {})["req_count"]
    count = sum(told.get(method, 0) for method in ("GET", "POST", "PUT", "DELETE"))
    ticks = 0
    for pid in service.pids.values():
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return count, ticks / _TICKS


PROGRAMS = {
    "list": "import os, sys\nfor each in os.scandir(sys.argv[1] + '/small'): each.stat()",
    "read": "import sys, numpy\nnumpy.load(sys.argv[1] + '/big.npy')",
}


def run(program: str, mountpoint: Path) -> None:
    subprocess.run([sys.executable, "-c", program, mountpoint], check=True, timeout=600)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readers", default="1,10,100,1000")
    parser.add_argument("--size", type=int, default=64, metavar="MB")
    parser.add_argument("--over", type=float, default=0.0, metavar="SECONDS")
    given = parser.parse_args()
    counts = [int(word) for word in given.readers.split(",")]
    with tempfile.TemporaryDirectory(prefix="h5fs-readers-") as name:
        folder = Path(name)
        stores = [
            Server("S3, 10 GB/s of network", 64, 0.02, 5500, 10e9),
            Server("one server, 1 GB/s", 16, 0.002, 2000, 1e9),
        ]
        cases = [(load, server) for load in measure_object_store(folder, given.size << 20)
                 for server in stores]  # fmt: skip
        if why_missing():
            print(why_missing(), file=sys.stderr)
        else:
            services = [Server(f"HSDS on {cores} cores", cores, 0.001) for cores in (4, 64)]
            cases += [(load, server) for load in measure_service(folder, given.size << 20)
                      for server in services]  # fmt: skip
    for load, server in cases:
        print(
            f"\n{load.name} at {server.name}: {load.requests} requests, "
            f"{load.size_bytes / 1e6:.1f} MB, {load.cpu_seconds:.2f} s of processors a reader"
        )
        print(f"{'readers':>9} {'median s':>9} {'last s':>9} {'longest wait s':>15} {'EIO':>6}")
        for count in counts:
            found = simulate(load, server, count, given.over)
            print(
                f"{count:9} {found.median:9.2f} {found.last:9.2f} {found.longest_wait:15.2f} "
                f"{found.failed:6}"
            )


if __name__ == "__main__":
    main()

"""Files on other machines: what h5fs, and h5py on other readers, ask of a server that counts.

Each task is done cold, in a process of its own, over a server on 127.0.0.1 with a latency and a
bandwidth for each connection. Requests, bytes and *busy* (seconds with at least one request under
way) are the server's counts, so that they say the same on a busy machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from support.mounts import mounted
from support.object_server import ObjectServer

NETWORKS = {"20 ms, 80 MB/s": (0.02, 80e6), "80 ms, 40 MB/s": (0.08, 40e6)}
TASKS = ("list", "attribute", "contiguous", "gzip", "random")
_READERS = ("fsspec default", "fsspec blockcache 8 MiB", "remfile")
_MB = 10**6
_NOISE = 1.05  # the server's own latency differs by so much from run to run
_DATASETS = 600
_GROUPS = 32
_PIECE = 2**22
_TIMEOUT_SECONDS = 300

# What each of the others does: in a process of its own, since some keep caches or threads.
_PROGRAM = """
import json, sys, time
import h5py, numpy as np
way, url, task = sys.argv[1:4]
start = time.monotonic()
if way == "remfile":
    import remfile
    source = remfile.File(url)
else:
    import fsspec
    how = {"cache_type": "blockcache", "block_size": 8 * 2**20} if "blockcache" in way else {}
    source = fsspec.filesystem("http").open(url, "rb", **how)
with h5py.File(source, "r") as file:
    if task == "list":
        found = []
        file.visititems(lambda name, item: found.append(getattr(item, "shape", None)))
        result = len(found)
    elif task == "attribute":
        result = int(file["group7/d7"].attrs["n"])
    elif task == "random":
        data = file["contiguous"]
        places = np.random.default_rng(1).integers(0, len(data) - 1024, 100)
        result = int(sum(int(data[at : at + 1024].sum()) for at in places.tolist()))
    else:
        result = int(file[task][:].sum(dtype="i8"))
print(json.dumps([result, time.monotonic() - start]))
"""

# The same through a mount.
_MOUNT_PROGRAM = """
import json, os, sys, time
import numpy as np
folder, task = sys.argv[1:3]
start = time.monotonic()
if task == "list":
    result, pending = 0, [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat()
                result += not entry.name.endswith(".attrs.json")
                if entry.is_dir():
                    pending.append(entry.path)
elif task == "attribute":
    with open(f"{folder}/group7/d7.attrs.json") as file:
        result = json.load(file)["n"]
elif task == "random":
    with open(f"{folder}/contiguous.npy", "rb", buffering=0) as file:
        count = os.fstat(file.fileno()).st_size // 4 - 32
        places = np.random.default_rng(1).integers(0, count - 1024, 100)
        result = 0
        for at in places.tolist():
            data = os.pread(file.fileno(), 4096, 128 + 4 * at)
            result += int(np.frombuffer(data, "<i4").sum())
else:
    result = int(np.load(f"{folder}/{task}.npy").sum(dtype="i8"))
print(json.dumps([int(result), time.monotonic() - start]))
"""


@dataclass(frozen=True)
class Cost:
    """What a task has cost, and what came out of it."""

    result: int
    requests: int
    megabytes: float
    busy_seconds: float
    wall_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.requests:5d} req {self.megabytes:7.1f} MB  busy {self.busy_seconds:6.2f} s  "
            f"wall {self.wall_seconds:6.2f} s"
        )


def run_remote(folder: Path, size_mb: int) -> int:
    """Run all tasks on all networks; print a table and the bars; return 1 when one is missed."""
    is_met = True
    for paged in (False, True):
        _write(folder / _name(paged), size_mb, paged=paged)
    with ObjectServer(folder) as server:
        for network in NETWORKS:
            print(f"\n{network} for each connection, {size_mb} MB")
            for task in TASKS:
                is_met &= _run_task(server, network, task)
        is_met &= _run_bars(server)
    return 0 if is_met else 1


def _run_task(server: ObjectServer, network: str, task: str) -> bool:
    own = _through_h5fs(server, network, task, _name(False))
    print(f"{task:>11}  {'h5fs':24} {own}")
    best: float | None = None
    for way in _READERS:
        try:
            other = _through_h5py(server, network, task, way)
        except (subprocess.SubprocessError, ModuleNotFoundError) as error:
            print(f"{'':>11}  {way:24} skipped: {str(error)[-120:]}")
            continue
        same = "" if other.result == own.result else "  ANOTHER RESULT"
        print(f"{'':>11}  {way:24} {other}{same}")
        best = min(other.busy_seconds, best or other.busy_seconds)
        if same:
            return False
    if best is None:
        return True
    factor = {"contiguous": 4.0, "gzip": 1.5}.get(task, 1.0)
    is_met = own.busy_seconds * factor <= best * _NOISE
    verdict = "met" if is_met else "MISSED"
    print(f"{'':>11}  busy {best / own.busy_seconds:.1f} times less; bar {factor:g}: {verdict}")
    return is_met


def _run_bars(server: ObjectServer) -> bool:
    network = next(iter(NETWORKS))
    with tempfile.TemporaryDirectory() as cache:
        first = _through_h5fs(server, network, "list", _name(False), cache)
        again = _through_h5fs(server, network, "list", _name(False), cache)
    paged = _through_h5fs(server, network, "list", _name(True))
    random = _through_h5fs(server, network, "random", _name(False))
    bars = (
        ("list of 634 objects", first.requests, 50, "requests"),
        ("list, paged file", paged.requests, 3, "requests"),
        ("list again, with the cache", again.requests, 1, "requests"),
        ("list again, with the cache", round(again.busy_seconds, 2), 0.3, "s busy"),
        ("100 random 4 KiB", round(random.megabytes, 1), 10, "MB"),
    )
    print()
    for title, value, bar, unit in bars:
        verdict = "met" if value <= bar else "MISSED"
        print(f"{title:>28}: {value} {unit} (bar {bar}): {verdict}")
    return all(value <= bar for _, value, bar, _ in bars)


def _through_h5fs(
    server: ObjectServer, network: str, task: str, name: str, cache: str | None = None
) -> Cost:
    _begin(server, network)
    with tempfile.TemporaryDirectory() as own:
        size = f"disk_cache=10G:{cache or own}"
        with mounted(f"{server.url}/{name}", options=["-o", size]) as mount:  # type: ignore[arg-type]
            result, wall = _run([_MOUNT_PROGRAM, str(mount.path), task])
            return _cost(server, result, wall)


def _through_h5py(server: ObjectServer, network: str, task: str, way: str) -> Cost:
    _begin(server, network)
    result, wall = _run([_PROGRAM, way, f"{server.url}/{_name(False)}", task])
    return _cost(server, result, wall)


def _begin(server: ObjectServer, network: str) -> None:
    latency, bandwidth = NETWORKS[network]
    server.reset()
    server.set(latency=latency, bandwidth=bandwidth)


def _run(words: list[str]) -> tuple[int, float]:
    done = subprocess.run(
        [sys.executable, "-c", *words], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise subprocess.SubprocessError(done.stderr.strip().splitlines()[-1])
    result, wall = json.loads(done.stdout)
    return result, wall


def _cost(server: ObjectServer, result: int, wall: float) -> Cost:
    counts = server.counts()
    return Cost(result, counts["requests"], counts["bytes"] / _MB, counts["busy_s"], wall)


def _name(paged: bool) -> str:
    return "paged.h5" if paged else "plain.h5"


def _write(path: Path, size_mb: int, *, paged: bool) -> None:
    """Write small datasets before and after two large ones."""
    if path.exists():
        return
    how = {"fs_strategy": "page", "fs_page_size": 4 * 2**20} if paged else {}
    count = size_mb * 2**20 // 4
    random = np.random.default_rng(0)
    with h5py.File(path.with_suffix(".new"), "w", **how) as file:
        large = file.create_dataset("contiguous", (count,), "<i4")
        packed = file.create_dataset(
            "gzip", (count,), "<i4", chunks=(2**18,), compression="gzip", compression_opts=1
        )
        _write_small(file, range(_DATASETS // 2))
        for start in range(0, count, _PIECE):
            size = min(_PIECE, count - start)
            large[start : start + size] = random.integers(0, 2**31, size, "<i4")
            packed[start : start + size] = random.integers(0, 2000, size, "<i4")
        _write_small(file, range(_DATASETS // 2, _DATASETS))
    os.replace(path.with_suffix(".new"), path)


def _write_small(file: h5py.File, numbers: range) -> None:
    for number in numbers:
        group = file.require_group(f"group{number % _GROUPS}")
        group.create_dataset(f"d{number}", data=np.arange(100) + number).attrs["n"] = number

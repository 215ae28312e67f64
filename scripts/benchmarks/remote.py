"""Files on other machines: what h5fs, and h5py on other readers, ask of a server that counts.

Each task is done cold, in a process of its own, over a server on 127.0.0.1 with a latency and a
bandwidth for each connection. Requests, bytes and *busy* (seconds with at least one request under
way) are the server's counts. Where the machine is busy, its requests take longer: so all ways are
measured in turn, and the medians of a few rounds are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import h5py
import numpy as np
from support.mounts import mounted
from support.object_server import ObjectServer

from benchmarks.processes import PeakMemory
from benchmarks.remote_readers import (
    BARE,
    BUCKET,
    H5FS,
    LIBRARIES,
    MOUNTS,
    Cost,
    FailedError,
    read_by,
)  # fmt: skip

NETWORKS = {"20 ms, 80 MB/s": (0.02, 80e6), "80 ms, 40 MB/s": (0.08, 40e6)}
TASKS = ("list", "attribute", "contiguous", "gzip", "random")
REMOTE_ROWS = (*TASKS, "requests", "memory")
_FACTORS = {"contiguous": 4.0, "gzip": 1.5}
_HOPELESS = 2.0  # who was so much slower than the best other is not measured again
_MB = 10**6
_DATASETS = 600
_GROUPS = 32
_PIECE = 2**22
_STREAMED_FACTOR = 8  # how much larger the arrays are that memory is measured with
_MEMORY_BAR_MB = 64


def run_remote(folder: Path, size_mb: int, runs: int, *, only: tuple[str, ...] = ()) -> int:
    """Run all tasks on all networks, or those named; return 1 when a bar is missed."""
    is_met = True
    (folder / BUCKET).mkdir(exist_ok=True)
    for paged in (False, True):
        _write(folder / BUCKET / _name(paged), size_mb, paged=paged)
    rows = only or REMOTE_ROWS
    tasks = [task for task in TASKS if task in rows]
    with ObjectServer(folder) as server:
        for network in NETWORKS if tasks else ():
            print(f"\n{network} for each connection, {size_mb} MB, median of up to {runs}")
            for task in tasks:
                is_met &= _run_task(server, network, task, runs, size_mb)
        if "requests" in rows:
            is_met &= _run_bars(server)
        if "memory" in rows:
            is_met &= _run_memory(server, size_mb * _STREAMED_FACTOR)
    return 0 if is_met else 1


def _run_task(server: ObjectServer, network: str, task: str, runs: int, size_mb: int) -> bool:
    ways = [H5FS, *LIBRARIES, *MOUNTS, *([BARE] if task == "contiguous" else [])]
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(runs):
        for way in ways:
            try:
                _begin(server, network)
                costs[way].append(
                    read_by(way, server, _name(False), task, array_bytes=size_mb * 2**20)
                )
            except FailedError as error:
                print(f"{task:>11}  {way:25} skipped: {error}")
        best = _best(costs, LIBRARIES)
        ways = [w for w in ways if costs[w] and (w == H5FS or _busy(costs[w]) <= _HOPELESS * best)]
    own = costs[H5FS]
    if not own:
        return False
    for way, its in costs.items():
        if its:
            middle = sorted(its, key=lambda cost: cost.busy_seconds)[len(its) // 2]
            is_same = way == BARE or all(cost.result == own[0].result for cost in its)
            print(f"{task:>11}  {way:25} {middle}{'' if is_same else '  ANOTHER RESULT'}")
            if not is_same:
                return False
    judged = (
        _judge(_busy(own), _best(costs, LIBRARIES), "h5py", _FACTORS.get(task, 1.0)),
        _judge(_busy(own), _best(costs, MOUNTS), "rclone", 1.0),
    )
    if costs.get(BARE):
        most = _best(costs, LIBRARIES) / _busy(costs[BARE])
        print(f"{'':>11}  (bare requests, {most:.1f} times less: what this machine carries)")
    return all(judged)


def _best(costs: dict[str, list[Cost]], ways: tuple[str, ...]) -> float:
    return min((_busy(costs[way]) for way in ways if costs[way]), default=0.0)


def _judge(own: float, best: float, title: str, factor: float) -> bool:
    if not best:
        return True
    verdict = "met" if own * factor <= best else "MISSED"
    print(f"{'':>11}  {best / own:.1f} times less busy than {title}; bar {factor:g}: {verdict}")
    return verdict == "met"


def _busy(costs: list[Cost]) -> float:
    return statistics.median(cost.busy_seconds for cost in costs)


def _run_bars(server: ObjectServer) -> bool:
    network = next(iter(NETWORKS))

    def measure(task: str, *, paged: bool = False, cache: str | None = None) -> Cost:
        _begin(server, network)
        return read_by(H5FS, server, _name(paged), task, cache=cache)

    with tempfile.TemporaryDirectory() as cache:
        first = measure("list", cache=cache)
        again = measure("list", cache=cache)
    bars = (
        ("list of 634 objects", first.requests, 50, "requests"),
        ("list, paged file", measure("list", paged=True).requests, 3, "requests"),
        ("list again, with the cache", again.requests, 1, "requests"),
        ("list again, with the cache", round(again.busy_seconds, 2), 0.3, "s busy"),
        ("100 random 4 KiB", round(measure("random").megabytes, 1), 10, "MB"),
    )
    print()
    for title, value, bar, unit in bars:
        verdict = "met" if value <= bar else "MISSED"
        print(f"{title:>28}: {value} {unit} (bar {bar}): {verdict}")
    return all(value <= bar for _, value, bar, _ in bars)


def _run_memory(server: ObjectServer, size_mb: int) -> bool:
    """Compare what a mount holds while arrays are streamed: from far, and from this disk."""
    path = server.folder / BUCKET / "streamed.h5"
    _write_streamed(path, size_mb)
    is_met = True
    print()
    for task in ("contiguous", "gzip"):
        _begin(server, next(iter(NETWORKS)))
        local = _peak_memory(path, task) / _MB
        with tempfile.TemporaryDirectory() as cache:
            url = f"{server.url}/{BUCKET}/{path.name}"
            far = _peak_memory(url, task, "-o", f"disk_cache=10G:{cache}") / _MB
        is_met &= far <= local + _MEMORY_BAR_MB
        verdict = "met" if far <= local + _MEMORY_BAR_MB else "MISSED"
        print(
            f"memory, {size_mb} MB {task} streamed: {far:.0f} MB from far, {local:.0f} MB from "
            f"this disk (bar {_MEMORY_BAR_MB} more): {verdict}"
        )
    path.unlink()
    return is_met


def _peak_memory(file: Path | str, task: str, *options: str) -> int:
    """Return the most that the daemon and its workers held, as the kernel tells it (PSS)."""
    with mounted(file, options=options) as mount:  # type: ignore[arg-type]
        with PeakMemory(lambda: {mount.pid}) as peak:
            subprocess.run(
                ["cat", mount.path / f"{task}.npy"], stdout=subprocess.DEVNULL, check=True
            )
        return peak.bytes


def _begin(server: ObjectServer, network: str) -> None:
    latency, bandwidth = NETWORKS[network]
    server.reset()
    server.set(latency=latency, bandwidth=bandwidth)


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
        packed = _create_packed(file, count)
        _write_small(file, range(_DATASETS // 2))
        for start in range(0, count, _PIECE):
            size = min(_PIECE, count - start)
            large[start : start + size] = random.integers(0, 2**31, size, "<i4")
            packed[start : start + size] = random.integers(0, 2000, size, "<i4")
        _write_small(file, range(_DATASETS // 2, _DATASETS))
    os.replace(path.with_suffix(".new"), path)


def _create_packed(file: h5py.File, count: int) -> h5py.Dataset:
    return file.create_dataset(
        "gzip", (count,), "<i4", chunks=(2**18,), compression="gzip", compression_opts=1
    )


def _write_small(file: h5py.File, numbers: range) -> None:
    for number in numbers:
        group = file.require_group(f"group{number % _GROUPS}")
        group.create_dataset(f"d{number}", data=np.arange(100) + number).attrs["n"] = number


def _write_streamed(path: Path, size_mb: int) -> None:
    """Write two large arrays that are the same piece again and again, which is soon done."""
    count = size_mb * 2**20 // 4
    piece = np.random.default_rng(0).integers(0, 2000, _PIECE, "<i4")
    with h5py.File(path, "w") as file:
        large = file.create_dataset("contiguous", (count,), "<i4")
        packed = _create_packed(file, count)
        for start in range(0, count, _PIECE):
            large[start : start + _PIECE] = piece[: count - start]
        packed[: 2**18] = piece[: 2**18]
        _, stored = packed.id.read_direct_chunk((0,))
        for start in range(2**18, count, 2**18):
            packed.id.write_direct_chunk((start,), stored)

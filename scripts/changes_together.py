#!/usr/bin/env python3
"""Measure what it saves to commit small changes of several threads together.

    scripts/changes_together.py [--threads 8] [--changes 120] [--runs 5]

Threads change one store, without a mount: groups, arrays of 100 numbers, arrays each followed by a
commit to the disk. Alternately with requests of several changes and without, each run over a file
of its own. Prints medians: CPU of the worker and of this process for each change, in microseconds,
changes per second, and how many changes a request had; then what is with over what is without.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import h5py  # noqa: E402
import numpy as np  # noqa: E402

from h5fs.model.settings import Mode, StoreOptions  # noqa: E402
from h5fs.projection.npy import parse_header  # noqa: E402
from h5fs.store import open_store  # noqa: E402
from h5fs.store.interface import ArrayFile  # noqa: E402

KINDS = ("groups", "arrays", "arrays and commits")


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--changes", type=int, default=120, help="of each thread")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{'':20}{'':9}{'worker':>8}{'daemon':>8}{'a second':>10}{'a request':>11}")
    for kind in KINDS:
        runs: dict[str, list[list[float]]] = {"apart": [], "together": []}
        for _ in range(options.runs):
            for how, most in (("apart", 1), ("together", 64)):
                runs[how].append(measure(kind, options.threads, options.changes, most))
        medians = {
            how: [statistics.median(column) for column in zip(*rows, strict=True)]
            for how, rows in runs.items()
        }
        for how, row in medians.items():
            print(f"{kind:20}{how:9}{row[0]:8.0f}{row[1]:8.0f}{row[2]:10.0f}{row[3]:11.2f}")
        ratios = [a / b for a, b in zip(medians["together"], medians["apart"], strict=True)]
        print(f"{'':20}{'ratio':9}{ratios[0]:8.2f}{ratios[1]:8.2f}{ratios[2]:10.2f}", flush=True)
    return 0


def measure(kind: str, threads: int, count: int, most_changes: int) -> list[float]:
    """Return what one run took for each change, its changes per second and per request."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "f.h5")
        h5py.File(file, "w").close()
        store: Any = open_store(StoreOptions(file, mode=Mode.UPDATE))
        try:
            for queue in (store._queue, store._commits):
                queue._most_changes = most_changes
            return _run(store, kind, threads, count)
        finally:
            store.close()


def _run(store: Any, kind: str, threads: int, count: int) -> list[float]:
    array, root = _small_array(), store.root().ref
    groups = [store.create_group(root, b"%d" % number).ref for number in range(threads)]

    def work(number: int) -> None:
        for i in range(count):
            if kind == "groups":
                store.create_group(groups[number], b"%d" % i)
                continue
            store.write_array(groups[number], b"%d" % i, array)
            if kind == "arrays and commits":
                store.commit()

    queue, (pid,) = store._queue, store._pool.worker_pids()
    changes, requests = queue.change_count, queue.request_count
    before = _cpu_seconds(pid), time.process_time(), time.monotonic()
    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    worker, own, seconds = (
        now - then
        for now, then in zip(
            (_cpu_seconds(pid), time.process_time(), time.monotonic()), before, strict=True
        )
    )
    changes, requests = queue.change_count - changes, queue.request_count - requests
    return [1e6 * worker / changes, 1e6 * own / changes, changes / seconds, changes / requests]


def _small_array() -> ArrayFile:
    content = io.BytesIO()
    np.save(content, np.arange(100.0))
    data = content.getvalue()
    header = parse_header(data)
    assert header is not None
    return ArrayFile(
        -1, len(data), header.shape, header.dtype, header.is_fortran_order, header.size_bytes,
        data=data,
    )  # fmt: skip


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())

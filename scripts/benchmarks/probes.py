#!/usr/bin/env python3
"""Programs that are timed: one process each, so that neither caches nor imports are shared.

    probes.py NAME '{"argument": value, ...}'

The process imports what it needs, prints ``ready``, waits for a line, does its work, and prints
JSON: when it began and ended (``time.monotonic``, the same clock for every process), how long it
has computed meanwhile, and a digest of what it read, which must be the same through the mount and
without.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.change_probes import CHANGE_PROBES
from benchmarks.copy_probes import COPY_PROBES
from benchmarks.view_probes import VIEW_PROBES
from benchmarks.walk_probes import WALK_PROBES
from benchmarks.write_probes import WRITE_PROBES

Array = npt.NDArray[Any]
Work = Callable[[], Any]

RANDOM_WIDTH = 1024  # elements of four bytes: 4 KiB
SEED = 20260314

# The threads of OpenBLAS, which numpy starts when it is imported, spin for 30 ms before they sleep:
# a core that what is measured needs.
AFTER_IMPORT_SECONDS = 0.1

# More than what a row reads takes up: the pages that the kernel keeps, and the array.
USED_BEFORE_BYTES = 2**30


def main() -> None:
    """Run the probe that the command line names."""
    prepare = PROBES[sys.argv[1]]
    np.load(io.BytesIO(_tiny_npy()))  # what numpy imports at its first load is not measured
    work = prepare(**json.loads(sys.argv[2]))
    time.sleep(AFTER_IMPORT_SECONDS)
    use_free_memory()
    print("ready", flush=True)
    sys.stdin.readline()
    start, before = time.monotonic(), computing_seconds()
    result = work()
    stop, computed = time.monotonic(), computing_seconds() - before
    answer = {"start": start, "stop": stop, "computed": computed, "digest": digest(result)}
    print(json.dumps(answer), flush=True)


def computing_seconds() -> float:
    """Return how long this process and its children have computed, and the system for them."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def use_free_memory() -> None:
    """Touch memory and give it back, so that the kernel has it at hand for what is measured.

    A virtual machine's host may take back what lies free for 2 s (free page reporting), and 768 MB
    then take 1 s to touch for the first time instead of 0.06 s: now on this side, now on that.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    pages = np.empty(min(USED_BEFORE_BYTES, free // 4), np.uint8)
    pages[:: os.sysconf("SC_PAGE_SIZE")] = 1


def _tiny_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(1))
    return stream.getvalue()


def digest(result: Any) -> Any:
    """Return a number that differs when the data do: of a sample, when it is a large array."""
    if callable(result):  # it is worked out only now, when the time was taken
        return result()
    if not isinstance(result, np.ndarray):
        return result
    flat = result.reshape(-1)
    if flat.dtype.names:
        flat = flat[flat.dtype.names[0]]
    if flat.dtype.kind in "UO":
        flat = np.array([len(text) for text in flat[::97].tolist()])
    return [list(result.shape), int(flat[:: max(1, flat.size // 1_000_003)].sum(dtype=np.int64))]


def load(path: str, *, times: int = 1) -> Work:
    """``np.load``; with ``times=2`` the second time."""
    for _ in range(times - 1):
        np.load(path)
    return lambda: np.load(path)


def h5py_load(file: str, dataset: str, *, as_text: bool = False) -> Work:
    """Open with h5py and read the whole dataset: what ``np.load`` of a mounted file replaces."""
    import h5py
    import hdf5plugin  # noqa: F401  (registers its filters)

    def work() -> Array:
        with h5py.File(file, "r") as opened:
            data = opened[dataset]
            return np.asarray(data.asstr()[...] if as_text else data[...])

    return work


def mmap_rows(path: str, count: int) -> Work:
    """Random 4 KiB pieces through ``mmap``, after the whole file was read once."""
    _read_through(path)
    array = np.load(path, mmap_mode="r")
    places = list(_places(array.shape, count))

    def work() -> int:
        total = 0
        for row, column in places:
            piece = np.array(array[row, column : column + RANDOM_WIDTH])
            total += int(piece[0]) + int(piece[-1])
        return total

    return work


def pread_rows(path: str, count: int) -> Work:
    """Random 4 KiB pieces by ``pread``, the kernel told not to read ahead: a request for each."""
    with open(path, "rb") as opened:
        version = np.lib.format.read_magic(opened)
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        shape, _, dtype = read_header(opened)
        offset = opened.tell()
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    places = [
        offset + (row * shape[1] + column) * dtype.itemsize for row, column in _places(shape, count)
    ]
    size = min(RANDOM_WIDTH, shape[1]) * dtype.itemsize

    def work() -> int:
        total = 0
        for place in places:
            piece = np.frombuffer(os.pread(descriptor, size, place), dtype)
            total += int(piece[0]) + int(piece[-1])
        return total

    return work


def h5py_rows(file: str, dataset: str, count: int) -> Work:
    """The same pieces as slices of an open h5py dataset."""
    import h5py

    array = h5py.File(file, "r")[dataset]
    places = list(_places(array.shape, count))

    def work() -> int:
        total = 0
        for row, column in places:
            piece = array[row, column : column + RANDOM_WIDTH]
            total += int(piece[0]) + int(piece[-1])
        return total

    return work


def _places(shape: tuple[int, ...], count: int) -> Iterator[tuple[int, int]]:
    """Yield where the pieces start: the same places for the same shape."""
    rng = np.random.default_rng(SEED)
    rows = rng.integers(0, shape[0], count)
    columns = rng.integers(0, max(shape[1] - RANDOM_WIDTH, 0) + 1, count)
    return zip(map(int, rows), map(int, columns), strict=True)


def blocks(path: str, size: int) -> Work:
    """Read a file from its beginning to its end by ``read`` of a size."""

    def work() -> int:
        total = 0
        with open(path, "rb", buffering=0) as opened:
            while piece := opened.read(size):
                total += len(piece)
        return total

    return work


def stats(folder: str, names: str, total: int, count: int) -> Work:
    """``stat`` files whose names nobody has asked for: ``names`` is a pattern of their number."""
    chosen = np.random.default_rng(SEED).choice(total, min(count, total), replace=False)
    paths = [os.path.join(folder, names.format(int(number))) for number in chosen]
    return lambda: sum(os.stat(path).st_size for path in paths)


def command(words: list[str], *, times: int = 1) -> Work:
    """Run a command, its output to a file; with ``times=2`` the second time. Digest: its lines."""
    for _ in range(times - 1):
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    output = tempfile.TemporaryFile()  # noqa: SIM115  (ends with the process)

    def work() -> _LineCount:
        subprocess.run(words, stdout=output, check=True)
        return _LineCount(output)

    return work


class _LineCount(int):
    """Lines of a file that are counted after the time was taken."""

    def __new__(cls, output: Any) -> _LineCount:
        output.seek(0)
        return super().__new__(cls, sum(piece.count(b"\n") for piece in iter(output.read1, b"")))


def _read_through(path: str) -> None:
    with Path(path).open("rb", buffering=0) as opened:
        while opened.read(2**20):
            pass


PROBES: dict[str, Callable[..., Work]] = {
    "load": load,
    "h5py_load": h5py_load,
    "mmap_rows": mmap_rows,
    "pread_rows": pread_rows,
    "h5py_rows": h5py_rows,
    "blocks": blocks,
    "stats": stats,
    "command": command,
    **WRITE_PROBES,
    **WALK_PROBES,
    **VIEW_PROBES,
    **CHANGE_PROBES,
    **COPY_PROBES,
}


if __name__ == "__main__":
    main()

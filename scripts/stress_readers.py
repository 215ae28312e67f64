#!/usr/bin/env python3
"""Read arrays beside all that must not disturb a reader, and see that each read is of one version.

    scripts/stress_readers.py [--minutes 2] [--seed 0] [--readers 3]

In a mount of mode r+ arrays are replaced (`rename`), other programs' arrays are refused, new ones
come and go, workers are killed, and root drops the kernel's caches, so that workers start under
memory pressure. Then in a mount of mode r the HDF5 file itself is replaced. Each array is full of
one number, which is that of its version; a version has a length of its own. In mode r each reader
has arrays of its own, since the kernel has one cache for each path (F2). Exit status 1 when a read
was wrong or an error; ESTALE (R10, F2) is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import h5py
import numpy as np
from support.mounts import Mounted, mounted
from support.watching import find_workers

_NAMES = [f"{layout}{number}" for layout in ("plain", "gzip") for number in range(3)]
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_HEADER_BYTES = 128
_ITEM_BYTES = 4
_PIECE_BYTES = 40_000


def main() -> int:
    """Run both parts; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2, help="of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", type=int, default=3, choices=range(1, len(_NAMES) + 1))
    given = parser.parse_args()
    problems = []
    for mode, change in (("r+", replace_in_the_mount), ("r", replace_the_file)):
        with tempfile.TemporaryDirectory(prefix="h5fs-stress-", dir="/var/tmp") as folder:
            file = Path(folder, "f.h5")
            write_version(file, 1)
            with mounted(file, options=["--mode", mode, "-o", "cache=4M"]) as mount:
                stress = Stress(mount, file, given.seed, 60 * given.minutes)
                stress.run(change, given.readers)
        print(f"mode {mode}: {dict(sorted(stress.counts.items()))}", flush=True)
        for problem in stress.problems[:20]:
            print(f"    WRONG: {problem}", flush=True)
        problems += stress.problems
    return 1 if problems else 0


class Stress:
    """What runs beside what on one mount, and what was seen."""

    def __init__(self, mount: Mounted, file: Path, seed: int, seconds: float) -> None:
        self.mount, self.file = mount, file
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._seed = seed
        self._end = time.monotonic() + seconds

    def run(self, change: Callable[[Stress, random.Random, int], None], readers: int) -> None:
        """Read, change and disturb until the time is over."""
        names = [_NAMES] * readers
        if change is replace_the_file:
            names = [_NAMES[number::readers] for number in range(readers)]
        work: list[Callable[[random.Random, int], None]] = [
            functools.partial(self.read, each) for each in names
        ]
        work += [lambda chance, turn: change(self, chance, turn), self.disturb]
        threads = [
            threading.Thread(target=self._repeat, args=(each, random.Random(self._seed + number)))
            for number, each in enumerate(work)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, work: Callable[[random.Random, int], None], chance: random.Random) -> None:
        turn = 1
        while time.monotonic() < self._end and len(self.problems) < 20:
            turn += 1
            try:
                work(chance, turn)
            except Exception as error:
                self.problems.append(f"{getattr(work, '__name__', 'change')}: {error!r}")

    def read(self, names: Sequence[str], chance: random.Random, _turn: int) -> None:
        """Read one array in pieces, past the kernel's cache, and check all of it."""
        name = f"{chance.choice(names)}.npy"
        try:
            descriptor = os.open(self.mount.path / name, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self.counts["ESTALE at open"] += 1
            return
        try:
            found = self._read_pieces(descriptor, chance)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self.counts["ESTALE while reading"] += 1
            return
        finally:
            os.close(descriptor)
        array = np.frombuffer(found[_HEADER_BYTES:], "<i4")
        version = int(array[0]) if len(array) else 0
        whole = _HEADER_BYTES + _ITEM_BYTES * length_of(version)
        if set(array.tolist()) != {version} or len(found) != whole:
            self.problems.append(
                f"{name}: {len(found)} bytes of {sorted(set(array.tolist()))}, not {whole}"
            )
        self.counts["reads"] += 1

    def _read_pieces(self, descriptor: int, chance: random.Random) -> bytes:
        pieces = []
        while piece := os.read(descriptor, _PIECE_BYTES):
            pieces.append(piece)
            if chance.random() < 0.2:
                time.sleep(chance.random() / 50)
                if chance.random() < 0.3:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return b"".join(pieces)

    def disturb(self, chance: random.Random, _turn: int) -> None:
        """Kill a worker; as root, drop what the kernel can drop, so that the next one starts so."""
        time.sleep(chance.random() / 2)
        workers = find_workers(self.mount.pid)
        with contextlib.suppress(ProcessLookupError):
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                self.counts["workers killed"] += 1
        if os.geteuid() == 0 and chance.random() < 0.5:
            _DROP_CACHES.write_text("2")
            self.counts["caches dropped"] += 1


def replace_in_the_mount(stress: Stress, chance: random.Random, turn: int) -> None:
    """Give an array another version; have an array refused; let one come and go."""
    folder, name = stress.mount.path, chance.choice(_NAMES)
    np.save(folder / "new.npy", array_of(turn))
    os.rename(folder / "new.npy", folder / f"{name}.npy")
    stress.counts["arrays replaced"] += 1
    try:
        np.save(folder / "refused.npy", np.array(["a\0b", "c"]))
        stress.problems.append("an array that HDF5 cannot hold was taken")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        stress.counts["arrays refused"] += 1
    os.unlink(folder / "refused.npy")
    time.sleep(chance.random() / 10)


def replace_the_file(stress: Stress, chance: random.Random, turn: int) -> None:
    """Put another HDF5 file in the place of the mounted one."""
    new = stress.file.with_suffix(".new")
    write_version(new, turn)
    os.replace(new, stress.file)
    stress.counts["files replaced"] += 1
    time.sleep(0.5 + chance.random())


def length_of(version: int) -> int:
    """Return how many elements arrays of a version have."""
    return 50_000 + version % 97


def array_of(version: int) -> np.ndarray:
    """Return the array of a version."""
    return np.full(length_of(version), version, "<i4")


def write_version(file: Path, version: int) -> None:
    """Write an HDF5 file in which all arrays are of one version."""
    with h5py.File(file, "w") as opened:
        for name in _NAMES:
            options = {"chunks": (5000,), "compression": 1} if name.startswith("gzip") else {}
            opened.create_dataset(name, data=array_of(version), maxshape=None, **options)


if __name__ == "__main__":
    sys.exit(main())

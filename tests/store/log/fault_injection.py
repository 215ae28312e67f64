"""The n-th system call of a piece of work fails, for every n: no commit that returned is lost."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass

import hdf5_work
from power_cuts import Tally
from simulated_disk import History, SimulatedFile

from h5fs.store.log.logged_file import LoggedFile

COMMITS = ("durable", "soft", "durable", "checkpoint", "soft", "durable", "checkpoint", "durable")


@dataclass
class Fault:
    """Fails from the ``at``-th call on, or only there: with ``number``, 0 for a short write."""

    at: int
    number: int
    is_for_good: bool
    count: int = 0
    hits: int = 0

    def __call__(self, file: str, kind: str, size: int) -> int:
        self.count += 1
        if self.count < self.at or (self.count > self.at and not self.is_for_good):
            return 0
        if self.number == errno.ENOSPC and kind != "pwrite":
            return 0
        if self.number == 0:
            if kind != "pwrite" or size < 2:
                return 0
            self.hits += 1
            return -(size // 2)
        self.hits += 1
        return self.number


def inject_faults(
    seed: int,
    show: Callable[[str], None] = lambda text: None,
    *,
    step: int = 1,
) -> Tally:
    """Fail every ``step``-th system call of a seed's work, in all ways."""
    tally = Tally()
    total = Fault(10**9, errno.EIO, is_for_good=False)
    _work(seed, total, tally)
    for number in (errno.EIO, errno.ENOSPC, 0):
        for is_for_good in (False, True):
            for at in range(1, total.count + 1, step):
                show(f"call {at} of {total.count}, {len(tally.losses)} lost")
                fault = Fault(at, number, is_for_good)
                _work(seed, fault, tally)
                name = errno.errorcode.get(number, "short write")
                way = "for good" if is_for_good else "once"
                tally.counts[f"{name} {way}"] += bool(fault.hits)
    return tally


def _work(seed: int, fault: Fault, tally: Tally) -> None:
    """Do a seed's work over failing calls, then see what a process finds that comes after."""
    rng = random.Random(seed)
    history = History({"main": b"", "log": b""}, b"")
    # The newest image that a commit returned for, and those of commits that raised after it.
    allowed = [b""]
    finished, round_number = 0, 0
    while finished < len(COMMITS) and round_number < 4:
        round_number += 1
        disk = [SimulatedFile(history, name, fault) for name in ("main", "log")]
        file = LoggedFile(disk[0], disk[1], boot_id=b"boot")
        try:
            file.open()
        except OSError:
            continue
        finished += _work_until_failure(file, rng, COMMITS[finished:], allowed)
        _check(history, allowed, fault, tally)


def _work_until_failure(
    file: LoggedFile, rng: random.Random, ways: tuple[str, ...], allowed: list[bytes]
) -> int:
    """Return how many commits returned. After one that raised, HDF5's file is given up."""
    finished = 0
    try:
        opened = hdf5_work.open_hdf5(file, rng.choice(hdf5_work.LIBVERS))
    except OSError:
        return finished  # a read failed
    try:
        for way in ways:
            for _ in range(3):
                hdf5_work.change(opened, rng, 150_000)
            opened.flush()
            image = _read(file) or _read(file)
            try:
                _commit(file, way)
            except OSError:
                if image is None:
                    return finished
                if way == "checkpoint" and not file.has_changes:
                    allowed[:] = [image]  # the commit in it did return
                else:
                    allowed.append(image)
                if file.failure is not None:
                    return finished
                _commit(file, way)  # it may be tried again
            finished += 1
            allowed[:] = [image] if image is not None else allowed
    except Exception:
        return finished  # what HDF5 read was wrong, or nothing can be committed
    finally:
        opened.close()
    return finished


def _read(file: LoggedFile) -> bytes | None:
    try:
        return file.read_at(0, file.length)
    except OSError:
        return None


def _commit(file: LoggedFile, way: str) -> None:
    if way == "checkpoint":
        file.checkpoint()
    else:
        file.commit(durable=way == "durable")


def _check(history: History, allowed: list[bytes], fault: Fault, tally: Tally) -> None:
    disk = [SimulatedFile(history, name) for name in ("main", "log")]
    name = f"{errno.errorcode.get(fault.number, 'short write')} at call {fault.at}"
    try:
        file = LoggedFile(disk[0], disk[1], boot_id=b"boot")
        file.open()
    except Exception as error:
        tally.losses.append(f"{name}: {error!r}")
        return
    image = file.read_at(0, file.length)
    if image not in allowed:
        tally.losses.append(f"{name}: not the last commit")
    elif image != allowed[0]:
        # Only where even cutting the log back failed.
        tally.counts["a commit that raised stands"] += 1
    else:
        tally.counts["the last commit stands"] += 1

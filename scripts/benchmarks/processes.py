"""Processes and mounts of a run: found, measured, and ended, by what only they have.

Every process of a run carries the run's token in its environment, so that a daemon is found
wherever it has gone; every mountpoint lies below the run's folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TOKEN_NAME = "H5FS_BENCH_TOKEN"
SAMPLE_SECONDS = 0.05
SWEEP_SECONDS = 0.25
GIVE_UP_SECONDS = 20


def find_token_processes(token: str) -> set[int]:
    """Return the processes, other than this one, that were started with the token.

    A token ``run/part`` is one of ``run``.
    """
    wanted = re.compile(rf"(?:^|\0){TOKEN_NAME}={re.escape(token)}[/\0]".encode())
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted.search((folder / "environ").read_bytes()):
                found.add(int(folder.name))
    return found - {os.getpid()}


def find_descendants(roots: set[int]) -> set[int]:
    """Return processes and all that descend from them."""
    children: dict[int, set[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # "pid (name) state parent": a name may hold anything, even a parenthesis.
            parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            children.setdefault(parent, set()).add(int(folder.name))
    found: set[int] = set()
    new = set(roots)
    while new:
        found |= new
        new = set().union(*(children.get(pid, set()) for pid in new)) - found
    return found


def computing_seconds(pids: set[int]) -> float:
    """Return how long processes have computed, the system for them, and children that ended."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # What follows the name: state, parent, and so on; 11 to 14 are in ticks.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def memory_bytes(pids: set[int]) -> int:
    """Return what processes hold: their own pages, and once what they share.

    PSS, and of shared memory all that is allocated: what no process has mapped is memory too.
    """
    own = shared_mapped = 0
    shared: dict[int, int] = {}
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            shared |= _memory_files(pid)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        pss, pss_shared = _kilobytes(rollup, "Pss"), _kilobytes(rollup, "Pss_Shmem")
        own += pss - pss_shared
        shared_mapped += pss_shared
    return own + max(shared_mapped, sum(shared.values()))


def _kilobytes(rollup: str, name: str) -> int:
    match = re.search(rf"^{name}: +([0-9]+) kB$", rollup, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _memory_files(pid: int) -> dict[int, int]:
    """Return the allocated bytes of each memory file (``memfd``, ``/dev/shm``) that is open."""
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(descriptor).startswith(("/memfd:", "/dev/shm/")):
                status = descriptor.stat()
                found[status.st_ino] = status.st_blocks * 512
    return found


class PeakMemory:
    """Samples what processes hold while a block runs."""

    def __init__(self, find_pids: Callable[[], set[int]]) -> None:
        self.bytes = 0
        self._find_pids = find_pids
        self._ended = threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        try:
            while not self._ended.wait(SAMPLE_SECONDS):
                self.bytes = max(self.bytes, memory_bytes(find_descendants(self._find_pids())))
        except Exception as error:
            self._failure = error


def find_mounts_below(folder: Path) -> list[Path]:
    """Return the mountpoints below a folder, the last mounted first."""
    places = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        escaped = line.split(b" ")[4]
        place = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), escaped)
        places.append(Path(os.fsdecode(place)))
    return [place for place in reversed(places) if folder in place.parents]


def wait_for_end(pids: set[int], *, seconds: float) -> None:
    """Wait until processes have ended, or some time."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        with contextlib.suppress(ProcessLookupError), _opened(pid) as process:
            select.select([process], [], [], max(deadline - time.monotonic(), 0))


@contextlib.contextmanager
def _opened(pid: int) -> Iterator[int]:
    process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        os.close(process)


def unmount(mountpoint: Path) -> None:
    """Take a mount away, also one that is in use or hangs."""
    words = ["fusermount3", "-uz", str(mountpoint)]
    subprocess.run(words, check=False, capture_output=True, timeout=30)


def sweep(token: str, folder: Path, *, patience_seconds: float) -> bool:
    """End mounts below a folder and their processes; return whether nothing is left.

    A daemon may still be starting, and mount later: so mounts are looked for as long as there are
    processes. Those that don't end by themselves are killed when patience is over.
    """
    patience_ends = time.monotonic() + patience_seconds
    while time.monotonic() < patience_ends + GIVE_UP_SECONDS:
        pids, places = find_token_processes(token), find_mounts_below(folder)
        if not pids and not places:
            return True
        for place in places:
            unmount(place)
        wait_for_end(pids, seconds=SWEEP_SECONDS)
        if time.monotonic() > patience_ends:
            for pid in find_token_processes(token):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(SWEEP_SECONDS)
    return False

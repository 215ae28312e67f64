"""A daemon and its descendants, watched while everything in its mount is read.

The reading is done by a program that may be given up, so that a mount that hangs is seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def find_descendants(pid: int) -> list[int]:
    """Return the ids of a process's children, their children and so on, parents first."""
    found, pending = [], [pid]
    while pending:
        for child in find_children(pending.pop(0)):
            found.append(child)
            pending.append(child)
    return found


def find_children(pid: int) -> list[int]:
    """Return the ids of a process's own children."""
    children: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                children += map(int, text.split())
    return children


def find_workers(daemon: int) -> list[int]:
    """Return the ids of a daemon's workers: its child forks them, and reads nothing itself."""
    return [worker for starter in find_children(daemon) for worker in find_descendants(starter)]


@dataclass(frozen=True)
class Process:
    """A process, told from a later one of the same id by when it started (0: there is none)."""

    pid: int
    started: int

    @classmethod
    def find(cls, pid: int) -> Process:
        """Return the process that has an id now."""
        return cls(pid, _look_at(pid)[1])

    def is_running(self) -> bool:
        """Whether it is there still and has not ended."""
        state, started = _look_at(self.pid)
        return started == self.started != 0 and state not in "ZX"

    def kill(self) -> None:
        """End it, if it runs."""
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_running():
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


def _look_at(pid: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "X", 0
    return fields[0].decode("ascii"), int(fields[19])


def wait_until_ended(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Return those of the processes that still run after so long."""
    end = time.monotonic() + seconds
    left = [process for process in processes if process.is_running()]
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = [process for process in left if process.is_running()]
    return left


def find_processes_of(folder: str | Path) -> list[Process]:
    """Return the processes, but for this one, that have a path on their command line."""
    needle, found = os.fsencode(folder), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) != os.getpid() and needle in (entry / "cmdline").read_bytes():
                found.append(Process.find(int(entry.name)))
    return [process for process in found if process.is_running()]


class MemoryWatch:
    """Takes the resident memory of a process and its descendants, again and again.

    A context manager; ``peak_bytes`` is the largest sum seen. Pages that they share count for each.
    """

    def __init__(self, pid: int, *, interval_seconds: float = 0.03) -> None:
        self.peak_bytes = 0
        self.processes = {Process.find(pid)}
        self._pid = pid
        self._interval_seconds = interval_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_seconds):
            pids = [self._pid, *find_descendants(self._pid)]
            self.processes.update(map(Process.find, pids))
            self.peak_bytes = max(self.peak_bytes, sum(map(_resident_bytes, pids)))


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


# Runs apart from h5fs and h5py, in a process that may be given up: os alone, as any program would.
# It goes into folders and out again, since paths may be longer than the kernel takes. The place of
# what it does is in a file, so that what hangs has a name. It ends by asking whether all is well.
_READER = r"""
import collections, errno, json, os, random, sys, time
root, place, seconds, most_entries, most_bytes = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
start = time.monotonic()
counts, problems, slowest, path = collections.Counter(), [], (0.0, "", ""), []
place = os.open(place, os.O_WRONLY | os.O_CREAT)

def ask(what, name, function, *arguments):
    global slowest
    here = b"/".join([*path[-20:], os.fsencode(name)])
    os.pwrite(place, (what.encode() + b" " + here)[:500].ljust(500) + b"\n", 0)
    begin = time.monotonic()
    try:
        return function(*arguments)
    except OSError as error:
        code = errno.errorcode[error.errno]
        counts[what + " " + code] += 1
        if len(problems) < 1000:
            problems.append((what, os.fsdecode(here), code))
        return None
    finally:
        slowest = max(slowest, (time.monotonic() - begin, what, os.fsdecode(here)))

def read_some(descriptor, size):
    # All of a small file; of a large one the beginning, the end and three places between.
    total = 0
    while total < most_bytes:
        piece = os.read(descriptor, 1 << 17)
        if not piece:
            return total
        total += len(piece)
    for part in (0.2, 0.5, 0.8, 1):
        os.pread(descriptor, 1 << 16, max(int((size - (1 << 16)) * part), 0))
    return None

def read_file(name):
    status = ask("stat", name, os.stat, name)
    descriptor = ask("open", name, os.open, name, os.O_RDONLY | os.O_NOFOLLOW)
    if descriptor is None:
        return
    total = ask("read", name, read_some, descriptor, status.st_size if status else 0)
    if total is not None:
        counts["read"] += 1
        if status is None or total != status.st_size:
            counts["short"] += 1
            problems.append(("read", os.fsdecode(name), "short"))
    os.close(descriptor)

def list_here():
    with os.scandir(".") as entries:
        return sorted(((e.name, e.is_dir(follow_symlinks=False), e.is_symlink())
                       for e in entries), reverse=True)

def fails(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"

def is_over():
    return time.monotonic() - start > seconds or counts["entries"] > most_entries

os.chdir(os.fsencode(root))
has_xattrs = fails(os.listxattr, ".") != "ENOTSUP"
levels, deepest = [[(os.fsencode(n), d, l) for n, d, l in ask("list", "", list_here) or []]], 0
while levels and not is_over():
    if not levels[-1]:
        levels.pop()
        if levels:
            path.pop()
            os.chdir("..")
        continue
    name, is_folder, is_link = levels[-1].pop()
    counts["entries"] += 1
    if is_link:
        ask("lstat", name, os.lstat, name)
        if ask("readlink", name, os.readlink, name) is not None:
            ask("stat link", name, os.stat, name)
    elif not is_folder:
        read_file(name)
        for key in has_xattrs and ask("listxattr", name, os.listxattr, name) or ():
            ask("getxattr", name, os.getxattr, name, key)
    elif ask("lstat", name, os.lstat, name) is not None:
        if ask("enter", name, lambda: os.chdir(name) or True):
            path.append(name)
            found = ask("list", b"", list_here)
            levels.append([(os.fsencode(n), d, l) for n, d, l in found or []])
            deepest = max(deepest, len(path))
ended = not levels
path = []
os.chdir("/")

final = {
    "statvfs": ask("final statvfs", "", fails, os.statvfs, root),
    "listing": ask("final listing", "", fails, os.listdir, root),
    "lookup": ask("final lookup", "", fails, os.stat, f"{root}/no such {random.getrandbits(60)}"),
}
print(json.dumps({"counts": counts, "problems": problems, "slowest": slowest, "ended": ended,
                  "deepest": deepest, "final": final, "seconds": time.monotonic() - start}))
"""


@dataclass(frozen=True)
class Reading:
    """What came of reading everything: counts by what was asked and errno, and the last answers."""

    counts: dict[str, int]
    problems: list[tuple[str, str, str]]
    slowest: tuple[float, str, str]
    ended: bool
    deepest: int
    final: dict[str, str]
    seconds: float

    def errno_of(self, path: str, *asked: str) -> str | None:
        """Return the name of the errno that one of the questions about a path got."""
        for what, where, code in self.problems:
            if where == path and (not asked or what in asked):
                return code
        return None


class HungError(AssertionError):
    """The mount did not answer; the message says what was asked."""


def read_everything(
    mountpoint: Path,
    *,
    seconds: float = 60,
    patience: float = 30,
    most_entries: int = 20_000,
    most_bytes: int = 4 * 2**20,
) -> Reading:
    """List, stat and read what is in a mount, as ``ls -lR`` and ``cat`` do, for so long.

    ``patience`` is what a last answer may take beyond that. Raises ``HungError``; the program that
    waits is not waited for then, since it ends no sooner than the mount does.
    """
    with tempfile.NamedTemporaryFile(prefix="h5fs-place-") as place:
        output = run_bounded(
            [
                sys.executable, "-I", "-S", "-c", _READER, str(mountpoint), place.name,
                str(seconds), str(most_entries), str(most_bytes),
            ],
            seconds=seconds + patience,
            explain=lambda: Path(place.name).read_text(errors="replace").strip(),
        )  # fmt: skip
    answer = json.loads(output)
    problems = [tuple(problem) for problem in answer.pop("problems")]
    return Reading(problems=problems, slowest=tuple(answer.pop("slowest")), **answer)


def run_bounded(
    command: Sequence[str | Path],
    *,
    seconds: float,
    explain: Callable[[], str] = str,
    must_succeed: bool = True,
    **arguments: Any,
) -> str:
    """Return what a program prints. One that does not end is killed and not waited for.

    Raises ``HungError``, ``CalledProcessError``.
    """
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **arguments
    )
    try:
        output, complaints = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        raise HungError(f"no end after {seconds:.0f} s: {explain() or command}") from None
    if child.returncode and must_succeed:
        raise subprocess.CalledProcessError(child.returncode, command[:1], output, complaints)
    return output

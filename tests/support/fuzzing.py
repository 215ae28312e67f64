"""Mutants of HDF5 files, and mounts watched while everything in them is read.

A mutant follows from its seed and the source files alone. A mount is judged from outside: by a
program that asks, by the memory of the daemon and its descendants, by its log, and by what is left
when it has ended.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from support.mounts import Mounted, MountFailedError, mounted

SIGNATURE = b"\x89HDF\r\n\x1a\n"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# ---------------------------------------------------------------- mutants


@dataclass(frozen=True)
class Mutant:
    """A damaged copy of a file, and how to make it again."""

    seed: int
    source: Path
    changes: tuple[str, ...]
    content: bytes

    @property
    def digest(self) -> str:
        """The content's SHA-256, to tell whether a replay is the same."""
        return hashlib.sha256(self.content).hexdigest()[:16]


def find_sources(corpus: Path, *, largest_bytes: int = 1_000_000) -> list[Path]:
    """Return the HDF5 files of a folder, small ones, in an order that stays the same."""
    return [
        path
        for path in sorted(corpus.rglob("*"))
        if path.is_file() and path.stat().st_size <= largest_bytes and _is_hdf5(path)
    ]


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def make_mutant(seed: int, sources: Sequence[Path]) -> Mutant:
    """Return the mutant of a seed: the same one for the same sources."""
    chance = random.Random(seed)
    source = chance.choice(sources)
    content = bytearray(source.read_bytes())
    changes = []
    for _ in range(chance.choice((1, 1, 2, 2, 3, 5, 8, 16, 40))):
        change = chance.choices(_CHANGES, _WEIGHTS)[0]
        if content:
            changes.append(change(chance, content, sources))
    if chance.random() < 0.8:
        changes.append(f"{repair_checksums(content)} checksums repaired")
    return Mutant(seed, source, tuple(changes), bytes(content))


def _flip_bit(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset, bit = _choose_offset(chance, content), chance.randrange(8)
    content[offset] ^= 1 << bit
    return f"bit {bit} at {offset} flipped"


def _set_bytes(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset = _choose_offset(chance, content)
    values = chance.randbytes(min(chance.choice((1, 1, 2, 4, 8, 32)), len(content) - offset))
    content[offset : offset + len(values)] = values
    return f"{values.hex()} at {offset}"


def _put_integer(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset = _choose_offset(chance, content)
    size = min(chance.choice((1, 2, 4, 8)), len(content) - offset)
    value = chance.choice(_INTEGERS) + chance.choice((0, 0, 0, -1, 1, -16))
    value %= 1 << 8 * size
    content[offset : offset + size] = value.to_bytes(size, "little")
    return f"{value:#x} ({size} bytes) at {offset}"


def _copy_word(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    """Let an address, perhaps, be another one of the same file: circles come of it."""
    start, offset = (_choose_offset(chance, content) & ~7 for _ in range(2))
    word = content[start : start + 8]
    content[offset : offset + len(word)] = word
    return f"8 bytes of {start} at {offset}"


def _splice_page(chance: random.Random, content: bytearray, sources: Sequence[Path]) -> str:
    other = chance.choice(sources)
    size = chance.choice((64, 512, 4096))
    pages = other.read_bytes()
    start = chance.randrange(len(pages) // size + 1) * size
    offset = chance.randrange(len(content) // size + 1) * size
    page = pages[start : start + size][: len(content) - offset]
    content[offset : offset + len(page)] = page
    return f"{len(page)} bytes of {start} of {other.name} at {offset}"


def _clear(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset = _choose_offset(chance, content)
    size = min(chance.choice((8, 64, 512)), len(content) - offset)
    content[offset : offset + size] = bytes(size)
    return f"{size} zeros at {offset}"


def _truncate(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    size = chance.randrange(len(content))
    del content[size:]
    return f"cut to {size}"


_Change = Callable[[random.Random, bytearray, Sequence[Path]], str]
_CHANGES: tuple[_Change, ...] = (
    _flip_bit, _set_bytes, _put_integer, _copy_word, _splice_page, _clear, _truncate,
)  # fmt: skip
_WEIGHTS = (30, 20, 30, 15, 8, 4, 2)
_INTEGERS = (
    0, 1, 2, 7, 8, 16, 255, 256, 4096, 2**15, 2**16 - 1, 2**20, 2**24, 2**30, 2**31, 2**32 - 1,
    2**32, 2**40, 2**53, 2**61, 2**62, 2**63, 2**64 - 1,
)  # fmt: skip

# Where the library's own structures begin: most bytes of most files are data, which harms nobody.
_STRUCTURES = re.compile(
    b"OHDR|OCHK|GCOL|TREE|SNOD|HEAP|FRHP|FHDB|FHIB|FSHD|FSSE|BTHD|BTIN|BTLF|SMTB|SMLI"
    b"|EAHD|EAIB|EASB|EADB|FAHD|FADB|FRHP|\x01\0..\x01\0\0\0",  # the last, old object headers
    re.DOTALL,
)


def _choose_offset(chance: random.Random, content: bytearray) -> int:
    where = chance.random()
    if where < 0.65:
        places = [found.start() for found in _STRUCTURES.finditer(content)]
        if places:
            return min(chance.choice(places) + chance.randrange(320), len(content) - 1)
    if where < 0.8:
        return chance.randrange(min(len(content), 2048))
    return chance.randrange(len(content))


def repair_checksums(content: bytearray) -> int:
    """Make the checksums of superblock and object headers right again; return how many were not.

    Without it HDF5 refuses most mutants of new files before it has looked at them. HDF5 file
    format, II.A and IV.A.1.b.
    """
    repaired = 0
    if content[8:9] in (b"\2", b"\3"):
        repaired += _repair(content, 0, 12 + 4 * content[9])
    for found in re.finditer(b"OHDR\2", content):
        start = found.start()
        flags = content[start + 5] if start + 5 < len(content) else 0
        place = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(content[place : place + width], "little")
        if size < 2**16:
            repaired += _repair(content, start, place + width + size)
    return repaired


def _repair(content: bytearray, start: int, stop: int) -> int:
    if stop + 4 > len(content):
        return 0
    checksum = lookup3(bytes(content[start:stop])).to_bytes(4, "little")
    if content[stop : stop + 4] == checksum:
        return 0
    content[stop : stop + 4] = checksum
    return 1


_WORD = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """Return Bob Jenkins's ``hashlittle`` with initial value 0 (lookup3.c, 2006)."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    last = max(len(data) - 1, 0) // 12 * 12
    for place in range(0, last + 1, 12):
        block = data[place : place + 12].ljust(12, b"\0")
        a = (a + int.from_bytes(block[:4], "little")) & _WORD
        b = (b + int.from_bytes(block[4:8], "little")) & _WORD
        c = (c + int.from_bytes(block[8:], "little")) & _WORD
        if place == last:
            break
        for bits in (4, 6, 8, 16, 19, 4):  # mix(); the three change places at each step
            a = (a - c & _WORD) ^ _rotate(c, bits)
            c = (c + b) & _WORD
            a, b, c = b, c, a
    if data:
        for bits in (14, 11, 25, 16, 4, 14, 24):  # final()
            c = (c ^ b) - _rotate(b, bits) & _WORD
            a, b, c = b, c, a
        return b
    return c


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _WORD


# ---------------------------------------------------------------- processes


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
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            children += map(int, (thread / "children").read_text().split())
    return children


def find_workers(daemon: int) -> list[int]:
    """Return the ids of a daemon's workers: its child forks them, and reads nothing itself."""
    return [worker for nursery in find_children(daemon) for worker in find_descendants(nursery)]


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
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])


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


# ---------------------------------------------------------------- reading a mount to the end

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


# ---------------------------------------------------------------- the log

# What the log says of trouble in a worker: the one place that knows its words. A crash or a hang
# has one line of its own, whoever asks after that.
_QUARANTINE = re.compile(r" ERROR quarantined: ")
_CRASH = re.compile(r"killed by (SIG\w+)|exited with status (\d+)")
_LOG_KINDS: tuple[tuple[str, str], ...] = (
    ("unexpected", r"unexpected|Traceback"),
    ("memory", r"more memory than|MemoryError|Cannot allocate"),
    ("chunk", r"max_chunk"),
    ("depth", r"max_depth"),
)


def classify_log_line(line: str) -> str | None:
    """Return which trouble a line of a mount's log is about; None for ordinary refusals."""
    if _QUARANTINE.search(line):
        crash = _CRASH.search(line)
        if crash:
            return f"crash {crash[1] or crash[2]}"
        return "hang" if "no answer within" in line else "quarantined for another reason"
    if ": quarantined: " in line:
        return None
    for kind, pattern in _LOG_KINDS:
        if re.search(pattern, line):
            return kind
    return None


_REFUSALS: tuple[tuple[str, str], ...] = (
    ("unexpected", r"unexpected"),
    ("crash on open", r"library crashes|killed by"),
    ("hang on open", r"library hangs|no answer within"),
    ("out of memory on open", r"memory"),
    ("no HDF5 signature", r"not an HDF5 file"),
    ("marked as open for write", r"marked as open"),
    ("HDF5 cannot open it", r"cannot open|Unable to|can't"),
)


def classify_refusal(message: str) -> str:
    """Return why a mount was refused, in a few words."""
    for kind, pattern in _REFUSALS:
        if re.search(pattern, message):
            return kind
    return "another reason"


# ---------------------------------------------------------------- one mutant, mounted


@dataclass(frozen=True)
class Limits:
    """How a mutant's mount is started and judged."""

    deadline_seconds: float = 2
    slack_seconds: float = 10
    memory_bytes: int = 2**30
    peak_bytes: int = 3 * 2**29
    reading_seconds: float = 30
    options: tuple[str, ...] = ()


@dataclass
class Verdict:
    """What came of one mutant. ``failures`` are the mount's own; all else may be."""

    seed: int
    source: str
    changes: tuple[str, ...]
    digest: str
    outcome: str = ""
    trouble: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    slowest: tuple[float, str, str] = (0, "", "")
    peak_bytes: int = 0
    seconds: float = 0
    ended: bool = True
    failures: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's plain values."""
        return asdict(self)


def check_mutant(mutant: Mutant, limits: Limits) -> Verdict:
    """Mount a mutant, read everything, end the mount; nothing of it stays behind."""
    verdict = Verdict(mutant.seed, mutant.source.name, mutant.changes, mutant.digest)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="h5fs-mutant-") as folder:
        file = Path(folder, "mutant.h5")
        file.write_bytes(mutant.content)
        try:
            with mounted(file, options=_make_options(mutant, limits)) as mount:
                verdict.outcome = "mounted"
                _check_mounted(mount, limits, verdict)
        except MountFailedError as error:
            verdict.outcome = f"refused: {classify_refusal(str(error))}"
            verdict.log.append(str(error))
            if "unexpected" in str(error):
                verdict.failures.append(f"unexpected at the mount: {error}")
        except subprocess.TimeoutExpired:
            verdict.outcome = "failed"
            verdict.failures.append("the mount command did not end")
        if file.read_bytes() != mutant.content:
            verdict.failures.append("the file's bytes changed")
        left = wait_until_ended(find_processes_of(folder), 5)
        if left:
            verdict.failures.append(f"left running: {len(left)} processes")
            for process in left:
                process.kill()
    verdict.seconds = time.monotonic() - start
    return verdict


def _make_options(mutant: Mutant, limits: Limits) -> list[str]:
    texts = [
        f"deadline={limits.deadline_seconds:g}", f"memory={limits.memory_bytes}", *limits.options,
    ]  # fmt: skip
    if mutant.seed % 3 == 0:
        texts.append("xattr")
    return ["-o", ",".join(texts)]


def _check_mounted(mount: Mounted, limits: Limits, verdict: Verdict) -> None:
    try:
        with MemoryWatch(mount.pid) as memory:
            reading = read_everything(
                mount.path,
                seconds=limits.reading_seconds,
                patience=3 * (limits.deadline_seconds + limits.slack_seconds),
                most_entries=3000,
                most_bytes=2**20,
            )
        verdict.counts, verdict.ended = reading.counts, reading.ended
        verdict.slowest = reading.slowest
        verdict.failures += judge_reading(
            reading, seconds=limits.deadline_seconds + limits.slack_seconds
        )
    except HungError as error:
        verdict.failures.append(f"hung: {error}")
    except subprocess.CalledProcessError as error:
        verdict.failures.append(f"the reader failed: {error.stderr[-500:]}")
    verdict.peak_bytes = memory.peak_bytes
    if memory.peak_bytes > limits.peak_bytes:
        verdict.failures.append(f"memory: {memory.peak_bytes >> 20} MiB")
    if not Process.find(mount.pid).is_running():
        verdict.failures.append("the daemon died")
    verdict.log = mount.log_lines()
    kinds = filter(None, map(classify_log_line, verdict.log))
    verdict.trouble = dict(collections.Counter(kinds))
    if "unexpected" in verdict.trouble:
        verdict.failures.append("unexpected exception in the log")
    verdict.failures += end_and_judge(mount, memory.processes)


def judge_reading(reading: Reading, *, seconds: float) -> Iterator[str]:
    """Yield what a living mount would not have answered, or not so late."""
    if reading.slowest[0] > seconds:
        taken, what, where = reading.slowest
        yield f"slow: {what} {where} took {taken:.1f} s"
    for what, count in reading.counts.items():
        if what.endswith(("ENOTCONN", "ECONNABORTED", "EINTR", "short")):
            yield f"{what}: {count}"
    if reading.final["statvfs"] != "ok":
        yield f"the last statvfs: {reading.final['statvfs']}"
    if reading.final["listing"] not in ("ok", "EIO"):
        yield f"the last listing: {reading.final['listing']}"
    if reading.final["lookup"] not in ("ENOENT", "EIO"):
        yield f"the last lookup: {reading.final['lookup']}"


def end_and_judge(
    mount: Mounted, processes: Iterable[Process], *, seconds: float = 10
) -> Iterator[str]:
    """Unmount, and yield what has not ended of the daemon and all the processes it had."""
    done = subprocess.run(
        ["fusermount3", "-u", str(mount.path)], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    if done.returncode:
        yield f"cannot unmount: {done.stderr.strip()}"
    left = wait_until_ended(processes, seconds)
    if any(process.pid == mount.pid for process in left):
        yield "the daemon did not end at the unmount"
    workers = sum(process.pid != mount.pid for process in left)
    if workers:
        yield f"{workers} workers did not end with the daemon"
    for process in left:
        process.kill()

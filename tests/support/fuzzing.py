"""Mutants mounted, read to the end, and judged: what became of each, and whose fault it was."""

from __future__ import annotations

import collections
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from support.mounts import Mounted, MountFailedError, mounted
from support.mutants import Mutant
from support.waiting import PATIENCE_SECONDS
from support.watching import (
    HungError,
    MemoryWatch,
    Process,
    Reading,
    find_processes_of,
    read_everything,
    wait_until_ended,
)

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
        left = wait_until_ended(find_processes_of(folder), PATIENCE_SECONDS)
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
    mount: Mounted, processes: Iterable[Process], *, seconds: float = PATIENCE_SECONDS
) -> Iterator[str]:
    """Unmount, and yield what has not ended of the daemon and all the processes it had."""
    done = subprocess.run(
        ["fusermount3", "-u", str(mount.path)], capture_output=True, text=True, timeout=240,
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

"""What a row is, and all of them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, FailedError
from benchmarks.files import Files
from benchmarks.processes import (
    TOKEN_NAME,
    computing_seconds,
    find_descendants,
    find_token_processes,
)

_PROBES = Path(__file__).with_name("probes.py")
_START_SECONDS = 120
_KILL_SECONDS = 5


@dataclass(frozen=True)
class Sample:
    """One measured value, and a digest of the data where there are some.

    ``least``: for values that are times, how long all processes that took part have computed, the
    system for them, too, divided by the cores: the same work cannot be done in less.
    """

    value: float
    digest: Any = None
    least: float | None = None

    def each_of(self, count: int) -> Sample:
        """Return microseconds for each of so many, from the seconds of all."""
        least = None if self.least is None else self.least / count * 1e6
        return Sample(self.value / count * 1e6, self.digest, least)


@dataclass(frozen=True)
class Bench:
    """What a measurement works with: files, and probes in processes of their own."""

    files: Files
    timeout_seconds: float
    reads: int

    def probe(self, name: str, **arguments: Any) -> Sample:
        """Time a probe (``probes.py``) in a fresh process. Raises ``FailedError``."""
        return self.probe_together([(name, arguments)])

    def probe_together(self, probes: Iterable[tuple[str, dict[str, Any]]]) -> Sample:
        """Start probes at one moment: the seconds from the first's start to the last's end."""
        with contextlib.ExitStack() as stack:
            children = [
                stack.enter_context(_started(name, arguments)) for name, arguments in probes
            ]
            deadline = time.monotonic() + _START_SECONDS + self.timeout_seconds
            for child in children:
                _expect(child, deadline)
            pids = {child.pid for child in children}
            before = _computing_of_mounts(pids)
            for child in children:
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            deadline = time.monotonic() + self.timeout_seconds
            answers = [json.loads(_expect(child, deadline)) for child in children]
            computed = _computing_of_mounts(pids) - before
        computed += sum(answer["computed"] for answer in answers)
        first = min(answer["start"] for answer in answers)
        last = max(answer["stop"] for answer in answers)
        digests = [answer["digest"] for answer in answers]
        return Sample(last - first, digests, computed / len(os.sched_getaffinity(0)))


def _computing_of_mounts(probes: set[int]) -> float:
    """Return how long the processes behind the run's mounts have computed: all but the probes."""
    found = find_descendants(find_token_processes(os.environ[TOKEN_NAME]))
    return computing_seconds(found - find_descendants(probes))


@contextlib.contextmanager
def _started(name: str, arguments: dict[str, Any]) -> Any:
    """Run a probe; kill it when the block ends before it does."""
    child = subprocess.Popen(
        [sys.executable, str(_PROBES), name, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        # A process that waits for a mount which hangs ends with that mount, later.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_KILL_SECONDS)


def _expect(child: subprocess.Popen[str], deadline: float) -> str:
    """Return the next line that a probe prints. Raises ``FailedError`` when it prints none."""
    assert child.stdout is not None and child.stderr is not None
    left = max(deadline - time.monotonic(), 0)
    if not select.select([child.stdout], [], [], left)[0]:
        raise FailedError(f"no answer within {left:.0f} s")
    line = child.stdout.readline()
    if not line:
        said = child.stderr.read().strip().splitlines()
        raise FailedError(said[-1] if said else f"ended with {child.wait()}")
    return line


Measure = Callable[[Bench, Contender], Sample]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    ``measure`` is timed against ``compare`` (None: against nothing). ``floor``: the same bytes, or
    changes, through a file system that only passes files on, ``passed_on_by``, in the same run.
    ``bar`` and ``aim`` are for
    the ratio of the two, or with ``is_absolute`` for the measured value itself, in ``unit``.
    ``takes_largest``: of several runs the largest counts, not the median. ``is_slow``: run only
    when asked for. ``h5fs_only``: peers have nothing of the kind. ``method``: how, for the reader.
    """

    key: str
    title: str
    against: str
    measure: Measure
    compare: Measure | None
    floor: Measure | None = None
    passed_on_by: str = "bindfs"
    bar: float | None = None
    aim: float | None = None
    is_absolute: bool = False
    unit: str = "s"
    takes_largest: bool = False
    is_slow: bool = False
    h5fs_only: bool = False
    method: str = ""

    def is_named_by(self, word: str) -> bool:
        """``5`` names ``5`` and ``5-lzf``."""
        return self.key == word or self.key.startswith(f"{word}-")


def all_rows() -> tuple[Row, ...]:
    """Return every row, in the order of the table."""
    from benchmarks.change_rows import CHANGE_ROWS
    from benchmarks.command_rows import COMMAND_ROWS
    from benchmarks.listing_rows import LARGE_LISTING_ROWS, LISTING_ROWS
    from benchmarks.reading_rows import MEMORY_ROWS, READING_ROWS
    from benchmarks.small_rows import SMALL_ROWS
    from benchmarks.type_rows import TYPE_ROWS
    from benchmarks.update_rows import UPDATE_ROWS
    from benchmarks.view_rows import VIEW_ROWS
    from benchmarks.worker_rows import WORKER_ROWS
    from benchmarks.writing_rows import WRITING_ROWS

    return (
        *READING_ROWS, *LISTING_ROWS, *LARGE_LISTING_ROWS, *MEMORY_ROWS, *WORKER_ROWS,
        *WRITING_ROWS, *UPDATE_ROWS, *CHANGE_ROWS, *COMMAND_ROWS, *SMALL_ROWS, *TYPE_ROWS,
        *VIEW_ROWS,
    )  # fmt: skip

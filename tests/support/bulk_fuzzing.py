"""Mutants without a mount each: the tree over worker processes, as the daemon has it, many in one.

A mount costs most of a second to start and end, this some tens of milliseconds: what it leaves out
is libfuse and the kernel, which a mutant cannot reach. Should a mutant take the process that runs
this down, that is a failure that nobody can overlook.
"""

from __future__ import annotations

import collections
import errno
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from h5fs.errors import H5fsError
from h5fs.model.settings import Limits as StoreLimits
from h5fs.model.settings import StoreOptions
from h5fs.store import open_store
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.tree import Tree
from support.fuzzing import (
    Limits,
    Verdict,
    classify_log_line,
    classify_refusal,
)
from support.mutants import (
    Mutant,
)

_MOST_PATHS = 3000
_MOST_BYTES = 2**20
_MOST_XATTRS = 20


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # As a mount's log has it.
        traceback = " Traceback" if record.exc_info else ""
        self.lines.append(f"- {record.levelname} {record.getMessage()}{traceback}")


_starter = WorkerStarter()


def start_starter() -> None:
    """Start what this process gets its workers from; it ends with the process."""
    _starter.start()


def stop_starter() -> None:
    """End it."""
    _starter.close()


def check_in_bulk(mutant: Mutant, limits: Limits) -> Verdict:
    """Open a mutant, walk it and read everything."""
    verdict = Verdict(mutant.seed, mutant.source.name, mutant.changes, mutant.digest)
    start = time.monotonic()
    log = _Lines()
    logging.getLogger("h5fs").addHandler(log)
    try:
        with tempfile.TemporaryDirectory(prefix="h5fs-mutant-") as folder:
            file = Path(folder, "mutant.h5")
            file.write_bytes(mutant.content)
            _check(file, limits, verdict)
            if file.read_bytes() != mutant.content:
                verdict.failures.append("the file's bytes changed")
    finally:
        logging.getLogger("h5fs").removeHandler(log)
    verdict.seconds = time.monotonic() - start
    verdict.log = log.lines
    kinds = filter(None, map(classify_log_line, log.lines))
    verdict.trouble = dict(collections.Counter(kinds))
    if any("Traceback" in line for line in log.lines):
        verdict.failures.append("unexpected exception in the log")
    return verdict


def _check(file: Path, limits: Limits, verdict: Verdict) -> None:
    store_limits = StoreLimits(
        deadline_seconds=limits.deadline_seconds, memory_bytes=limits.memory_bytes
    )
    options = StoreOptions(file, workers=2, cache_bytes=2**24, limits=store_limits)
    try:
        store = open_store(options, _starter)
    except H5fsError as error:
        verdict.outcome = f"refused: {classify_refusal(str(error))}"
        verdict.log.append(str(error))
        return
    verdict.outcome = "mounted"
    try:
        counts: collections.Counter[str] = collections.Counter()
        verdict.ended = _read_everything(Tree(store), limits, verdict, counts)
        verdict.counts = dict(counts)
    finally:
        store.close()


def _read_everything(
    tree: Tree, limits: Limits, verdict: Verdict, counts: collections.Counter[str]
) -> bool:
    """Return whether the walk came to its end within the bounds."""
    end = time.monotonic() + limits.reading_seconds
    pending, seen = [b"/"], 0
    while pending:
        path = pending.pop()
        seen += 1
        if seen > _MOST_PATHS or time.monotonic() > end:
            return False
        status = _ask(verdict, counts, "stat", path, lambda p=path: tree.get_status(p))
        if status is None:
            continue
        if stat.S_ISDIR(status.mode):
            dentries = _ask(verdict, counts, "list", path, lambda p=path: [*tree.list_folder(p)])
            pending += [path.rstrip(b"/") + b"/" + each.name for each in dentries or ()]
        elif stat.S_ISLNK(status.mode):
            _ask(verdict, counts, "readlink", path, lambda p=path: tree.read_link(p))
        else:
            size = status.size_bytes
            for offset in _offsets(size):
                _ask(verdict, counts, "read", path, lambda p=path, o=offset: _read(tree, p, o))
        if verdict.seed % 3 == 0:
            names = _ask(verdict, counts, "xattrs", path, lambda p=path: tree.list_xattrs(p))
            for name in (names or ())[:_MOST_XATTRS]:  # each reads all attributes of its object
                _ask(verdict, counts, "xattr", path, lambda p=path, n=name: tree.get_xattr(p, n))
    return True


def _offsets(size: int) -> Iterator[int]:
    yield from range(0, min(size, _MOST_BYTES), 2**17)
    if size > _MOST_BYTES:
        yield size // 2
        yield size - 4096


def _read(tree: Tree, path: bytes, offset: int) -> bytes:
    handle = tree.open(path, os.O_RDONLY)
    try:
        return tree.read(handle, 2**17, offset)
    finally:
        tree.release(handle)


def _ask(verdict: Verdict, counts: collections.Counter[str], what: str, path: bytes, call):  # type: ignore[no-untyped-def]
    start = time.monotonic()
    try:
        result = call()
        counts[f"{what} ok"] += 1
    except H5fsError as error:
        result = None
        counts[f"{what} {errno.errorcode[error.errno]}"] += 1
    except Exception as error:  # the FUSE room's guard would make EIO of it, and log a traceback
        result = None
        verdict.failures.append(f"unexpected {type(error).__name__} in {what} {path!r}: {error}")
    taken = time.monotonic() - start
    if taken > verdict.slowest[0]:
        verdict.slowest = (taken, what, path.decode("utf-8", "backslashreplace"))
    return result

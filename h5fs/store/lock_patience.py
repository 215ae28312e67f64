"""Waits a moment for the lock of an h5fs that is ending, or that was killed.

A lock goes with the last process that has the file open. When a daemon is killed, its workers have
the file open for some milliseconds more. When a program other than `h5fs umount` unmounts, it
returns before the daemon has ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from h5fs.errors import CannotOpenError, HeldByH5fsError

_Opened = TypeVar("_Opened")

PATIENCE_SECONDS = 2.0
_AGAIN_SECONDS = 0.05


def opened_patiently(file: Path, open_it: Callable[[], _Opened]) -> _Opened:
    """Return what ``open_it`` returns; call it again for a moment while h5fs itself has the file.

    Raises what ``open_it`` raises.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return open_it()
        except CannotOpenError as error:
            is_ours = isinstance(error, HeldByH5fsError) or is_left_by_ended_process(file)
            if not is_ours or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_SECONDS)


def is_left_by_ended_process(file: Path) -> bool:
    """Whether a lock on a file was taken by a process that has ended.

    Such a process has left the file open in processes that it started, as a daemon in its workers.
    """
    try:
        status = os.stat(file)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    held = [line.split() for line in lines if "->" not in line]
    owners = [words[4] for words in held if place in words]
    return any(owner.isdigit() and not _runs(owner) for owner in owners)


def _runs(pid: str) -> bool:
    try:  # a zombie, an ended process that its parent has not waited for, has no memory
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False

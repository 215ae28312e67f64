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
from h5fs.store.locks.holders import find_lock_owners

_Opened = TypeVar("_Opened")

PATIENCE_SECONDS = 2.0
_AGAIN_SECONDS = 0.05


def opened_patiently(file: Path, open_it: Callable[[], _Opened]) -> _Opened:
    """Return what ``open_it`` returns; call it again for a moment while h5fs itself has the file.

    Raises what ``open_it`` raises.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    has_waited = False
    while True:
        try:
            return open_it()
        except CannotOpenError as error:
            is_ours = isinstance(error, HeldByH5fsError) or is_left_by_ended_process(file)
            # A lock that was waited for may go after it refused `open_it`, and before its owner is
            # looked up: nobody is found then, and the next call of `open_it` decides.
            may_have_gone = has_waited and not _lock_owners(file)
            if not (is_ours or may_have_gone) or time.monotonic() > deadline:
                raise
        has_waited = True
        time.sleep(_AGAIN_SECONDS)


def is_left_by_ended_process(file: Path) -> bool:
    """Whether a lock on a file was taken by a process that has ended.

    Such a process has left the file open in processes that it started, as a daemon in its workers.
    """
    return any(owner.isdigit() and not _runs(owner) for owner in _lock_owners(file))


def _lock_owners(file: Path) -> list[str]:
    try:
        return find_lock_owners(os.stat(file))
    except OSError:
        return []


def _runs(pid: str) -> bool:
    try:  # a zombie, an ended process that its parent has not waited for, has no memory
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False

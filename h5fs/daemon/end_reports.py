"""What a daemon had to say when its mount had ended, kept for whoever unmounted or asks next.

A mount may end by ``fusermount3 -u`` or a signal: nobody waits for the daemon then, and its log is
read by few. So a daemon that could not bring everything into the HDF5 file leaves a report in its
user's runtime folder. ``h5fs umount``, or ``h5fs status`` of that mountpoint, tells what the report
says and removes it; ``h5fs status`` of all mounts tells it, for a week, and leaves it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from h5fs.daemon.runtime_folders import RuntimeFolder, folders_to_search, own_folders

_REPORT = re.compile(r"([1-9][0-9]{0,9})\.ended")
_MOST_BYTES = 2**23  # some hundred messages of the longest kind, each character escaped
_MOST_SECONDS = 7 * 24 * 3600  # so long a report is told


class EndReport(Struct, frozen=True):
    """The last messages of the daemon of a mount that has ended, one line each."""

    pid: int
    mountpoint: str
    messages: tuple[str, ...]


def leave_report(mountpoint: Path, messages: Sequence[str]) -> None:
    """Keep what this process, the daemon of a mount, says at its end. Raises ``OSError``."""
    content = json.dumps({"mountpoint": os.fsdecode(mountpoint), "messages": list(messages)})
    name = f"{os.getpid()}.ended"
    fresh = f"{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with own_folders() as folders:
        for folder in folders[:1]:
            folder.remove(fresh)  # of an earlier process of that number
            with open(os.open(fresh, flags, 0o600, dir_fd=folder.descriptor), "wb") as file:
                file.write(content.encode())
            # It gets its name only when it is whole.
            os.rename(fresh, name, src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor)


def recent_reports() -> list[EndReport]:
    """Return what this user's daemons have left within the last week; what is older goes.

    Not what daemons of other users have left, for root either: that is for them to be told.
    """
    found = []
    with folders_to_search() as folders:
        for folder in folders:
            if folder.uid == os.getuid():
                found += [report for _, report in _reports_in(folder)]
    return sorted(found, key=_order)


def take_reports(mountpoint: Path, *, pid: int | None = None) -> list[EndReport]:
    """Return and remove the reports of mounts at a place (of one process, ``pid``), whoever's they
    are that this user may read."""
    found = []
    with folders_to_search() as folders:
        for folder in folders:
            for name, report in _reports_in(folder):
                if report.mountpoint == os.fsdecode(mountpoint) and pid in (None, report.pid):
                    found.append(report)
                    with suppress(OSError):  # a file system that can only be read now
                        folder.remove(name)
    return sorted(found, key=_order)


def _order(report: EndReport) -> tuple[str, int]:
    return report.mountpoint, report.pid


def _reports_in(folder: RuntimeFolder) -> Iterator[tuple[str, EndReport]]:
    """Yield the reports of a folder and their names; remove those that are old, or are none."""
    with suppress(OSError):  # the folder has just gone
        for name in folder.names():
            if (matched := _REPORT.fullmatch(name)) is None:
                continue
            report = _read(folder, name, int(matched[1]))
            if report is None:
                folder.remove(name)
            else:
                yield name, report


def _read(folder: RuntimeFolder, name: str, pid: int) -> EndReport | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, dir_fd=folder.descriptor), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mtime < time.time() - _MOST_SECONDS:
                return None
            told: Any = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):  # none of ours, or cut off by a full disk
        return None
    if not isinstance(told, dict):
        return None
    mountpoint, messages = told.get("mountpoint"), told.get("messages")
    if not isinstance(mountpoint, str) or not isinstance(messages, list):
        return None
    return EndReport(pid, mountpoint, tuple(each for each in messages if isinstance(each, str)))

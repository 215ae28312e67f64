"""What a daemon had to say when its mount had ended, kept for whoever unmounted or asks next.

A mount may end by ``fusermount3 -u`` or a signal: nobody waits for the daemon then, and its log is
read by few. So a daemon that could not bring everything into the HDF5 file leaves a report in its
user's runtime folder. ``h5fs umount``, or else the next ``h5fs status``, tells what the report says
and removes it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from h5fs.daemon.runtime_folders import RuntimeFolder, folders_to_search, own_folders

_REPORT = re.compile(r"([1-9][0-9]{0,9})\.ended")
_MOST_BYTES = 2**20


class EndReport(Struct, frozen=True):
    """The last messages of the daemon of a mount that has ended, one line each."""

    pid: int
    mountpoint: str
    messages: tuple[str, ...]


def leave_report(mountpoint: Path, messages: Sequence[str]) -> None:
    """Keep what this process, the daemon of a mount, says at its end. Raises ``OSError``."""
    content = json.dumps({"mountpoint": os.fsdecode(mountpoint), "messages": list(messages)})
    name = f"{os.getpid()}.ended"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with own_folders() as folders:
        for folder in folders[:1]:
            folder.remove(name)  # of an earlier process of that number
            with open(os.open(name, flags, 0o600, dir_fd=folder.descriptor), "wb") as file:
                file.write(content.encode())


def take_reports(*, pid: int | None = None, mountpoint: Path | None = None) -> list[EndReport]:
    """Return the reports that nobody has taken yet, and remove them.

    Of this user's daemons. ``pid`` or ``mountpoint``: only the reports of that process, or of
    mounts there; for root also those of other users' daemons. (Else root's monitoring would take
    what is for a user to be told.)
    """
    takes_others = pid is not None or mountpoint is not None
    found = []
    with folders_to_search() as folders:
        for folder in folders:
            if folder.uid != os.getuid() and not takes_others:
                continue
            with suppress(OSError):  # the folder has just gone
                for name in folder.names():
                    matched = _REPORT.fullmatch(name)
                    if matched is None or pid not in (None, int(matched[1])):
                        continue
                    report = _read(folder, name, int(matched[1]))
                    if report is not None:
                        if mountpoint is not None and report.mountpoint != str(mountpoint):
                            continue
                        found.append(report)
                    folder.remove(name)
    return sorted(found, key=lambda report: (report.mountpoint, report.pid))


def _read(folder: RuntimeFolder, name: str, pid: int) -> EndReport | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, dir_fd=folder.descriptor), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
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

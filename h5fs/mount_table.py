"""What the system knows about mounts: the kernel's table, and the daemons behind ours.

Each daemon leaves a small file in a folder of its user's while it lives, since the kernel does not
tell which process answers for a FUSE mount.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's mount table (proc(5), mountinfo)."""

    mountpoint: Path
    type: str
    source: str

    @property
    def is_h5fs(self) -> bool:
        """Whether h5fs serves it."""
        return self.type == "fuse.h5fs"


def find_mount(mountpoint: Path) -> Mount | None:
    """Return the topmost mount at a real path, or None when nothing is mounted there."""
    found = None
    # Of line ends and spaces the kernel escapes only its own.
    for line in os.fsdecode(_MOUNTINFO.read_bytes()).split("\n")[:-1]:
        before, _, after = line.partition(" - ")
        place = Path(_unescape(before.split(" ")[4]))
        if place == mountpoint:
            kind, source, *_ = after.split(" ")
            found = Mount(place, kind, _unescape(source))
    return found


@contextmanager
def registered(mountpoint: Path, file: Path) -> Iterator[None]:
    """Let others find this process as the daemon of a mount, as long as the block runs."""
    folder = _own_folder()
    record = folder / f"{os.getpid()}.json"
    names = {"mountpoint": os.fsdecode(mountpoint), "file": os.fsdecode(file)}
    record.write_text(json.dumps(names))
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def find_daemon(mountpoint: Path) -> int | None:
    """Return the process id of the daemon that serves a mount; None when it is not known."""
    found: list[tuple[int, int]] = []
    for record in (record for folder in _all_folders() for record in folder.glob("*.json")):
        try:
            status = record.lstat()
            if not stat.S_ISREG(status.st_mode):
                continue
            names = json.loads(record.read_text())
            pid, age = int(record.stem), status.st_mtime_ns
            os.kill(pid, 0)
        except ProcessLookupError:
            record.unlink(missing_ok=True)
        except (OSError, ValueError):  # it has just ended, or the record is none of ours
            continue
        else:
            if isinstance(names, dict) and names.get("mountpoint") == os.fsdecode(mountpoint):
                found.append((age, pid))
    return max(found)[1] if found else None


def _own_folder() -> Path:
    uid = os.getuid()
    folder = _candidates(uid)[0]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def _candidates(uid: int) -> list[Path]:
    """Return where a user's daemons may be registered, the place for new ones first.

    More than one, since a login session has a runtime folder and a cron job has none.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    places = [Path(f"/run/user/{uid}/h5fs"), Path(f"/tmp/h5fs-{uid}")]
    return [Path(given, "h5fs"), *places] if given else places[1:] + places[:1]


def _all_folders() -> list[Path]:
    """Return the folders in which daemons that this user may end can be registered."""
    folders = _candidates(os.getuid())
    if os.getuid() == 0:
        folders += [*Path("/run/user").glob("*/h5fs"), *Path("/tmp").glob("h5fs-*")]
    return [folder for folder in folders if folder.is_dir()]


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)

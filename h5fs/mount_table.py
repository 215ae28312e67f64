"""What the system knows about mounts: the kernel's table, and the daemons behind ours.

Each daemon leaves a small file in a folder of its user's while it lives, since the kernel does not
tell which process answers for a FUSE mount; beside it is the socket at which it tells its status.
What a daemon that was killed has left there is removed by the next look.
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
_MOST_RECORD_BYTES = 65536  # two paths, each of 4096 bytes at most, as JSON


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's mount table (proc(5), mountinfo); ``device``: "MAJOR:MINOR"."""

    mountpoint: Path
    device: str
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
        _id, _parent, device, _root, place_text, *_ = before.split(" ")
        place = Path(_unescape(place_text))
        if place == mountpoint:
            kind, source, *_ = after.split(" ")
            found = Mount(place, device, kind, _unescape(source))
    return found


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that lives, as its record says; ``uid``: whose record it is, ``started_ns``: when it
    was made, in nanoseconds since 1970."""

    pid: int
    uid: int
    mountpoint: str
    file: str
    started_ns: int
    record: Path

    @property
    def socket(self) -> Path:
        """Where it tells its status, if it does."""
        return _socket_beside(self.record)


@contextmanager
def registered(mountpoint: Path, file: Path) -> Iterator[Path]:
    """Let others find this process as the daemon of a mount, as long as the block runs.

    Yields the path for its socket.
    """
    folder = _own_folder()
    record = folder / f"{os.getpid()}.json"
    names = {"mountpoint": os.fsdecode(mountpoint), "file": os.fsdecode(file)}
    forget(record)  # what a daemon of the same id has left
    record.write_text(json.dumps(names))
    try:
        yield _socket_beside(record)
    finally:
        forget(record)


def find_daemon(mountpoint: Path) -> int | None:
    """Return the process id of the daemon that serves a mount; None when it is not known."""
    found = [each for each in find_daemons() if each.mountpoint == os.fsdecode(mountpoint)]
    return max(found, key=lambda each: each.started_ns).pid if found else None


def find_daemons() -> list[Daemon]:
    """Return this user's daemons, all users' for root, by mountpoint."""
    files = [file for folder in {f.resolve() for f in _all_folders()} for file in _files_in(folder)]
    for socket in (file for file in files if ".sock" in file.name):
        record = socket.with_name(socket.name.partition(".")[0] + ".json")
        if not record.exists():  # it is there before the socket, and after it
            socket.unlink(missing_ok=True)
    records = [file for file in files if file.suffix == ".json"]
    found = [daemon for record in records if (daemon := _read_record(record)) is not None]
    return sorted(found, key=lambda each: (each.mountpoint, each.started_ns))


def forget(record: Path) -> None:
    """Remove what a daemon that is gone has left: the record last, so that the rest is found."""
    socket = _socket_beside(record)
    for path in (socket.with_suffix(".sock.new"), socket, record):
        path.unlink(missing_ok=True)


def _read_record(record: Path) -> Daemon | None:
    """Return the daemon of a record, None where there is none; then its record goes."""
    try:
        status = record.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_RECORD_BYTES:
            return None
        names = json.loads(record.read_text())
        pid = int(record.stem)
        os.kill(pid, 0)
    except ProcessLookupError:
        forget(record)
        return None
    except (OSError, ValueError):  # it has just ended, or the record is none of ours
        return None
    if not isinstance(names, dict):
        return None
    mountpoint, file = names.get("mountpoint"), names.get("file", "")
    if not isinstance(mountpoint, str) or not isinstance(file, str):
        return None
    return Daemon(pid, status.st_uid, mountpoint, file, status.st_mtime_ns, record)


def _socket_beside(record: Path) -> Path:
    return record.with_suffix(".sock")


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
        folders += [*Path("/run/user").glob("*/h5fs"), *Path("/tmp").glob("h5fs-[0-9]*")]
    return [folder for folder in folders if folder.is_dir()]


def _files_in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it has just gone, or is not for this user
        return []


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)

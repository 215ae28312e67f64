"""How other processes find the daemons of mounts.

The kernel does not tell which process answers for a FUSE mount. So each daemon keeps a small file,
its record, in a folder of its user's while it lives; beside the record is the socket at which the
daemon tells its status. Records of killed daemons are removed by the next process that looks.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from h5fs.daemon.runtime_folders import RuntimeFolder, folders_to_search, own_folders
from h5fs.model.location import Location
from h5fs.system.kernel_mounts import read_mounts

_RECORD = re.compile(r"([1-9][0-9]{0,9})\.json")
_LEFT = re.compile(r"([1-9][0-9]{0,9})(\.json\.new|\.sock|\.sock\.new)")
_MOST_RECORD_BYTES = 65536  # two paths, each of 4096 bytes at most, as JSON


class Daemon(Struct, frozen=True):
    """A running daemon, as its record says.

    ``uid``: the record's owner. ``started_ns``: when the record was made, in nanoseconds since
    1970.
    """

    pid: int
    uid: int
    mountpoint: str
    file: str
    started_ns: int
    record: Path

    @property
    def socket(self) -> Path:
        """The path of the daemon's status socket, which may be missing."""
        return self.record.with_suffix(".sock")


@contextmanager
def registered(mountpoint: Path, file: Location) -> Iterator[list[Path]]:
    """Let others find this process as the daemon of a mount, as long as the block runs.

    ``file``: what is mounted, without any secret. Yields the paths for its sockets; none where the
    system allows no record.
    """
    names = {"mountpoint": os.fsdecode(mountpoint), "file": str(file)}
    with own_folders() as folders, ExitStack() as records:
        sockets = []
        for folder in folders:
            with suppress(OSError):  # the disk is full, or the file system has no locks
                records.enter_context(_recorded(folder, json.dumps(names).encode()))
                sockets.append(folder.path / f"{os.getpid()}.sock")
        yield sockets


@contextmanager
def _recorded(folder: RuntimeFolder, content: bytes) -> Iterator[None]:
    """Keep a record of this process, locked, in a folder. Raises ``OSError``."""
    record = f"{os.getpid()}.json"
    fresh = f"{record}.new"
    _remove_all_of(folder, os.getpid())  # left by a killed daemon that had the same process id
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(fresh, flags, 0o600, dir_fd=folder.descriptor)
    try:
        os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, content)
        # The record gets its name only when it is whole and locked.
        os.rename(fresh, record, src_dir_fd=folder.descriptor, dst_dir_fd=folder.descriptor)
        yield
    finally:
        with suppress(OSError):  # the folder may be gone, as after a logout
            _remove_all_of(folder, os.getpid())
        os.close(descriptor)


def find_daemon(mountpoint: Path) -> Daemon | None:
    """Return the daemon of a mount, the last one that was started; None when it is not known."""
    found = [each for each in find_daemons() if each.mountpoint == os.fsdecode(mountpoint)]
    return max(found, key=lambda each: each.started_ns, default=None)


def find_daemons() -> list[Daemon]:
    """Return this user's daemons (for root, all users'), in the order of their mountpoints."""
    found: dict[tuple[int, int], Daemon] = {}
    with folders_to_search() as folders:
        for folder in folders:
            for daemon in _daemons_in(folder):
                # A daemon has a record in each of several folders.
                found.setdefault((daemon.uid, daemon.pid), daemon)
    owners = {os.fspath(each.mountpoint): each.uid for each in read_mounts() if each.is_h5fs}
    believed = [d for d in found.values() if owners.get(d.mountpoint, d.uid) == d.uid]
    return sorted(believed, key=lambda each: (each.mountpoint, each.started_ns))


def _daemons_in(folder: RuntimeFolder) -> Iterator[Daemon]:
    """Yield the daemons with a record in a folder; remove the records of daemons that are gone."""
    try:
        names = folder.names()
    except OSError:
        return
    for name in names:
        if (record := _RECORD.fullmatch(name)) is not None:
            daemon = _read_record(folder, int(record[1]))
            if daemon is not None:
                yield daemon
        elif (left := _LEFT.fullmatch(name)) is not None:
            _remove_if_left(folder, int(left[1]), name)


def _remove_if_left(folder: RuntimeFolder, pid: int, name: str) -> None:
    """Remove a socket without a record, and the beginning of a record that never became one."""
    record = f"{pid}.json"
    try:
        if name == f"{record}.new":
            is_left = not _is_alive(pid, folder.uid)
        else:  # there is no record: a record is made before its socket, and removed after it
            is_left = record not in folder.names()
        if is_left:
            folder.remove(name)
    except OSError:
        return


def _read_record(folder: RuntimeFolder, pid: int) -> Daemon | None:
    """Return the daemon of a record; None, and remove the record, where the daemon is gone."""
    name = f"{pid}.json"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, dir_fd=folder.descriptor), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != folder.uid:
                return None
            if _takes_lock(file.fileno()):
                _remove_all_of(folder, pid)
                return None
            names = json.loads(file.read(_MOST_RECORD_BYTES))
        if not _is_alive(pid, folder.uid):  # the process that has the lock may claim any number
            return None
    # It has just ended, or the record is none of ours: RecursionError is JSON's, of a thousand `[`.
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(names, dict):
        return None
    mountpoint, source = names.get("mountpoint"), names.get("file", "")
    if not isinstance(mountpoint, str) or not isinstance(source, str):
        return None
    return Daemon(pid, folder.uid, mountpoint, source, status.st_mtime_ns, folder.path / name)


def _takes_lock(descriptor: int) -> bool:
    """Whether nobody has a file locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(pid: int, uid: int) -> bool:
    """Whether a user has a process of this number."""
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except OSError:
        return False
    # The owner of /proc/PID does not tell: for some processes it is root.
    return any(line.split()[:2] == [b"Uid:", b"%d" % uid] for line in lines)


def _remove_all_of(folder: RuntimeFolder, pid: int) -> None:
    """Remove what a daemon that is gone has left; the record last, since it leads to the rest."""
    for ending in (".json.new", ".sock.new", ".sock", ".json"):
        folder.remove(f"{pid}{ending}")

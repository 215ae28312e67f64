"""The redo log's own file, beside the HDF5 file: opened, locked, recovered, removed.

What is in it, and when it counts, is the room ``log``'s.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from h5fs.errors import CannotOpenError
from h5fs.options import Locking, Mode
from h5fs.store.log import LogFile, RealFile, WatchedFile, describe_log, recover
from h5fs.store.log_path import log_path
from h5fs.store.opening import check_openable, explain_lock, locks_apply

_CREATING = (Mode.APPEND, Mode.CREATE, Mode.EXCLUSIVE)


def read_boot_id() -> bytes:
    """Return what tells this run of the kernel from others: its page cache has lived since then."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


class LoggedFiles:
    """The descriptors of an HDF5 file and of its log, locked while they are open."""

    def __init__(self, main: int, log: int, path: Path, *, writes: bool) -> None:
        self.main = main
        self.log = log
        self._path = path
        self._writes = writes

    def descriptors(self) -> tuple[int, int]:
        """Return what a worker is given."""
        return self.main, self.log

    def close(self, *, removes_log: bool) -> None:
        """Close both; ``removes_log``: everything in it is in the file."""
        if self._writes and removes_log:
            log_path(self._path).unlink(missing_ok=True)
            _sync_folder(self._path)
        elif self._writes:
            _remove_if_empty(self._path, self.log)
        os.close(self.log)
        os.close(self.main)


def open_logged(
    file: Path,
    mode: Mode,
    locking: Locking,
    boot_id: bytes,
    *,
    checks: bool = True,
    on_write: Callable[[int], object] = lambda _count: None,
) -> LoggedFiles:
    """Open an HDF5 file and its log as a mode asks for; recover what the log has, in one that
    writes.

    ``checks``: whether HDF5 would open the file is looked at. ``on_write`` is told of the bytes
    that recovery writes. Raises ``CannotOpenError``.
    """
    with ExitStack() as opened:
        main = _open_main(file, mode)
        opened.callback(os.close, main)
        _lock(main, file, mode, locking)
        log = _open_log(file, main, mode)
        opened.callback(os.close, log)
        if mode.writes:
            opened.callback(_remove_if_empty, file, log)
        if mode in (Mode.CREATE, Mode.EXCLUSIVE):
            # The log first: alone it would be brought into what is not its file any more.
            os.ftruncate(log, 0)
            os.ftruncate(main, 0)
        found = describe_log(RealFile(main), RealFile(log), boot_id)
        if found.is_mismatch:
            raise CannotOpenError(f"{log_path(file)}: {found.mismatch}")
        if mode.writes:
            recover(WatchedFile(main, on_write), LogFile(log), boot_id)
            LogFile(log).reserve()
            if checks and (os.fstat(main).st_size or mode is Mode.UPDATE):
                check_openable(file, Locking.FALSE)  # the lock is ours
        opened.pop_all()  # what was opened is the caller's to close
    return LoggedFiles(main, log, file, writes=mode.writes)


def _remove_if_empty(file: Path, log: int) -> None:
    if not os.fstat(log).st_size:
        log_path(file).unlink(missing_ok=True)


def _open_main(file: Path, mode: Mode) -> int:
    flags = os.O_CLOEXEC | (os.O_RDWR if mode.writes else os.O_RDONLY)
    if mode in _CREATING:
        flags |= os.O_CREAT | (os.O_EXCL if mode is Mode.EXCLUSIVE else 0)
    try:
        return os.open(file, flags, 0o666)
    except OSError as error:
        raise CannotOpenError(f"{file}: {error.strerror}") from None


def _lock(main: int, file: Path, mode: Mode, locking: Locking) -> None:
    """Lock as HDF5 does, so that its programs are refused, and refuse."""
    if not locks_apply(locking):
        return
    try:
        fcntl.flock(main, (fcntl.LOCK_EX if mode.writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise explain_lock(file, main, is_read=not mode.writes) from None
    except OSError as error:
        if locking is Locking.TRUE:
            raise CannotOpenError(f"{file} cannot be locked: {error.strerror}") from None


def _open_log(file: Path, main: int, mode: Mode) -> int:
    path = log_path(file)
    if not mode.writes:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    status = os.fstat(main)
    try:
        log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.fchmod(log, status.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(log, status.st_uid, status.st_gid)
        _sync_folder(file)
    except OSError as error:
        reason = "read-only file system" if error.errno == errno.EROFS else error.strerror
        raise CannotOpenError(
            f"{path}: {reason}; a mount that writes keeps its log beside the file, so the folder "
            "must allow that (copy the file to a folder of your own, or mount with --mode r)"
        ) from None
    return log


def _sync_folder(file: Path) -> None:
    folder = os.open(Path(os.path.realpath(file)).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

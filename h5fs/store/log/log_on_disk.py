"""The redo log as an entry of a folder: found, made, locked, told from other files of its name.

A log becomes content of the HDF5 file. So it must be a regular file with one name, no symbolic
link, and of an owner who could write the HDF5 file anyway. A log is removed only under its lock: so
a file that is locked, and is still the one at the path, is the log.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from h5fs.errors import CannotOpenError
from h5fs.store.locks.own_lock import explain_own_lock, tell_no_locks

_MOST_TRIES = 100
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO would wait for its other end


def open_log(path: Path, file: Path, main: int, *, writes: bool) -> int | None:
    """Return a descriptor of the log at ``path``, locked; one to write is made where there is none.

    ``main``: the HDF5 file's descriptor. None when there is none to read. Raises
    ``CannotOpenError``, ``HeldByH5fsError``, ``OSError``.
    """
    for _ in range(_MOST_TRIES):
        try:
            log = _open_or_make(path, main) if writes else os.open(path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            if writes:
                raise
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise _refuse(path, "is not a regular file") from None
            raise
        try:
            check_log(path, os.fstat(log), os.fstat(main))
            _lock(log, file, writes=writes)
            if is_at(path, log):
                return log
        except BaseException:
            os.close(log)
            raise
        os.close(log)  # the process that had the lock before has removed this log
    raise CannotOpenError(f"{path} is removed again and again: end the program that does it")


def open_to_look(path: Path, main: int) -> tuple[int, bool]:
    """Return a descriptor of a log to read, not locked, and whether another h5fs has it locked.

    Raises ``CannotOpenError``, ``OSError``.
    """
    check_log(path, os.lstat(path), os.fstat(main))
    log = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        check_log(path, os.fstat(log), os.fstat(main))
        fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return log, True
    except OSError:
        return log, False
    except BaseException:
        os.close(log)
        raise
    fcntl.flock(log, fcntl.LOCK_UN)
    return log, False


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the file of a descriptor is what stands at a path, without following a link."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove_log(path: Path, log: int) -> None:
    """Remove a log that is locked, unless something else stands in its place."""
    with suppress(FileNotFoundError):
        if is_at(path, log):
            path.unlink()


def check_log(path: Path, log: os.stat_result, main: os.stat_result) -> None:
    """Raise ``CannotOpenError`` for a file that is no log, or that another user may have made."""
    if not stat.S_ISREG(log.st_mode):
        raise _refuse(path, "is not a regular file")
    if log.st_nlink > 1:
        raise _refuse(path, "has another name, too (a hard link)")
    if log.st_uid not in (main.st_uid, os.geteuid(), 0):
        raise CannotOpenError(
            f"{path} belongs to {_user(log.st_uid)}, who is not the HDF5 file's owner: what it "
            "holds is not believed. If that user wrote to the file, let that user or root bring it "
            f"in (h5fs recover); else move it away: mv {path} {path}.foreign"
        )


def _refuse(path: Path, what: str) -> CannotOpenError:
    return CannotOpenError(
        f"{path} {what}, so it is no log of h5fs, and the log's place is taken: move it away "
        f"(mv {path} {path}.other)"
    )


def _user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with number {uid}"


def _open_or_make(path: Path, main: int) -> int:
    for _ in range(_MOST_TRIES):
        try:
            return os.open(path, os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            pass
        try:
            log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        except FileExistsError:
            continue
        try:
            give_owner_and_mode(log, main)
        except BaseException:
            os.close(log)
            raise
        return log
    raise FileExistsError(errno.EEXIST, "it comes and goes")


def give_owner_and_mode(made: int, main: int) -> None:
    """Give a file that this process has just made the HDF5 file's mode, and as root its owner."""
    status = os.fstat(main)
    if os.geteuid() == 0:
        os.fchown(made, status.st_uid, status.st_gid)
    os.fchmod(made, status.st_mode & 0o777)


def make_free(path: Path, main: int) -> tuple[int, Path]:
    """Make a new file at ``path``, or with a number behind it where that is taken.

    Returns a descriptor to write and the path. Raises ``OSError``.
    """
    number = 1
    while True:
        free = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            made = os.open(free, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        except FileExistsError:
            number += 1
            continue
        give_owner_and_mode(made, main)
        return made, free


def _lock(log: int, file: Path, *, writes: bool) -> None:
    try:
        fcntl.flock(log, (fcntl.LOCK_EX if writes else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise explain_own_lock(file, log) from None
    except OSError as error:
        tell_no_locks(file, error)

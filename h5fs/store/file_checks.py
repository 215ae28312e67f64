"""Checks of a file before the HDF5 library opens it, so that a refusal says what is wrong."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from h5fs.errors import CannotOpenError
from h5fs.model.settings import Locking, StoreOptions
from h5fs.store.format.superblock import (
    Superblock,
    explain_version,
    read_missing_end,
    read_superblock,
)
from h5fs.store.locks.holders import find_lock_holder
from h5fs.store.locks.own_lock import explain_own_lock, is_written_by_h5fs
from h5fs.store.sources.local_file import LocalFile
from h5fs.store.split_files import explain_part
from h5fs.system.system_errors import advise


def check_openable(
    path: Path, locking: Locking, *, is_swmr: bool = False, opened_as: Path | None = None
) -> Superblock:
    """Return the superblock of a file, after checking that HDF5 can open the file to read.

    ``is_swmr``: a program may be writing the file by the SWMR rules. ``opened_as``: another path of
    the same file, by which it is opened. Raises ``CannotOpenError``.
    """
    opened_as = opened_as or path
    try:
        if not stat.S_ISREG(opened_as.stat().st_mode):  # opening a FIFO would wait for a writer
            raise CannotOpenError(f"{path} is not a regular file")
        with opened_as.open("rb") as file:
            source = LocalFile(file.fileno())
            superblock = read_superblock(source)
            if superblock is None and source.size_bytes == 0:
                raise CannotOpenError(
                    f"{path} is empty, so it is not an HDF5 file; --mode a or w makes it one"
                )
            if superblock is None:
                raise CannotOpenError(
                    explain_part(path) or f"{path} is not an HDF5 file (it has no HDF5 signature)"
                )
            if not (superblock.is_known and is_swmr and superblock.is_swmr):
                follow = " (-o swmr follows it)" if superblock.is_swmr else ""
                check_superblock(
                    os.fspath(path), superblock, writing=follow,
                    advice=f"; if none is, run: h5fs recover --clear-flag {path}",
                )  # fmt: skip
            check_lock(path, file.fileno(), locking)
            return superblock
    except OSError as error:
        raise CannotOpenError(f"{path}: {error.strerror}{advise(error)}") from None


def check_superblock(
    name: str, superblock: Superblock, *, writing: str = "", advice: str = ""
) -> None:
    """Raise ``CannotOpenError`` for a version that there is not, and for a file marked as open.

    ``writing`` and ``advice`` are what to add about a program that may be writing the file.
    """
    if not superblock.is_known:
        raise CannotOpenError(f"{name} cannot be opened: {explain_version(superblock)}")
    if superblock.is_open_for_write:
        raise CannotOpenError(
            f"{name} is marked as open for write: a program is writing it{writing}, or died while "
            f"it did{advice}"
        )


def explain_unopenable(path: Path, error: Exception) -> str:
    """Return the message for a file that passed the checks and that HDF5 could not open."""
    try:
        part = explain_part(path)
        with path.open("rb") as file:
            missing = read_missing_end(LocalFile(file.fileno()))
    except OSError:
        part, missing = "", None
    if part:
        return part
    if missing is not None:
        return (
            f"{path} is cut short: it has {missing[0]} of {missing[1]} bytes; copy it again from "
            "where it came"
        )
    return f"HDF5 cannot open {path}: {error}"


def check_identity(options: StoreOptions, descriptor: int) -> None:
    """Raise ``CannotOpenError`` when the file at the path is not the one that the options name."""
    found = os.fstat(descriptor)
    if options.identity not in (None, (found.st_dev, found.st_ino)):
        raise CannotOpenError(f"{options.file} has been replaced")


def locks_apply(locking: Locking) -> bool:
    """Whether files are locked, by the option and by HDF5's environment variable."""
    if locking is Locking.DEFAULT:
        return os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() not in ("FALSE", "0")
    return locking is not Locking.FALSE


def library_locking(path: Path, locking: Locking) -> Locking:
    """Return how the library shall lock a file that is open for a moment here.

    What HDF5 calls best effort takes one error alone (ENOSYS) for a file system without locks; NFS
    without lockd, and others, have other ones.
    """
    if locking is not Locking.BEST_EFFORT:
        return locking
    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return locking
        except OSError:
            return Locking.FALSE
    return locking


def check_lock(path: Path, descriptor: int, locking: Locking) -> None:
    """Ask for the lock that HDF5 will ask for, so that a refusal names its holder or the reason.

    Raises ``CannotOpenError``.
    """
    if not locks_apply(locking):
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise explain_lock(path, descriptor, is_read=True) from None
    except OSError as error:
        if locking is Locking.BEST_EFFORT or error.errno == errno.ENOSYS:
            return  # HDF5 goes on without
        raise CannotOpenError(
            f"{path}: its file system has no locks ({error.strerror}): -o locking=best-effort "
            "mounts it without; see to it yourself that nobody writes to it meanwhile"
        ) from None
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def explain_lock(path: Path, descriptor: int, *, is_read: bool) -> CannotOpenError:
    """Return the refusal of a file that another program has locked, naming it where that is known.

    ``is_read``: a reader was refused, so that the lock's holder writes.
    """
    if is_written_by_h5fs(descriptor):
        return explain_own_lock(path, descriptor)
    who = "a writer" if is_read else "a program that reads or writes it"
    who += find_lock_holder(os.fstat(descriptor))
    return CannotOpenError(
        f"{path} is locked by {who}: wait until it has closed the file; if no program is writing "
        "it, -o locking=false mounts it, and HDF5_USE_FILE_LOCKING=FALSE opens it for any command"
    )

"""h5fs's own lock on an HDF5 file, which no option and no environment variable switches off.

HDF5's lock (``file_checks``) keeps out other HDF5 programs, and can be switched off. The lock here
keeps one h5fs away from another. It is a lock of an open file description on one byte far beyond
the end of any file: so it works whatever name leads to the file, with a log and without one, and
conflicts with no lock of HDF5 or of other programs. The last process that closes the descriptor
releases it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from contextlib import suppress
from pathlib import Path

from h5fs.errors import HeldByH5fsError
from h5fs.store.locks.holders import find_lock_holder
from h5fs.store.log.log_path import find_log

_log = logging.getLogger(__name__)

_BYTE = 2**62
# struct flock of <fcntl.h>: type, whence, start, length, process id.
_FLOCK = struct.Struct("@hhqqi4x")
_REFUSED = (errno.EAGAIN, errno.EACCES)


def take_own_lock(descriptor: int, file: Path, *, writes: bool) -> None:
    """Lock a file for as long as the descriptor, or a copy of it, is open.

    A writer excludes all others; readers share the lock. Raises ``HeldByH5fsError``.
    """
    kind = fcntl.F_WRLCK if writes else fcntl.F_RDLCK
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, 0, _BYTE, 1, 0))
    except OSError as error:
        if error.errno in _REFUSED:
            raise explain_own_lock(file, descriptor) from None
        tell_no_locks(file, error)


def explain_own_lock(file: Path, descriptor: int) -> HeldByH5fsError:
    """Return the refusal of a file that another h5fs has."""
    who = find_lock_holder(os.fstat(descriptor))
    with suppress(OSError):  # with HDF5's lock switched off, only the log's lock names the holder
        who = who or find_lock_holder(os.stat(find_log(file)))
    return HeldByH5fsError(
        f"{file} is locked by another h5fs{who}, which has it mounted or "
        "copies to it: wait until that has ended, or unmount it (h5fs status lists the mounts); "
        "no option does without this lock"
    )


def is_written_by_h5fs(descriptor: int) -> bool:
    """Whether another h5fs, or a worker that outlived one, has a descriptor's file to write."""
    asked = _FLOCK.pack(fcntl.F_RDLCK, 0, _BYTE, 1, 0)
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError:
        return False
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def tell_no_locks(file: Path, error: OSError) -> None:
    """Say that a file system cannot lock, and what that means."""
    _log.warning(
        "%s: its file system has no locks (%s): see to it yourself that no second h5fs has the "
        "file while it is written", file, error.strerror,
    )  # fmt: skip

"""h5fs's own lock on an HDF5 file: no option and no environment variable does without it.

HDF5's lock (``opening``) is for the sake of HDF5's other programs, and can be switched off. This
one keeps h5fs away from h5fs. It lies on one byte far beyond the end of any file, as a lock of an
open file description: whatever name leads to the file, and whether it has a log or not, and it
meets neither HDF5's lock nor anybody else's. It goes with the last process that has the descriptor.
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
from h5fs.store.lock_holders import find_lock_holder
from h5fs.store.log.log_path import find_log

_log = logging.getLogger(__name__)

_BYTE = 2**62
# struct flock of <fcntl.h>: type, whence, start, length, process id.
_FLOCK = struct.Struct("@hhqqi4x")
_REFUSED = (errno.EAGAIN, errno.EACCES)


def take_own_lock(descriptor: int, file: Path, *, writes: bool) -> None:
    """Lock a file for as long as the descriptor, or a copy of it, is open.

    A writer is alone, readers are not. Raises ``HeldByH5fsError``.
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
    with suppress(OSError):  # with HDF5's lock switched off, that on the log alone tells
        who = who or find_lock_holder(os.stat(find_log(file)))
    return HeldByH5fsError(
        f"{file} is locked by another h5fs{who}, which has it mounted or "
        "copies to it: wait until that has ended, or unmount it (h5fs status lists the mounts); "
        "no option does without this lock"
    )


def is_written_by_h5fs(descriptor: int) -> bool:
    """Whether another h5fs has the file of a descriptor to write it, or a worker that is left of
    one."""
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

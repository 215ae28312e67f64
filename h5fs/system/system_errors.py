"""Errors of the system (a full disk, too many open files), explained, with what to do about them.

Neither h5fs nor the file is at fault in these.
"""

from __future__ import annotations

import errno
import os

_ADVICE = {
    errno.EMFILE: "; allow more open files (ulimit -n 1024)",
    errno.ENFILE: "; the system has too many files open: close some",
    errno.ENOSPC: "; make room on that disk",
    errno.EDQUOT: "; make room on that disk",
    errno.ENOMEM: "; close other programs, or use a smaller -o cache=",
    errno.EAGAIN: "; allow more processes (ulimit -u)",
}


def explain_system_error(error: OSError) -> str:
    """Return one line about an error of the system, with what to do about it."""
    if error.errno == errno.ENOENT and error.filename is None and not _has_working_directory():
        return "the working directory is gone: cd first"
    names = [os.fsdecode(name) for name in (error.filename,) if isinstance(name, (str, bytes))]
    reason = error.strerror or str(error)
    return ": ".join([*names, reason]) + advise(error)


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def advise(error: BaseException | None) -> str:
    """Return advice to put behind an error's text; an empty text where there is none."""
    return _ADVICE.get(error.errno or 0, "") if isinstance(error, OSError) else ""

"""Where the redo log of an HDF5 file is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from h5fs.errors import CannotOpenError

LOG_SUFFIX = ".h5fs-log"


def log_path(file: Path) -> Path:
    """Return the log's path: in the folder of the file itself, wherever symbolic links lead."""
    return Path(os.path.realpath(file) + LOG_SUFFIX)


def find_log(file: Path) -> Path:
    """Return the path of a file's log, which may be beside another of its hard links.

    Only hard links in the file's own folder are looked at: no file system tells where others are.
    """
    return Path(_find_log(os.path.realpath(file)))


def _find_log(real: str) -> str:
    own = real + LOG_SUFFIX
    if os.path.lexists(own):
        return own
    for other in _other_names(real):
        log = os.path.realpath(other) + LOG_SUFFIX
        if os.path.lexists(log):
            return log
    return own


def _other_names(file: str) -> Iterator[str]:
    """Yield the other names that a file has in its folder and that have a log beside them."""
    try:
        status = os.lstat(file)
        if status.st_nlink < 2 or not stat.S_ISREG(status.st_mode):
            return
        folder = os.path.dirname(file)
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(LOG_SUFFIX))
    except OSError:
        return
    for name in names:
        other = os.path.join(folder, name.removesuffix(LOG_SUFFIX))
        try:
            if os.path.samestat(os.lstat(other), status):
                yield other
        except OSError:
            continue


def has_log(file: Path) -> bool:
    """Whether a file has a log with something in it, or what is no log lies in its place."""
    return has_log_at(os.path.realpath(file))


def has_log_at(real: str) -> bool:
    """``has_log`` by a file's real path."""
    try:
        status = os.lstat(_find_log(real))
    except OSError:
        return False
    return not stat.S_ISREG(status.st_mode) or status.st_size > 0


def check_has_no_log(real: str) -> None:
    """Raise ``CannotOpenError`` for a file, at its real path, that is to be read without a log.

    Without the log that it has, it is in an older state, or amid a checkpoint.
    """
    if has_log_at(real):
        raise CannotOpenError(
            f"{real} has a log that is not brought in: end what writes it, "
            f"or run: h5fs recover {real}"
        )

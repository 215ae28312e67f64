"""A log file that does not grow without end, and stays the same file.

Other processes have the file as their stderr, so it is never renamed: when it is full, its content
is copied to ``FILE.1``, and the file is emptied. Processes that append go on at its new end.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

_MAX_BYTES = 10 * 2**20


class CutFileHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic in Python 3.10
    """Writes lines to the end of a file. Raises ``OSError`` when the file cannot be opened."""

    def __init__(self, path: Path, max_bytes: int = _MAX_BYTES) -> None:
        descriptor = _open(path)
        super().__init__(open(descriptor, "a", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
        self._path = path
        self._max_bytes = max_bytes
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a line that the disk has no room for is lost."""
        try:
            if self._is_regular:
                self._go_on_at_path()
                if os.fstat(self.stream.fileno()).st_size >= self._max_bytes:
                    self._cut()
            super().emit(record)
        except OSError:
            self.handleError(record)

    def _go_on_at_path(self) -> None:
        """Open the path anew, if somebody has moved or removed the log."""
        own = self.stream.fileno()
        with suppress(OSError):
            if os.path.exists(self._path) and os.path.samestat(os.stat(self._path), os.fstat(own)):
                return
            fresh = _open(self._path)
            is_stderr = os.path.samestat(os.fstat(2), os.fstat(own))
            os.dup2(fresh, own, inheritable=False)
            if is_stderr:
                os.dup2(fresh, 2)
            os.close(fresh)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error: the log is the only place where it could be reported."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self.stream.close()
        super().close()

    def _cut(self) -> None:
        self.flush()
        with suppress(OSError):  # the folder cannot be written, or the disk is full
            self._keep_copy()
        os.ftruncate(self.stream.fileno(), 0)

    def _keep_copy(self) -> None:
        old = self._path.with_name(f"{self._path.name}.1")
        old.unlink(missing_ok=True)
        mode = stat.S_IMODE(os.fstat(self.stream.fileno()).st_mode)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        own = f"/proc/self/fd/{self.stream.fileno()}"
        with open(own, "rb") as source, open(os.open(old, flags, mode), "wb") as copy:
            shutil.copyfileobj(source, copy)


def _open(path: Path) -> int:
    """Open a file to append; do not wait for the reader of a pipe. Raises ``OSError``."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), str(path))
    return descriptor

"""Whether a file that is being written still has its path, and no other name."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class PathCheck:
    """Compares a file, by its descriptor, with what stands at its real path now.

    Safe to call from any thread.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._name = os.fspath(path)  # a Path makes it anew each time
        file = os.fstat(descriptor)
        self._identity = file.st_dev, file.st_ino

    def is_gone(self) -> bool:
        """Whether no name leads to the file any more. Raises ``OSError``."""
        return os.fstat(self._descriptor).st_nlink == 0

    def problem(self) -> str:
        """Return a line that says what has become of the file; empty when nothing has changed.

        Raises ``OSError``.
        """
        try:
            found = os.lstat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            return f"{self._path} was {'removed' if self.is_gone() else 'moved'}{self._where()}"
        except OSError as error:
            return f"{self._path} cannot be looked at any more ({error.strerror})"
        if (found.st_dev, found.st_ino) != self._identity:
            return f"{self._path} was replaced by another file{self._where()}"
        if found.st_nlink == 0:  # in a container the path may still show the removed file
            return f"{self._path} was removed"
        if found.st_nlink > 1:
            return (
                f"{self._path} has got another name (a hard link), under which its log is not "
                "found: remove that name"
            )
        return ""

    def _where(self) -> str:
        """Return where the file is now, as far as the system tells."""
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{self._descriptor}")
            if os.path.samestat(os.lstat(path), os.fstat(self._descriptor)):
                return f", and is {path} now"
        return ""

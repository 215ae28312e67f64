"""``h5fs cp``, and a mount with ``cp -r``, which are timed: see ``probes``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.walk_probes import make_target, sum_up_and_remove

Work = Callable[[], Any]

_H5FS = [sys.executable, "-m", "h5fs"]


def copy_out(file: str, *, by_mount: bool) -> Work:
    """Copy all of an HDF5 file to a folder. Digest: what h5py would have read."""
    target = make_target()
    copy = _Mount(file) if by_mount else _Command()

    def work() -> Callable[[], Any]:
        copy.copy(f"{file}:/", str(target))
        return lambda: copy.end() or sum_up_and_remove(target)

    return work


def copy_in(source: str, file: str, *, by_mount: bool) -> Work:
    """Copy what is in a folder to an HDF5 file that is made for it."""
    copy = _Mount(file, "--mode", "x") if by_mount else _Command()

    def work() -> Callable[[], Any]:
        copy.copy(f"{source}/.", f"{file}:/")
        return copy.end

    return work


class _Command:
    """``h5fs cp``."""

    def copy(self, source: str, target: str) -> None:
        subprocess.run([*_H5FS, "cp", source, target], check=True)

    def end(self) -> None:
        """Everything is done."""


class _Mount:
    """A mount, and ``cp -r`` from it or to it: what is called FILE:/ is the mountpoint."""

    def __init__(self, file: str, *words: str) -> None:
        self._mountpoint = tempfile.mkdtemp()
        self._words = [*_H5FS, *words, file, self._mountpoint]
        self._place = f"{file}:/"

    def copy(self, source: str, target: str) -> None:
        subprocess.run(self._words, check=True)
        words = [self._mountpoint if word == self._place else word for word in (source, target)]
        subprocess.run(["cp", "-r", *words], check=True)

    def end(self) -> None:
        """Unmount; not timed."""
        subprocess.run([*_H5FS, "umount", self._mountpoint], check=True)
        Path(self._mountpoint).rmdir()


COPY_PROBES: dict[str, Callable[..., Work]] = {"copy_out": copy_out, "copy_in": copy_in}

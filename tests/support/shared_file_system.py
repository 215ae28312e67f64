"""A folder as one machine of a cluster sees it, with caches, and with locks that fail or lie.

    python -m support.shared_file_system FOLDER MOUNTPOINT [SECONDS [ERRNO]]

Others change the folder itself, as other machines do: the kernel keeps
attributes and names for SECONDS, as an NFS client does. With ERRNO, ``flock`` and ``fcntl`` locks
fail with it, as on NFS without lockd (ENOLCK) and on Lustre with noflock (ENOSYS); without, they
hold on this "machine" alone. Runs until it is unmounted.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mfusepy


class Folder(mfusepy.Operations):
    """Passes everything on that h5fs asks of a file system that it reads."""

    use_ns = True

    def __init__(self, folder: str, lock_errno: int) -> None:
        self._folder = folder
        if lock_errno:
            self.lock = self.flock = self._refuse_locks  # type: ignore[assignment]
        self._lock_errno = lock_errno

    def _refuse_locks(self, *_: Any) -> int:
        raise mfusepy.FuseOSError(self._lock_errno)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.fstat(fh) if fh is not None else os.lstat(self._folder + path)
        names = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        found: dict[str, Any] = {name: getattr(status, name) for name in names}
        for name in ("st_atime", "st_mtime", "st_ctime"):
            found[name] = getattr(status, name + "_ns")
        return found

    def readdir(self, path: str, _fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._folder + path)]

    def open(self, path: str, flags: int) -> int:
        return os.open(self._folder + path, flags & ~(os.O_CREAT | os.O_EXCL))

    def create(self, path: str, mode: int, _fi: Any = None) -> int:
        return os.open(self._folder + path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, _path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, _path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, _fh: int | None = None) -> int:
        os.truncate(self._folder + path, length)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._folder + path)
        return 0

    def release(self, _path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def fsync(self, _path: str, _datasync: int, fh: int) -> int:
        os.fsync(fh)
        return 0


@contextmanager
def seen_from_another_machine(
    folder: Path, mountpoint: Path, *, seconds: float = 1.0, lock_errno: int = 0
) -> Iterator[Path]:
    """Show a folder as another machine sees it, as long as the block lasts."""
    mountpoint.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "support.shared_file_system", folder, mountpoint, str(seconds),
         errno.errorcode.get(lock_errno, "")], env=environment,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not os.path.ismount(mountpoint):
            assert process.poll() is None and time.monotonic() < deadline, "it is not mounted"
            time.sleep(0.02)
        yield mountpoint
    finally:
        subprocess.run(["fusermount3", "-uz", mountpoint], check=False, timeout=240)
        process.wait(30)


def main() -> None:
    """Serve one mount."""
    folder, mountpoint, seconds, name = [*sys.argv[1:], "1", ""][:4]
    mfusepy.FUSE(
        Folder(folder, getattr(errno, name) if name else 0), mountpoint, foreground=True,
        attr_timeout=float(seconds), entry_timeout=float(seconds), use_ino=True,
        fsname="shared", auto_cache=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()

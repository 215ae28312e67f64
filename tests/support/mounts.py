"""Real mounts for tests and for the programs in scripts/: a daemon in a process of its own.

Whatever happens within the block, nothing stays mounted and no daemon stays behind.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from h5fs.daemon.end_reports import take_reports
from h5fs.daemon.registry import find_daemon
from h5fs.system.kernel_mounts import find_mount
from support.waiting import PATIENCE_SECONDS

needs_libfuse_3 = pytest.mark.skipif(
    os.environ.get("H5FS_FUSE") == "2", reason="modes that write need libfuse 3"
)

START_SECONDS = PATIENCE_SECONDS
_DETACH_SECONDS = 300  # a kernel that knows two million files takes long to forget them


class MountFailedError(Exception):
    """The mount command did not exit with 0; the message is what it said."""


@dataclass(frozen=True)
class Mounted:
    """A mount that answers: where, its log, and its daemon's process id."""

    path: Path
    log: Path
    pid: int

    def log_lines(self) -> list[str]:
        """Return what the daemon has logged so far."""
        return self.log.read_text(encoding="utf-8").splitlines()


def run_h5fs(
    *arguments: str | Path, seconds: float = START_SECONDS, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as a user would type it."""
    return subprocess.run(
        [sys.executable, "-m", "h5fs", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **(env or {})},
    )


@contextmanager
def mounted(file: Path, *, options: Sequence[str] = ()) -> Iterator[Mounted]:
    """Mount a file at a new folder. Raises ``MountFailedError`` with what the command said."""
    with tempfile.TemporaryDirectory(prefix="h5fs-test-") as folder:
        mountpoint = Path(folder, "mnt")
        mountpoint.mkdir()
        log = Path(folder, "log")
        try:
            done = run_h5fs(file, mountpoint, "-o", f"log={log}", *options)
            if done.returncode:
                raise MountFailedError(done.stderr.strip())
            daemon = find_daemon(mountpoint)
            assert daemon is not None, "the daemon has not registered itself"
            yield Mounted(mountpoint, log, daemon.pid)
        finally:
            end_mount(mountpoint)


def end_mount(mountpoint: Path) -> None:
    """Take a mount down, however it is: in use, hanging, or dead already.

    What its daemon says at its end is for nobody: `h5fs status` would tell it for a week.
    """
    found = find_daemon(mountpoint)
    daemon = None
    if found is not None:
        try:
            daemon = os.pidfd_open(found.pid)
        except ProcessLookupError:
            daemon = None
    words = ["fusermount3", "-uz", str(mountpoint)]
    while find_mount(mountpoint) is not None:
        subprocess.run(words, check=True, timeout=_DETACH_SECONDS)
    if daemon is not None:
        _wait_or_kill(daemon)
    take_reports(mountpoint.resolve())


def _wait_or_kill(daemon: int) -> None:
    try:
        # It may have much to commit, on a machine that is busy.
        ended, _, _ = select.select([daemon], [], [], PATIENCE_SECONDS)
        if not ended:
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
            select.select([daemon], [], [], PATIENCE_SECONDS)
    finally:
        os.close(daemon)

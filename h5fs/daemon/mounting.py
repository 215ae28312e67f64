"""A mount's beginning and end, as the commands see them.

``mount`` checks what can be checked, starts the daemon, and returns when the mount answers.
``unmount`` returns when the daemon is gone.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from h5fs.daemon.daemon_process import READY, run_daemon, serve_in_foreground
from h5fs.daemon.mount_checks import check_mount, find_fusermount
from h5fs.daemon.registry import find_daemon
from h5fs.errors import MountError
from h5fs.kernel_mounts import Mount, find_mount
from h5fs.model.settings import MountOptions
from h5fs.system_errors import explain_system_error

# A program that looks at a mountpoint keeps it busy for a moment.
_BUSY_PAUSES_SECONDS = (0, 0.05, 0.2)
_UNMOUNT_PATIENCE_SECONDS = 600  # everything is committed before


def mount(options: MountOptions) -> None:
    """Mount an HDF5 file; return once the mount answers, or in the foreground once it has ended.

    Raises ``MountError``; nothing is left mounted then.
    """
    check_mount(options)
    if options.foreground:
        serve_in_foreground(options)
        return
    try:
        message = _start_daemon(options)
    except OSError as error:
        raise MountError(explain_system_error(error)) from None
    if message != READY:
        raise MountError(
            message.decode("utf-8", "replace")
            or f"the daemon died while it opened {options.store.location}; try --foreground --debug"
        )
    _check_answer(options.mountpoint)


def _start_daemon(options: MountOptions) -> bytes:
    """Start the daemon; return its message once it is ready or has given up. Raises ``OSError``."""
    reader, writer = os.pipe()
    # Without this both processes would write what is still buffered.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        run_daemon(options, writer)
    os.close(writer)
    try:
        with open(reader, "rb") as messages:
            message = messages.read()
    except BaseException:  # Ctrl-C: the user does not want the mount any more
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    if message != READY:
        os.waitpid(pid, 0)
    return message


def unmount(mountpoint: Path) -> None:
    """Unmount, and wait until the daemon is gone. Raises ``MountError``."""
    place = Path(os.path.realpath(mountpoint))
    found = find_mount(place)
    if found is None:
        raise MountError(
            f"nothing is mounted at {mountpoint}; findmnt -t fuse.h5fs lists what is mounted where"
        )
    if not found.is_h5fs:
        raise MountError(f"{mountpoint} is not an h5fs mount but {found.type}; use umount")
    pid = find_daemon(place)
    daemon = _open_process(pid) if pid is not None else None
    _detach(found)
    if daemon is None:
        return
    try:
        ended, _, _ = select.select([daemon], [], [], _UNMOUNT_PATIENCE_SECONDS)
    finally:
        os.close(daemon)
    if not ended:
        raise MountError(
            f"{mountpoint} is unmounted, but its daemon (pid {pid}) still runs after "
            f"{_UNMOUNT_PATIENCE_SECONDS} s; its log may say why"
        )


def _check_answer(mountpoint: Path) -> None:
    try:
        os.stat(mountpoint)
    except OSError as error:
        subprocess.run(_unmount_command(mountpoint, lazy=True), check=False, capture_output=True)
        raise MountError(f"{mountpoint} is mounted but does not answer: {error.strerror}") from None


def _detach(mount: Mount) -> None:
    reason = ""
    for pause_seconds in _BUSY_PAUSES_SECONDS:
        time.sleep(pause_seconds)
        done = subprocess.run(
            _unmount_command(mount.mountpoint), check=False, capture_output=True, text=True,
            errors="backslashreplace",
        )  # fmt: skip
        # Another process may have unmounted it in the same moment.
        if not done.returncode or find_mount(mount.mountpoint) != mount:
            return
        reason = " ".join(done.stderr.split())
    raise MountError(
        f"cannot unmount {mount.mountpoint}: {reason}; close the programs that use it "
        f"(fuser -vm {mount.mountpoint} lists them)"
    )


def _unmount_command(mountpoint: Path, *, lazy: bool = False) -> list[str]:
    fusermount = find_fusermount()
    if fusermount is not None:
        return [fusermount, "-uz" if lazy else "-u", str(mountpoint)]
    return ["umount", *(["-l"] if lazy else []), str(mountpoint)]


def _open_process(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None when it has."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None

"""A mount's beginning and end, as the commands see them.

``mount`` checks what can be checked, starts the daemon, and returns when the mount answers.
``unmount`` returns when the daemon is gone.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct, structs

from h5fs.daemon.daemon_process import READY, run_daemon, serve_in_foreground
from h5fs.daemon.end_reports import EndReport, take_reports
from h5fs.daemon.mount_checks import check_mount, find_fusermount
from h5fs.daemon.registry import find_daemon
from h5fs.errors import CannotOpenError, MountError
from h5fs.model.settings import MountOptions
from h5fs.system.kernel_mounts import MountEntry, find_mount
from h5fs.system.system_errors import explain_system_error

# A program that looks at a mountpoint keeps it busy for a moment.
_BUSY_PAUSES_SECONDS = (0, 0.05, 0.2)
_KILLED_TRIES, _KILLED_PAUSE_SECONDS = 20, 0.1
_UNMOUNT_PATIENCE_SECONDS = 600  # everything is committed before


def mount(options: MountOptions) -> str:
    """Mount an HDF5 file; return once the mount answers, or in the foreground once it has ended.

    Returns a line about damage that the mount shows the file without, as a rule an empty one.
    Raises ``MountError``; nothing is left mounted then.
    """
    with _interrupts_held(), _made_mountpoint(options) as ready:
        check_mount(ready)
        if options.foreground:
            with _interrupts_let_through():
                serve_in_foreground(ready)
            return ""
        try:
            message = _start_daemon(ready)
        except OSError as error:
            raise MountError(explain_system_error(error)) from None
        if not message.startswith(READY):
            raise MountError(
                message.decode("utf-8", "replace")
                or f"the daemon died while it opened {options.store.location}; "
                "try --foreground --debug"
            )
        _check_answer(options.mountpoint)
        # What comes now comes too late: the command ends as one that has mounted.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return message.removeprefix(READY).decode("utf-8", "replace")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait during the block.

    Between two steps it would leave the folder, or the daemon, that the first of them has made.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _interrupts_let_through() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextmanager
def _made_mountpoint(options: MountOptions) -> Iterator[MountOptions]:
    """Make the mountpoint where there is none; remove it again when the block raises.

    Yields the options with the fact that h5fs has made it: the daemon then removes it at the end.
    """
    try:
        options.mountpoint.mkdir()
    except OSError as error:
        folder, is_path = options.mountpoint.parent, options.descriptor is None
        # A mount whose daemon was killed is there, and no call but mkdir can see it.
        is_there = isinstance(error, FileExistsError) or os.path.lexists(options.mountpoint)
        if is_path and folder.is_dir() and not is_there:
            reason = f"{explain_system_error(error)}; name a folder elsewhere"
            raise MountError(reason) from None
        yield options  # it is there, or its parent is missing: the checks say what to do
        return
    try:
        yield structs.replace(options, removes_mountpoint=True)
    except BaseException:
        with suppress(OSError):
            options.mountpoint.rmdir()
        raise


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
        with open(reader, "rb") as messages, _interrupts_let_through():
            message = messages.read()
    except BaseException:  # Ctrl-C: the user does not want the mount any more
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    if not message.startswith(READY):
        os.waitpid(pid, 0)
    return message


class Unmounted(Struct, frozen=True):
    """How a mount has ended; ``is_in_use``: without its name it goes on until the last use."""

    reports: tuple[EndReport, ...] = ()
    is_in_use: bool = False


def unmount(mountpoint: Path, *, is_lazy: bool = False) -> Unmounted:
    """Unmount, and wait until the daemon is gone; return what the daemon says at its end.

    Where another program has unmounted it, that is what the daemon has left to be told.
    ``is_lazy``: a mount that is in use loses its name at once, and its daemon, which is not waited
    for, ends when nobody uses it any more. Raises ``MountError``.
    """
    place = Path(os.path.realpath(mountpoint))
    found = find_mount(place)
    if found is None:
        if reports := take_reports(place):
            return Unmounted(tuple(reports))
        raise MountError(
            f"nothing is mounted at {mountpoint}; findmnt -t fuse.h5fs lists what is mounted where"
        )
    if not found.is_h5fs:
        raise MountError(f"{mountpoint} is not an h5fs mount but {found.type}; use umount")
    daemon = find_daemon(place)
    process = _open_process(daemon.pid) if daemon is not None else None
    try:
        is_in_use = _detach(found, is_lazy=is_lazy)
        if is_in_use:
            return Unmounted(is_in_use=True)
        if daemon is None or process is None:
            return Unmounted(tuple(_left_log(found, pid=0)))
        ended, _, _ = select.select([process], [], [], _UNMOUNT_PATIENCE_SECONDS)
    finally:
        if process is not None:
            os.close(process)
    if not ended:
        raise MountError(
            f"{mountpoint} is unmounted, but its daemon (pid {daemon.pid}) still runs after "
            f"{_UNMOUNT_PATIENCE_SECONDS} s; its log may say why"
        )
    reports = take_reports(place, pid=daemon.pid) or _left_log(found, pid=daemon.pid)
    return Unmounted(tuple(reports))


def _left_log(mount: MountEntry, *, pid: int) -> list[EndReport]:
    """Return the report that a killed daemon could not leave: where its changes are.

    In a mode that writes a clean end leaves no log. One that is locked is another mount's.
    """
    if mount.is_read_only or not mount.source.startswith("/"):  # a URL has no log
        return []
    from h5fs.store.log.log_path import find_log, has_log

    ends = [len(mount.source), *(mark.start() for mark in re.finditer(":/", mount.source))]
    names = (Path(mount.source[:end]) for end in ends)
    file = next((name for name in names if name.is_file()), None)
    if file is None or not has_log(file) or _stays_locked(find_log(file), file):
        return []
    log = find_log(file)
    message = (
        f"its daemon was killed: what was closed is in {log}, and not in {file} yet; "
        f"{shlex.join(['h5fs', 'recover', os.fspath(file)])} brings it in"
    )
    return [EndReport(pid, os.fspath(mount.mountpoint), (message,))]


def _stays_locked(log: Path, file: Path) -> bool:
    """Whether another h5fs writes a log; the workers of a killed daemon hold it for a moment."""
    from h5fs.store.log.log_on_disk import open_to_look

    for _ in range(_KILLED_TRIES):
        try:
            with file.open("rb") as main:
                descriptor, is_in_use = open_to_look(log, main.fileno())
        except (OSError, CannotOpenError):  # whoever recovers is told what is wrong with it
            return False
        os.close(descriptor)
        if not is_in_use:
            return False
        time.sleep(_KILLED_PAUSE_SECONDS)
    return True


def _check_answer(mountpoint: Path) -> None:
    try:
        os.stat(mountpoint)
    except OSError as error:
        subprocess.run(_unmount_command(mountpoint, lazy=True), check=False, capture_output=True)
        raise MountError(f"{mountpoint} is mounted but does not answer: {error.strerror}") from None


def _detach(mount: MountEntry, *, is_lazy: bool) -> bool:
    """Unmount; return whether the mount is in use and lives on without a name.

    Raises ``MountError``.
    """
    reason = ""
    for pause_seconds in _BUSY_PAUSES_SECONDS:
        time.sleep(pause_seconds)
        done = subprocess.run(
            _unmount_command(mount.mountpoint), check=False, capture_output=True, text=True,
            errors="backslashreplace",
        )  # fmt: skip
        # Another process may have unmounted it in the same moment.
        if not done.returncode or find_mount(mount.mountpoint) != mount:
            return False
        reason = " ".join(done.stderr.split())
    if is_lazy:
        subprocess.run(
            _unmount_command(mount.mountpoint, lazy=True), check=False, capture_output=True
        )
        if find_mount(mount.mountpoint) != mount:
            return True
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

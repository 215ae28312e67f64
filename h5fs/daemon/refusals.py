"""Why a file cannot be opened, as people are told. Imports little: commands start fast."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from h5fs.errors import CannotOpenError, H5fsError, MountError, show_path
from h5fs.model.location import Location
from h5fs.system.system_errors import advise


@contextmanager
def explaining(location: Location) -> Iterator[None]:
    """Turn errors of opening what is there into a ``MountError`` that says what to do."""
    try:
        yield
    except CannotOpenError as error:
        raise MountError(with_own_mount(location, str(error))) from None
    except H5fsError as error:
        from h5fs.store.file_checks import explain_unopenable

        if isinstance(error.__context__, OSError):  # the system is at fault, not the file, nor HDF5
            advice = advise(error.__context__)
            raise MountError(f"{location} cannot be opened: {error}{advice}") from None
        if not isinstance(location, Path):
            raise MountError(f"{location} cannot be opened: {error}") from None
        raise MountError(explain_unopenable(location, error)) from None


def with_own_mount(location: Location, refusal: str) -> str:
    """Return why a file cannot be opened; where a mount of this user's has it, say which one."""
    if " is locked by " not in refusal or not isinstance(location, Path):
        return refusal
    from h5fs.daemon.registry import find_daemons
    from h5fs.system.kernel_mounts import find_mount

    holder = re.search(r"pid ([0-9]+)\)", refusal)
    for daemon in find_daemons():
        with suppress(OSError):
            is_its = holder is None or _belongs_to(int(holder[1]), daemon.pid)
            if is_its and os.path.samefile(daemon.file, location):
                place = show_path(os.fsencode(daemon.mountpoint))
                held = f"{location} is locked by another h5fs (pid {daemon.pid}), which"
                if find_mount(Path(daemon.mountpoint)) is None:  # unmounted while it was in use
                    return (
                        f"{held} had it mounted on {place}, and programs still use that: it ends "
                        f"with the last of them, or by: kill {daemon.pid}"
                    )
                command = shlex.join(["h5fs", "umount", daemon.mountpoint])
                return f"{held} has it mounted on {place}: {command}"
    return refusal


def _belongs_to(pid: int, daemon_pid: int) -> bool:
    """Whether a process is a daemon or below it, as its workers are. Raises ``OSError``."""
    while pid > 1 and pid != daemon_pid:
        pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return pid == daemon_pid

"""``h5fs FILE MOUNTPOINT``: mount a file, a part of one, or a folder of files."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from h5fs.cli.file_arguments import absolute
from h5fs.cli.mount_options import parse_options
from h5fs.cli.option_values import parse_mode
from h5fs.daemon.mounting import mount
from h5fs.errors import MountError, UsageError, show_path
from h5fs.model.location import Location
from h5fs.model.settings import LogOptions, Mode, MountOptions, RemoteOptions, StoreOptions


def run(arguments: argparse.Namespace) -> int:
    """Mount; return 0. Raises ``MountError``, ``UsageError``."""
    options = make_mount_options(arguments)
    warn(mount(options))
    if arguments.mountpoint is None and not arguments.foreground:
        print(f"mounted on {show_path(os.fsencode(options.mountpoint.name))}")
    return 0


def warn(problem: str) -> None:
    """Print a line about what is no error of the command, if there is any."""
    if problem:
        print(f"h5fs: {problem}", file=sys.stderr)


def make_mount_options(given: argparse.Namespace) -> MountOptions:
    """Return the settings of a mount, from what the parser of ``mount`` gives.

    Raises ``UsageError`` for a wrong option or mode.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise MountError(f"the working directory is gone ({error.strerror}): cd first") from None
    location, part = given.file
    mountpoint = given.mountpoint or _default_mountpoint(location, part)
    parsed = parse_options(given.options)
    if given.mode is not None:  # --mode wins over -o mode=, which is there for fstab(5), mount(8)
        parsed.values["store.mode"] = _parse_mode(given.mode)
    options = parsed.apply(
        MountOptions(
            mountpoint=_real_path(mountpoint),
            store=StoreOptions(
                location=absolute(location), remote=RemoteOptions(working_folder=Path.cwd())
            ),
            log=LogOptions(level=_log_level(given)),
            foreground=given.foreground,
            is_folder=_is_folder(location),
            part=part,
            owner_pid=given.owner,
        )
    )
    if parsed.access == "rw" and not options.mode.writes:
        warn("-o rw lets no program write; --mode r+ does")
    if parsed.access == "ro" and options.mode.writes:
        mode = options.mode.value
        raise UsageError(f"-o ro and mode {mode} contradict each other; leave one out")
    if options.part and options.mode in (Mode.CREATE, Mode.EXCLUSIVE):
        raise UsageError(
            f"--mode {options.mode.value} begins a new file, which has no groups: name the file "
            "alone, or use r+"
        )
    return options


def _default_mountpoint(location: Location, part: bytes) -> Path:
    """Return the folder for a file, or a group, that was named alone. Raises ``UsageError``."""
    name = os.fsdecode(part.rpartition(b"/")[2]) or Path(location.name).stem
    is_taken = os.path.lexists(name) and not os.path.isdir(name)
    if not name or is_taken or _is_folder(location):
        raise UsageError(f"where is {location} to be mounted? h5fs {location} MOUNTPOINT")
    return Path(name)


def _real_path(mountpoint: Path) -> Path:
    """Return the real path of a mountpoint, since the kernel's table of mounts has no other."""
    # Apptainer passes an open /dev/fuse so; behind that link is the device, whoever opened it.
    is_descriptor = mountpoint.parent == Path("/dev/fd")
    return mountpoint if is_descriptor else Path(os.path.realpath(mountpoint))


def _is_folder(location: Location) -> bool:
    return location.is_dir() if isinstance(location, Path) else location.is_folder


def _parse_mode(text: str) -> Mode:
    try:
        return parse_mode(text)
    except ValueError as error:
        raise UsageError(f"--mode {text}: {error}") from None


def _log_level(given: argparse.Namespace) -> str:
    if given.debug:
        return "DEBUG"
    return "INFO" if given.verbose else "WARNING"

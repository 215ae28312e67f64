"""The command line: arguments to options to an exit status."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5fs
from h5fs.cli.mount_options import parse_options
from h5fs.cli.option_values import parse_mode
from h5fs.cli.parsers import COMMANDS, build_parser
from h5fs.cli.process_list import hide_secrets
from h5fs.cli.reports import tell_reports
from h5fs.cli.standard_streams import open_missing_streams
from h5fs.daemon.mounting import mount, unmount
from h5fs.errors import MountError, UsageError
from h5fs.kernel_mounts import read_mounts
from h5fs.model.location import Location
from h5fs.model.settings import LogOptions, Mode, MountOptions, RemoteOptions, StoreOptions
from h5fs.system_errors import explain_system_error

if TYPE_CHECKING:
    from h5fs.store.workers.starting.worker_starter import WorkerStarter

# Words that people type for a command of another name.
_SYNONYMS = {"unmount": "umount", "ls": "tree", "list": "tree", "copy": "cp", "repair": "recover"}
_COMMANDS = tuple(command.name for command in COMMANDS)


def main(
    arguments: Sequence[str] | None = None, *, starter: WorkerStarter | None = None
) -> int:
    """Run the command; return its exit status: 0 done, 1 an error, 2 wrong usage.

    ``starter``: a process that starts workers, for a command that needs them; the caller ends it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    hide_secrets(words)
    has_no_output = open_missing_streams()
    _allow_any_text()
    try:
        try:
            status = _run(words, starter, has_no_output=has_no_output)
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Without this Python would fail again when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):  # who read it (head, less) has had enough
            return 0
        return _complain(MountError(explain_system_error(error)), 1)
    return status


def _run(words: list[str], starter: WorkerStarter | None, *, has_no_output: bool) -> int:
    try:
        given = _parse(words)
        if has_no_output and given.command == "cat":
            raise MountError("stdout is closed, so the bytes can go nowhere")
        if given.command == "mount":
            options = make_mount_options(given)
            warn(mount(options))
            if given.mountpoint is None and not given.foreground:
                print(f"mounted on {options.mountpoint.name}")
        elif given.command == "umount":
            return _unmount(given)
        else:
            return _run_command(given, starter)
    except UsageError as error:
        return _complain(error, 2)
    except MountError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _unmount(given: argparse.Namespace) -> int:
    """Unmount; return 1 when not everything has come into an HDF5 file. Raises ``MountError``."""
    if given.all == (given.mountpoint is not None):
        raise UsageError("umount takes a MOUNTPOINT or --all (see h5fs umount --help)")
    places = _own_mountpoints() if given.all else [given.mountpoint]
    status = 0
    for place in places:
        try:
            ended = unmount(place, is_lazy=given.lazy)
        except MountError as error:
            if not given.all:
                raise
            status = _complain(error, 1)
            continue
        if ended.is_in_use:
            print(f"h5fs: {place} is in use; it ends with the last use", file=sys.stderr)
        if ended.reports:
            tell_reports(ended.reports)
            status = 1
    return status


def _own_mountpoints() -> list[Path]:
    uid = os.getuid()
    return [each.mountpoint for each in read_mounts() if each.is_h5fs and each.uid == uid]


def warn(problem: str) -> None:
    """Print a line about what is no error of the command, if there is any."""
    if problem:
        print(f"h5fs: {problem}", file=sys.stderr)


def _complain(error: MountError, status: int) -> int:
    print(f"h5fs: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _allow_any_text() -> None:
    """Print characters that the locale does not have, in names and examples, with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse the command line. Raises ``UsageError``; ends the program after --help, --version."""
    if words[:1] == ["help"] and not os.path.lexists("help"):
        words = [*words[1:2], "--help"]
    if not words or words[0] not in (*_COMMANDS, "-h", "--help", "-V", "--version"):
        _check_first_word(words)
        words = ["mount", *words]
    parser = build_parser(version=_ShowVersion)
    given, left = parser.parse_known_args(words)
    # argparse (before Python 3.13) takes no MOUNTPOINT that an option stands before.
    is_missing = words[0] == "mount" and given.mountpoint is None
    if is_missing and len(left) == 1 and left[0] and not left[0].startswith("-"):
        given.mountpoint, left = Path(left[0]), []
    return given if not left else parser.parse_args(words)


def _check_first_word(words: list[str]) -> None:
    """Raise ``UsageError`` for a first word that looks like a command and is none."""
    if not words:
        raise UsageError("what is to be mounted, and where? h5fs FILE MOUNTPOINT (h5fs --help)")
    word = words[0]
    if word.startswith("-") or "/" in word or "." in word or os.path.lexists(word):
        return
    close = difflib.get_close_matches(word, _COMMANDS, n=1, cutoff=0.7)
    meant = _SYNONYMS.get(word) or (close[0] if close else None)
    if meant is not None:
        raise UsageError(
            f"{word} is no command of h5fs, and no file; did you mean h5fs {meant}? (for a new "
            f"file of that name: ./{word})"
        )
    if len(words) == 1:
        raise UsageError(f"{word} is no command of h5fs, and no file (see h5fs --help)")


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
        parsed.values.update(dict.fromkeys(("mode", "store.mode"), _parse_mode(given.mode)))
    options = parsed.apply(
        MountOptions(
            mountpoint=_real_path(mountpoint),
            store=StoreOptions(
                location=_absolute(location), remote=RemoteOptions(working_folder=Path.cwd())
            ),
            log=LogOptions(level=_log_level(given)),
            foreground=given.foreground,
            is_folder=_is_folder(location),
            part=part,
            owner_pid=given.owner,
        )
    )
    if parsed.is_read_only and options.mode.writes:
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


def _absolute(location: Location) -> Location:
    return Path(os.path.abspath(location)) if isinstance(location, Path) else location


def _run_command(given: argparse.Namespace, starter: WorkerStarter | None) -> int:
    given.starter = starter
    module = importlib.import_module(f"h5fs.cli.commands.{given.command}")
    logging.basicConfig(level=logging.ERROR, format="h5fs: %(message)s")
    status: int = module.run(given)
    return status


class _ShowVersion(argparse.Action):
    """Prints the versions and exits; libfuse is looked for only when they are asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, *_arguments: object) -> None:
        try:
            from h5fs import fuse

            binding = fuse.describe_binding()
        except OSError as error:
            binding = f"no FUSE: {error}"
        print(f"h5fs {h5fs.__version__} ({binding})")
        sys.exit(0)


def _parse_mode(text: str) -> Mode:
    try:
        return parse_mode(text)
    except ValueError as error:
        raise UsageError(f"--mode {text}: {error}") from None


def _log_level(given: argparse.Namespace) -> str:
    if given.debug:
        return "DEBUG"
    return "INFO" if given.verbose else "WARNING"

"""The command line: arguments to options to an exit status."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5fs
from h5fs.cli.parsers import COMMANDS, build_parser, command_parsers, shown_actions
from h5fs.cli.process_list import hide_secrets
from h5fs.cli.standard_streams import open_missing_streams
from h5fs.errors import MountError, UsageError, say_on_one_line
from h5fs.system.system_errors import explain_system_error

if TYPE_CHECKING:
    from h5fs.store.workers.starting.worker_starter import WorkerStarter

# Words that people type for a command of another name.
_SYNONYMS = {"unmount": "umount", "ls": "tree", "list": "tree", "copy": "cp", "repair": "recover"}
_COMMANDS = tuple(command.name for command in COMMANDS)


def main(arguments: Sequence[str] | None = None, *, starter: WorkerStarter | None = None) -> int:
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
        return _run_command(given, starter)
    except UsageError as error:
        return _complain(error, 2)
    except MountError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130


def _complain(error: MountError, status: int) -> int:
    print(f"h5fs: {say_on_one_line(error)}", file=sys.stderr)
    return status


def _allow_any_text() -> None:
    """Print characters that the locale does not have, in names and examples, with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse the command line. Raises ``UsageError``; ends the program after --help, --version."""
    if words[:1] == ["help"] and not os.path.lexists("help"):
        if words[1:] and words[1] not in _COMMANDS:
            meant = _meant_command(words[1])
            hint = "see h5fs --help" if meant is None else f"did you mean h5fs help {meant}?"
            raise UsageError(f"{words[1]} is no command of h5fs ({hint})")
        words = [*words[1:2], "--help"]
    if not words or words[0] not in (*_COMMANDS, "-h", "--help", "-V", "--version"):
        _check_first_word(words)
        words = ["mount", *words]
    parser = build_parser(version=_ShowVersion, only=words[0])
    given, left = parser.parse_known_args(words)
    # argparse (before Python 3.13) takes no MOUNTPOINT that an option stands before.
    is_missing = words[0] == "mount" and given.mountpoint is None
    if is_missing and len(left) == 1 and left[0] and not left[0].startswith("-"):
        given.mountpoint, left = Path(left[0]), []
    if left:
        raise UsageError(_explain_left(parser, words[0], left))
    return given


def _explain_left(parser: argparse.ArgumentParser, command: str, left: list[str]) -> str:
    """Return why words of a command line mean nothing, and what may have been meant."""
    import difflib

    see = f"see h5fs {command} --help"
    if not left[0].startswith("-"):
        return f"unexpected: {' '.join(left)} ({see})"
    name = left[0].partition("=")[0]
    known = [
        option
        for action in shown_actions(command_parsers(parser)[command])
        for option in action.option_strings
    ]
    close = difflib.get_close_matches(name, known, n=1) if name.startswith("--") else []
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{command} has no option {name}{hint} ({see})"


def _check_first_word(words: list[str]) -> None:
    """Raise ``UsageError`` for a first word that looks like a command and is none."""
    if not words:
        raise UsageError("what is to be mounted, and where? h5fs FILE MOUNTPOINT (h5fs --help)")
    word = words[0]
    if word.startswith("-") or "/" in word or "." in word or os.path.lexists(word):
        return
    meant = _meant_command(word)
    if meant is not None:
        raise UsageError(
            f"{word} is no command of h5fs, and no file; did you mean h5fs {meant}? (for a new "
            f"file of that name: ./{word})"
        )
    if len(words) == 1:
        raise UsageError(f"{word} is no command of h5fs, and no file (see h5fs --help)")


def _meant_command(word: str) -> str | None:
    import difflib

    close = difflib.get_close_matches(word, _COMMANDS, n=1, cutoff=0.7)
    return _SYNONYMS.get(word) or (close[0] if close else None)


def _run_command(given: argparse.Namespace, starter: WorkerStarter | None) -> int:
    given.starter = starter
    module = importlib.import_module(f"h5fs.cli.commands.{given.command}")
    if given.command != "mount":  # whose daemon has a log
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

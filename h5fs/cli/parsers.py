"""What the command line takes: one source for the parser, ``--help``, man page and completion.

Imports nothing that reads a file or mounts, so that ``--help`` is quick and the man page can be
made where h5fs's dependencies are not installed.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec import Struct

from h5fs.cli.argument_types import (
    parse_count,
    parse_mounted,
    parse_path,
    parse_whole_file,
    parse_whole_location,
)
from h5fs.errors import UsageError

SHELLS = ("bash", "zsh", "fish")

DESCRIPTION = """\
Mount an HDF5 file as a folder tree: groups are folders, datasets are .npy files,
attributes are .attrs.json files. "mount" need not be typed: h5fs FILE MOUNTPOINT."""

_USAGE = """\
h5fs [mount] FILE[:/GROUP] [MOUNTPOINT] [--mode MODE] [-o OPTIONS] [-f] [-v | --debug]
       h5fs umount MOUNTPOINT | -a
       h5fs status | log [MOUNTPOINT]
       h5fs tree | cat | attr | cp | check | recover | cache | completion ...
       h5fs COMMAND --help
       h5fs help [COMMAND] | --version"""


class Example(Struct, frozen=True):
    """A command, and what it does. It works in a folder with ``data.h5`` and an empty ``mnt``."""

    command: str
    explanation: str


class Command(Struct, frozen=True):
    """A word of the command line. ``declare`` adds its arguments to a parser."""

    name: str
    summary: str
    declare: Callable[[argparse.ArgumentParser], None]
    examples: tuple[Example, ...]


class Parser(argparse.ArgumentParser):
    """A parser that raises ``UsageError`` with one line where argparse would end the program."""

    def print_help(self, file: Any = None) -> None:
        """Print the help. Raises ``OSError`` where that fails, which argparse keeps to itself."""
        print(self.format_help(), end="", file=file, flush=True)

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` with a pointer to ``--help``."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def build_parser(
    *, version: type[argparse.Action] | None = None, only: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; ``command`` is the word that was given.

    ``version`` is what ``--version`` does; without it the option is only described. ``only``: the
    one command that is going to be parsed, where that is known; the parser knows no other then.
    """
    parser = Parser(
        prog="h5fs", usage=_USAGE, description=DESCRIPTION, formatter_class=_Formatter,
        epilog=_show_examples(
            [each for name in ("mount", "umount", "tree") for each in _find(name).examples[:3]]
        ),
    )  # fmt: skip
    what: dict[str, Any] = {"help": "show the version of h5fs and of FUSE"}
    parser.add_argument("-V", "--version", **what, action=version or "store_true")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True, prog="h5fs",
        parser_class=Parser,
    )  # fmt: skip
    chosen = [command for command in COMMANDS if command.name == only] or COMMANDS
    for command in chosen:
        words = commands.add_parser(
            command.name, help=command.summary, formatter_class=_Formatter,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=_show_examples(list(command.examples)),
        )  # fmt: skip
        command.declare(words)
    return parser


def command_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by their words, in order."""
    (action,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return dict(action.choices)


def shown_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments and options that people are told of, in order."""
    return [action for action in parser._actions if action.help != argparse.SUPPRESS]


def takes_value(action: argparse.Action) -> bool:
    """Whether an option is followed by a value."""
    return bool(action.option_strings) and action.nargs != 0


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the help of options, except help that has line ends of its own."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        if "\n" not in text:
            return super()._split_lines(text, width)
        return [
            line
            for paragraph in text.splitlines()
            for line in textwrap.wrap(paragraph, width, subsequent_indent="    ")
        ]


def _show_examples(examples: list[Example]) -> str:
    width = max(len(example.command) for example in examples)
    lines = [f"  {example.command.ljust(width)}  {example.explanation}" for example in examples]
    return "\n".join(["examples:", *lines])


def _declare_mount(parser: argparse.ArgumentParser) -> None:
    from h5fs.cli.mount_options import OTHER_OPTIONS, SHOWN_OPTIONS  # other commands have none

    parser.add_argument(
        "file", metavar="FILE[:/GROUP]", type=parse_mounted,
        help="the HDF5 file, one group of it, or a folder of HDF5 files; a path or a URL",
    )  # fmt: skip
    parser.add_argument(
        "mountpoint", metavar="MOUNTPOINT", type=parse_path, nargs="?",
        help="an empty folder to mount it on; one that is missing is made, and removed at the end "
        "of the mount; without it, the file's name without its ending, in the working directory",
    )  # fmt: skip
    parser.add_argument(
        "--mode",
        metavar="MODE",
        help="as in h5py: r (read only, the default), r+ (read and write), a (make the file if "
        "there is none), w (begin anew), x or w- (make it, fail if it exists)",
    )
    rows = "\n".join(f"{option.spelling}: {option.description}" for option in SHOWN_OPTIONS)
    parser.add_argument(
        "-o", dest="options", metavar="OPTIONS", action="append", default=[],
        help=f"options, with commas between them:\n{rows}\n{OTHER_OPTIONS}",
    )  # fmt: skip
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("--debug", action="store_true", help="log everything")
    # For h5fs.mount: the mount ends when this process does.
    parser.add_argument("--owner", type=parse_count, help=argparse.SUPPRESS)


def _declare_umount(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mountpoint", metavar="MOUNTPOINT", type=parse_path, nargs="?", help="where it is mounted"
    )
    parser.add_argument(
        "-a", "--all", action="store_true", help="all mounts of this user, and no other"
    )
    parser.add_argument(
        "-l", "--lazy", action="store_true",
        help="a mount that is in use loses its name now, and ends when it is no longer in use",
    )  # fmt: skip


def _declare_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mountpoint", metavar="MOUNTPOINT", type=parse_path, nargs="?",
        help="the mount; not needed where there is one only"
    )  # fmt: skip
    parser.add_argument(
        "-f", "--follow", action="store_true",
        help="go on with what is logged, until the mount ends"
    )  # fmt: skip


def _declare_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mountpoint", metavar="MOUNTPOINT", type=parse_path, nargs="?",
        help="only this mount; what one that has ended there said is told for the last time",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    _declare_color(parser)


def _declare_tree(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "place", metavar="FILE[:/PATH]",
        help="a file, a group or dataset in it, or a folder of files",
    )  # fmt: skip
    parser.add_argument("--attrs", action="store_true", help="show attributes with their values")
    # For the completion of FILE:/PATH.
    parser.add_argument("--names", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--depth", type=parse_count, metavar="N", help="no more than N levels")
    parser.add_argument(
        "--sort", choices=("name", "size"), default="name", help="by name, or the largest first"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    _declare_color(parser)


def _declare_color(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="on a terminal, unless NO_COLOR is set: auto",
    )


def _declare_cat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places", metavar="FILE:/PATH", nargs="+",
        help="a file of the tree, named as in the mount; of an array also a part, as numpy has it: "
        "FILE:/x.npy[0,:10]",
    )  # fmt: skip
    parser.add_argument("--csv", action="store_true", help="an array as a table, in CSV")


def _declare_attr(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="FILE[:/PATH]", help="a file, or a group or dataset in it")
    parser.add_argument(
        "changes", metavar="NAME=VALUE", nargs="*",
        help="set an attribute: to a number (NaN, too), a list or true as in JSON, else to text; "
        "text that replaces a number, or looks like one, goes in double quotes ('NAME=\"5\"', "
        "'NAME=\"\"'); NAME= removes it; without any, the attributes are shown",
    )  # fmt: skip


def _declare_cp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="FILE:/PATH, or a file or folder")
    parser.add_argument("target", metavar="TARGET", help="a file or folder, or FILE:/PATH")
    parser.add_argument(
        "-a", "-r", "-R", dest="as_usual", action="store_true",
        help="nothing: folders are copied whole, and links as links, without it, too",
    )  # fmt: skip


def _declare_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=parse_whole_location, help="the HDF5 file")


def _declare_recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=parse_whole_file, help="the HDF5 file")
    parser.add_argument(
        "--clear-flag",
        action="store_true",
        help="also clear the mark of a file that is open for write, which a program has left that "
        "died (make sure that none writes it)",
    )


def _declare_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="list|clear", choices=("list", "clear"), nargs="?", default="list",
        help="list what is kept (the default), or remove all that no mount uses",
    )  # fmt: skip
    parser.add_argument(
        "--folder", metavar="DIR", type=parse_path, help="the folder of -o disk_cache=SIZE:DIR"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def _declare_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


COMMANDS: tuple[Command, ...] = (
    Command(
        "mount", "mount an HDF5 file on a folder", _declare_mount,
        (
            Example("h5fs data.h5 mnt", "mount, and return to the prompt"),
            Example("h5fs data.h5 mnt --mode r+", "let programs write, too"),
            Example("h5fs data.h5:/images mnt", "one group of it"),
            Example("h5fs data.h5 mnt -f -v", "stay in the foreground, log to the terminal"),
            Example("h5fs data.h5 mnt -o allow_other,external=none", "options of h5fs and FUSE"),
            Example(
                "h5fs new.h5 mnt --mode a -o compression=gzip,shuffle",
                "make a file, compress what is saved in it",
            ),
        ),
    ),
    Command(
        "umount", "unmount, and wait until the daemon is gone and the file is closed",
        _declare_umount, (Example("h5fs umount mnt", "unmount"),),
    ),
    Command(
        "status", "show which h5fs mounts there are, and how they are doing", _declare_status,
        (
            Example("h5fs status", "all mounts of this user"),
            Example("h5fs status mnt --json", "one, for programs"),
        ),
    ),
    Command(
        "log", "show what a mount has logged", _declare_log,
        (Example("h5fs log mnt", "all of it; with -f what is logged from now on, too"),),
    ),
    Command(
        "tree",
        "list what is in a file or a folder: names as in a mount, shape, dtype, layout, sizes",
        _declare_tree,
        (
            Example("h5fs tree data.h5", "list the whole file, without a mount"),
            Example("h5fs tree data.h5:/images --depth 1 --sort size", "one group of it"),
            Example("h5fs tree . --depth 2", "all HDF5 files of a folder"),
            Example("h5fs tree data.h5 --json", "for programs"),
        ),
    ),
    Command(
        "cat", "write a file of the tree to stdout", _declare_cat,
        (
            Example("h5fs cat data.h5:/.attrs.json", "the attributes of the root group"),
            Example("h5fs cat data.h5:/images/first.npy > first.npy", "an array"),
            Example("h5fs cat 'data.h5:/images/first.npy[:3]'", "a part of it"),
            Example("h5fs cat --csv data.h5:/images/first.npy > first.csv", "as a table"),
        ),
    ),
    Command(
        "attr", "show, set or remove attributes of one object, without a mount", _declare_attr,
        (
            Example("h5fs attr data.h5", "show those of the root group"),
            Example("h5fs attr data.h5:/ title=Trial gain=0.5", "set two, keep all others"),
            Example("h5fs attr data.h5:/ title=", "remove one"),
        ),
    ),
    Command(
        "cp", "copy out of an HDF5 file, into one, or from one to another, without a mount",
        _declare_cp,
        (
            Example("h5fs cp data.h5:/images copied", "out of the file"),
            Example("h5fs cp result.npy data.h5:/", "into it"),
            Example("h5fs cp data.h5:/images new.h5:/images", "from file to file, as h5copy does"),
        ),
    ),
    Command(
        "check", "tell whether a file has a log, is marked open for write, opens, can be read",
        _declare_check, (Example("h5fs check data.h5", "read all of it; change nothing"),),
    ),
    Command(
        "recover", "bring a file to the last commit in its log, without a mount",
        _declare_recover,
        (
            Example("h5fs recover data.h5", "after a kill or a power cut, for other programs"),
            Example("h5fs recover --clear-flag data.h5", "after a program died that had it open"),
        ),
    ),
    Command(
        "cache", "list or clear what is kept on this disk of files at URLs", _declare_cache,
        (
            Example("h5fs cache", "what is kept, of which file, used when"),
            Example("h5fs cache clear", "remove all that no mount uses"),
        ),
    ),
    Command(
        "completion", "print the script by which a shell completes h5fs commands",
        _declare_completion,
        (
            Example("h5fs completion bash > h5fs.bash && . ./h5fs.bash", "for this bash"),
            Example("h5fs completion zsh > _h5fs", "for a folder of zsh's $fpath"),
            Example("h5fs completion fish > h5fs.fish", "for ~/.config/fish/completions"),
        ),
    ),
)  # fmt: skip


def _find(name: str) -> Command:
    return next(command for command in COMMANDS if command.name == name)

"""What a shell can complete: the commands, their options and arguments, as plain values."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import Enum

from h5fs.cli.mount_options import SHOWN_OPTIONS
from h5fs.cli.parsers import command_parsers, shown_actions, takes_value


class Kind(Enum):
    """What an argument names."""

    FILE = "file"
    FOLDER = "folder"
    MOUNTED = "mounted"
    CHOICE = "choice"
    MOUNT_OPTIONS = "mount options"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Option:
    """An option with all its spellings; ``kind`` is None for an option without a value."""

    spellings: tuple[str, ...]
    help: str
    kind: Kind | None
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument; ``repeats``: it may be given several times."""

    label: str
    kind: Kind
    choices: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True, slots=True)
class CommandWords:
    """One command."""

    name: str
    summary: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]


_MODES = next(row.choices for row in SHOWN_OPTIONS if row.name == "mode")


def collect_words(parser: argparse.ArgumentParser) -> tuple[CommandWords, ...]:
    """Return what each command takes, in the order of help."""
    return tuple(
        CommandWords(
            name,
            str(command.description).rstrip("."),
            tuple(_describe_option(each) for each in shown_actions(command) if each.option_strings),
            tuple(
                _describe_argument(name, each)
                for each in shown_actions(command)
                if not each.option_strings
            ),
        )
        for name, command in command_parsers(parser).items()
    )


def _describe_option(action: argparse.Action) -> Option:
    choices = _MODES if action.dest == "mode" else tuple(map(str, action.choices or ()))
    kind = None
    if action.dest == "options":
        kind = Kind.MOUNT_OPTIONS
    elif takes_value(action):
        kind = Kind.CHOICE if choices else Kind.OTHER
    text = str(action.help).splitlines()[0]
    return Option(tuple(action.option_strings), text, kind, choices)


def _describe_argument(command: str, action: argparse.Action) -> Argument:
    choices = tuple(map(str, action.choices or ()))
    if choices:
        kind = Kind.CHOICE
    elif action.dest == "mountpoint":
        kind = Kind.FOLDER if command == "mount" else Kind.MOUNTED
    else:
        kind = Kind.FILE
    return Argument(str(action.metavar), kind, choices, action.nargs == "+")


def fill(text: str, marks: dict[str, str]) -> str:
    """Return a script's text with its ``@MARKS@`` replaced, one after another."""
    for mark, value in marks.items():
        text = text.replace(mark, value)
    return text

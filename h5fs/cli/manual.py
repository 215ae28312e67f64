"""The man page h5fs(1), in man(7) macros, from the parser and the table of mount options.

The page is made when the package is built, where only the standard library can be imported.
"""

from __future__ import annotations

import argparse

from h5fs.cli.mount_options import OTHER_OPTIONS, SHOWN_OPTIONS
from h5fs.cli.parsers import (
    COMMANDS,
    DESCRIPTION,
    build_parser,
    command_parsers,
    shown_actions,
    takes_value,
)

_STATUS = (
    ("0", "It is done; for a mount: the folder is ready."),
    ("1", "An error, in one line on stderr that says what to do. Nothing is left mounted."),
    ("2", "A command line or an option that h5fs does not understand."),
)
_FILES = (
    ("FILE.h5fs-log", "The log of a mount that writes, beside the HDF5 file while it is mounted. "
     "The file and its log belong together: do not move or copy the one without the other."),
    ("FILE.h5fs-log-aside", "A log that was found damaged, or that belongs to what another "
     "program has overwritten."),
    ("FILE.h5fs-left/", "What programs wrote that could not become HDF5, saved at the end."),
    ("FILE.h5fs-replaced", "All of an HDF5 file that was replaced or removed while it was mounted "
     "to be written."),
    ("~/.local/state/h5fs/, /var/log/h5fs/", "The logs of mounts in the background, of users and "
     "of root, named after the mountpoints."),
)  # fmt: skip
_ENVIRONMENT = (
    ("H5FS_FUSE", "2 or 3: insist on libfuse 2 or 3."),
    ("FUSE_LIBRARY_PATH", "The libfuse to load, by its path."),
    (
        "HDF5_USE_FILE_LOCKING",
        "FALSE: do not lock HDF5 files, as for the HDF5 library. h5fs keeps h5fs out all the same.",
    ),
    ("TMPDIR", "Where decoded chunks go that do not fit into memory (/var/tmp)."),
)
_MOUNT_HELPER = """\
Linked into /sbin, the command mount.h5fs lets mount(8), fstab(5) and systemd mount a file of the
type h5fs. Its options are those of -o above."""


def write_manual(version: str) -> str:
    """Return the page h5fs.1 for a version."""
    parser = build_parser()
    parts = [
        f'.TH H5FS 1 "" "h5fs {_escape(version)}" "User Commands"',
        _section("NAME"), "h5fs \\- mount an HDF5 file as a folder tree",
        _section("SYNOPSIS"), *_write_synopsis(parser),
        _section("DESCRIPTION"), _escape(" ".join(DESCRIPTION.split())),
        _section("COMMANDS"), *_write_commands(parser),
        _section("MOUNT OPTIONS"), *_write_mount_options(),
        _section("EXAMPLES"), *_write_examples(),
        _section("EXIT STATUS"), *_write_list(_STATUS),
        _section("FILES"), *_write_list(_FILES),
        _section("ENVIRONMENT"), *_write_list(_ENVIRONMENT),
        _section("FSTAB"), _escape(" ".join(_MOUNT_HELPER.split())),
        _section("SEE ALSO"),
        ".BR fusermount3 (1),\n.BR mount.fuse3 (8),\n.BR fstab (5),\n.BR h5dump (1)",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _section(title: str) -> str:
    return f'.SH "{title}"'


def _write_synopsis(parser: argparse.ArgumentParser) -> list[str]:
    lines = []
    for name, command in command_parsers(parser).items():
        head = "h5fs [mount]" if name == "mount" else f"h5fs {name}"
        words = [_show_usage(action) for action in _arguments(command)]
        lines += [".nh", ".HP", f"\\fB{_escape(head)}\\fR {' '.join(words)}"]
    return [*lines, ".HP", "\\fBh5fs \\-\\-version\\fR", ".hy"]


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a command except ``--help``, positional ones first."""
    actions = [action for action in shown_actions(parser) if action.dest != "help"]
    return sorted(actions, key=lambda action: bool(action.option_strings))


def _show_usage(action: argparse.Action) -> str:
    if not action.option_strings:
        shown = f"\\fI{_escape(str(action.metavar))}\\fR"
        if action.nargs in ("+", "*"):
            shown += " ..."
        return f"[{shown}]" if action.nargs in ("?", "*") else shown
    return f"[{_show_option(action, action.option_strings[0])}]"


def _show_option(action: argparse.Action, option: str) -> str:
    shown = f"\\fB{_escape(option)}\\fR"
    if not takes_value(action):
        return shown
    value = action.metavar or "|".join(map(str, action.choices or [action.dest.upper()]))
    return f"{shown} \\fI{_escape(str(value))}\\fR"


def _write_commands(parser: argparse.ArgumentParser) -> list[str]:
    lines = []
    for name, command in command_parsers(parser).items():
        lines += [f'.SS "h5fs {name}"', _escape(str(command.description))]
        for action in _arguments(command):
            shown = (
                ", ".join(_show_option(action, option) for option in action.option_strings)
                or f"\\fI{_escape(str(action.metavar))}\\fR"
            )
            # The options of -o have a section of their own.
            text = "see MOUNT OPTIONS" if action.dest == "options" else str(action.help)
            lines += [".TP", shown, _escape(text)]
    return lines


def _write_mount_options() -> list[str]:
    lines = _write_list(tuple((each.spelling, each.description) for each in SHOWN_OPTIONS))
    return [*lines, ".PP", _escape(OTHER_OPTIONS)]


def _write_examples() -> list[str]:
    lines = []
    for command in COMMANDS:
        lines.append(f'.SS "h5fs {command.name}"')
        for example in command.examples:
            text = example.explanation
            lines += [
                ".PP", _escape(f"{text[0].upper()}{text[1:]}:"),
                ".PP", ".RS 4", ".nf", _escape(example.command), ".fi", ".RE",
            ]  # fmt: skip
    return lines


def _write_list(items: tuple[tuple[str, str], ...]) -> list[str]:
    return [
        line for term, text in items for line in (".TP", f"\\fB{_escape(term)}\\fR", _escape(text))
    ]


def _escape(text: str) -> str:
    """Return text as roff prints it letter by letter: no macros, hyphens that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti")
    return f"\\&{text}" if text.startswith(".") else text

"""The completion script of fish."""

from __future__ import annotations

from h5fs.cli.completion.words import CommandWords, Kind, Option
from h5fs.cli.mount_options import SHOWN_OPTIONS

_HEAD = """\
# fish completion for h5fs, made from its parser by: h5fs completion fish

# Print the command that is being typed: mount, when the first word is none.
function __h5fs_command
    set -l words (commandline -opc)
    if test (count $words) -gt 1; and contains -- $words[2] @COMMANDS@
        echo $words[2]
    else
        echo mount
    end
end

function __h5fs_mounted
    while read -l source place type rest
        if test "$type" = fuse.h5fs
            printf (string replace -a -- % %% $place)\\n
        end
    end </proc/self/mounts
end

# Print what may follow in a list of mount options, after what has been typed of it.
function __h5fs_mount_options
    set -l before (string match -r -- '^.*,' (commandline -ct))
@OPTIONS@
end

complete -c h5fs -n 'test (count (commandline -opc)) -eq 1' -l version -d 'show the version'
"""


def write_fish(commands: tuple[CommandWords, ...]) -> str:
    """Return the script."""
    names = " ".join(command.name for command in commands)
    rows = "\n".join(
        f"    printf '%s%s\\t%s\\n' \"$before\" {_quote(word)} {_quote(row.description)}"
        for row in SHOWN_OPTIONS
        for word in ([f"{row.name}={choice}" for choice in row.choices] or
                     [row.name + ("=" if row.value is not None else "")])
    )  # fmt: skip
    text = _HEAD.replace("@COMMANDS@", names).replace("@OPTIONS@", rows)
    lines = []
    for command in commands:
        lines.append(
            "complete -c h5fs -n 'test (count (commandline -opc)) -eq 1' "
            f"-a {command.name} -d {_quote(command.summary)}"
        )
        condition = _quote(f"test (__h5fs_command) = {command.name}")
        lines += [f"complete -c h5fs -n {condition} {_write_option(o)}" for o in command.options]
        lines += _write_arguments(command, condition)
    return text + "\n".join(lines) + "\n"


def _write_option(option: Option) -> str:
    words = [
        f"-l {spelling[2:]}" if spelling.startswith("--") else f"-s {spelling[1:]}"
        for spelling in option.spellings
    ]
    if option.kind is Kind.MOUNT_OPTIONS:
        words.append("-x -a '(__h5fs_mount_options)'")
    elif option.kind is Kind.CHOICE:
        words.append(f"-x -a {_quote(' '.join(option.choices))}")
    elif option.kind is not None:
        words.append("-x")
    return " ".join([*words, f"-d {_quote(option.help)}"])


def _write_arguments(command: CommandWords, condition: str) -> list[str]:
    """Return the lines that complete arguments; files need none, since fish offers them anyway."""
    # Arguments are offered only once the command itself has been typed.
    later = condition[:-1] + "; and test (count (commandline -opc)) -gt 1'"
    lines = []
    for argument in command.arguments:
        if argument.kind is Kind.MOUNTED:
            lines.append(f"complete -c h5fs -n {later} -f -a '(__h5fs_mounted)'")
        elif argument.kind is Kind.CHOICE:
            lines.append(f"complete -c h5fs -n {later} -f -a {_quote(' '.join(argument.choices))}")
    return lines


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

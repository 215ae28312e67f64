"""The completion script of zsh: an autoload function that may be sourced too."""

from __future__ import annotations

from h5fs.cli.completion.words import Argument, CommandWords, Kind, Option, fill
from h5fs.cli.mount_options import SHOWN_OPTIONS

_HEAD = """\
#compdef h5fs
# zsh completion for h5fs, made from its parser by: h5fs completion zsh

_h5fs_mounted() {
    local -a places
    local source place type rest
    while read -r source place type rest; do
        [[ $type == fuse.h5fs ]] && places+=(${(g:o:)place})
    done </proc/self/mounts
    _wanted mountpoints expl 'mountpoint of h5fs' compadd -a places
}

_h5fs_mount_options() {
    _values -s , 'mount option' \\
@OPTIONS@
}

_h5fs() {
    local -a commands=(
@COMMANDS@
    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe -t commands 'h5fs command' commands
        _files
        return
    fi
    local command=mount
    case $words[2] in
        (@CASES@)
            if (( CURRENT > 2 )); then
                command=$words[2]
                shift words
                (( CURRENT-- ))
            fi ;;
    esac
    case $command in
@COMMAND_CASES@
    esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _h5fs "$@"
else
    compdef _h5fs h5fs
fi
"""


def write_zsh(commands: tuple[CommandWords, ...]) -> str:
    """Return the script."""
    rows = [
        _quote(
            f"{row.name}[{_escape(row.description)}]"
            + ("" if row.value is None else f":{row.value.lower()}:{_list(row.choices)}")
        )
        for row in SHOWN_OPTIONS
    ]
    filled = {
        "@OPTIONS@": " \\\n".join(f"        {row}" for row in rows),
        "@COMMANDS@": "\n".join(
            f"        {_quote(f'{command.name}:{_escape(command.summary)}')}"
            for command in commands
        ),
        "@CASES@": "|".join(command.name for command in commands),
        "@COMMAND_CASES@": "\n".join(_write_command(command) for command in commands),
    }
    return fill(_HEAD, filled)


def _write_command(command: CommandWords) -> str:
    specs = [
        spec
        for specs in (
            [spec for option in command.options for spec in _write_option(option)],
            [_write_argument(argument) for argument in command.arguments],
        )
        for spec in specs
    ]
    lines = " \\\n".join(f"            {_quote(spec)}" for spec in specs)
    return f"        ({command.name})\n        _arguments -s \\\n{lines} ;;"


def _write_option(option: Option) -> list[str]:
    """Return one spec for each spelling; a spelling excludes the others."""
    value = ""
    if option.kind is Kind.MOUNT_OPTIONS:
        value = ":options:_h5fs_mount_options"
    elif option.kind is not None:
        value = f":value:{_list(option.choices)}"
    excluded = " ".join(option.spellings)
    head = "*" if option.kind is Kind.MOUNT_OPTIONS else f"({excluded})"
    return [f"{head}{spelling}[{_escape(option.help)}]{value}" for spelling in option.spellings]


def _write_argument(argument: Argument) -> str:
    action = {
        Kind.FILE: "_files",
        Kind.FOLDER: "_files -/",
        Kind.MOUNTED: "_h5fs_mounted",
        Kind.CHOICE: _list(argument.choices),
    }[argument.kind]
    head = "*" if argument.repeats else ""
    return f"{head}:{_escape(argument.label)}:{action}"


def _list(choices: tuple[str, ...]) -> str:
    return f"({' '.join(_escape(choice) for choice in choices)})" if choices else " "


def _escape(text: str) -> str:
    for character in "\\:[]":
        text = text.replace(character, f"\\{character}")
    return text


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

"""The completion script of bash. Needs bash 4 and nothing else."""

from __future__ import annotations

import shlex

from h5fs.cli.completion.words import CommandWords, Kind, fill
from h5fs.cli.mount_options import SHOWN_OPTIONS

_HEAD = """\
# bash completion for h5fs, made from its parser by: h5fs completion bash

# Print the mountpoints of h5fs, one a line.
_h5fs_mounted() {
    local _ place type
    while IFS=' ' read -r _ place type _; do
        if [[ $type == fuse.h5fs ]]; then
            printf '%b\\n' "$place"
        fi
    done </proc/self/mounts
}

# Complete FILE:/PATH, which is $1, by what is in the HDF5 file. Fails where there is no such file.
_h5fs_inside() {
    local file=${1%%:/*} inside=/${1#*:/} before= folder name
    [[ -f $file ]] || return 1
    folder=${inside%/*}/
    if [[ $COMP_WORDBREAKS != *:* ]]; then
        before=$file:
    fi
    compopt -o nospace
    while IFS= read -r name; do
        if [[ $folder$name == "$inside"* ]]; then
            printf -v name %q "$folder$name"
            COMPREPLY+=("$before$name")
        fi
    done < <(h5fs tree --names -- "$file:$folder" 2>/dev/null)
}

# Complete a list of mount options; $1 is what has been typed of it.
_h5fs_mount_options() {
    local text=$1 item=${1##*,} name broken choices before
    before=${text%"$item"}
    compopt -o nospace
    if [[ $item == *=* ]]; then
        name=${item%%=*} choices=
        case $name in
@VALUES@
        esac
        before+=$name= item=${item#*=}
    else
        choices='@NAMES@'
    fi
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$choices" -- "$item")
    # readline replaces only what follows the last of its word breaks.
    broken=${text%"${text##*[=:]}"}
    if [[ $broken ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$broken"}")
    fi
}

_h5fs() {
    local current=${COMP_WORDS[COMP_CWORD]} line=${COMP_LINE:0:COMP_POINT}
    local previous=${COMP_WORDS[COMP_CWORD - 1]} command=mount text before
    local IFS=$' \t\n' # not what the shell has
    COMPREPLY=()
    text=${line##*[[:space:]]}
    before=${line%"$text"}
    before=${before%"${before##*[![:space:]]}"} # without the space at its end
    if [[ $text == *:/* ]] && _h5fs_inside "$text"; then
        return
    fi
    if ((COMP_CWORD == 1)) && [[ $current != -* ]]; then
        # A command, or the file to mount.
        mapfile -t COMPREPLY < <(compgen -W '@COMMANDS@' -- "$current"; compgen -f -- "$current")
        compopt -o filenames
        return
    fi
    if ((COMP_CWORD == 2)) && [[ ${COMP_WORDS[1]} == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W '@COMMANDS@' -- "$current")
        return
    fi
    if ((COMP_CWORD > 1)); then
        case ${COMP_WORDS[1]} in
        @CASES@) command=${COMP_WORDS[1]} ;;
        esac
    fi
    case $command in
@COMMAND_CASES@
    esac
}

# Where nothing is offered, a file is.
complete -o default -F _h5fs h5fs
"""


def write_bash(commands: tuple[CommandWords, ...]) -> str:
    """Return the script."""
    rows = SHOWN_OPTIONS
    names = " ".join(row.name + ("=" if row.value is not None else "") for row in rows)
    values = "\n".join(
        f"        {row.name}) choices={shlex.quote(' '.join(row.choices))} ;;"
        for row in rows
        if row.choices
    )
    filled = {
        "@VALUES@": values,
        "@NAMES@": names,
        "@COMMANDS@": " ".join(command.name for command in commands),
        "@CASES@": " | ".join(command.name for command in commands),
        "@COMMAND_CASES@": "\n".join(_write_command(command) for command in commands),
    }
    return fill(_HEAD, filled)


def _write_command(command: CommandWords) -> str:
    lines = [f"    {command.name})"]
    for option in command.options:
        spelled = " | ".join(option.spellings)
        if option.kind is Kind.MOUNT_OPTIONS:
            lines += [
                "        if [[ $before == *[[:space:]]-o ]]; then",
                '            _h5fs_mount_options "$text"',
                "            return",
                "        fi",
            ]
        elif option.kind is Kind.CHOICE:
            lines += [
                f"        case $previous in {spelled})",
                f"            {_offer(option.choices)}",
                "            return ;;",
                "        esac",
            ]
    spellings = [spelling for option in command.options for spelling in option.spellings]
    lines += [
        "        if [[ $current == -* ]]; then",
        f"            {_offer(tuple(spellings))}",
        *_write_arguments(command),
        "        fi",
        "        ;;",
    ]
    return "\n".join(lines)


def _write_arguments(command: CommandWords) -> list[str]:
    """Return the lines that complete arguments, for the ``else`` of the options' ``if``.

    Files need no line: bash completes them by itself.
    """
    kinds = {argument.kind: argument for argument in command.arguments}
    if Kind.MOUNTED in kinds:
        return [
            "        else",
            "            compopt -o filenames",
            "            local IFS=$'\\n'",
            '            mapfile -t COMPREPLY < <(compgen -W "$(_h5fs_mounted)" -- "$current")',
        ]
    if Kind.CHOICE in kinds:
        return ["        else", f"            {_offer(kinds[Kind.CHOICE].choices)}"]
    return []


def _offer(choices: tuple[str, ...]) -> str:
    words = shlex.quote(" ".join(choices))
    return f'mapfile -t COMPREPLY < <(compgen -W {words} -- "$current")'

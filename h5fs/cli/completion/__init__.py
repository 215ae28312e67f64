"""Completion of the words of h5fs in bash, zsh and fish, made from its parser.

Each module writes the script of one shell; `words` collects what all of them offer. The scripts
know that a first word which is no command is the file to mount, and that ``-o`` takes a list.
"""

from __future__ import annotations

import argparse

from h5fs.cli.completion.bash import write_bash
from h5fs.cli.completion.fish import write_fish
from h5fs.cli.completion.words import collect_words
from h5fs.cli.completion.zsh import write_zsh

# Where each shell looks for scripts, below share/ of an installation.
INSTALLED_AS = {
    "bash": "bash-completion/completions/h5fs",
    "zsh": "zsh/site-functions/_h5fs",
    "fish": "fish/vendor_completions.d/h5fs.fish",
}


def write_completion(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``."""
    write = {"bash": write_bash, "zsh": write_zsh, "fish": write_fish}[shell]
    return write(collect_words(parser))

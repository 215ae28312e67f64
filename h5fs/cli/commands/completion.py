"""``h5fs completion SHELL``: the script with which a shell completes the words of h5fs."""

from __future__ import annotations

import argparse

from h5fs.cli.completion import write_completion
from h5fs.cli.parsers import build_parser


def run(arguments: argparse.Namespace) -> int:
    """Print the script; return the exit status."""
    print(write_completion(arguments.shell, build_parser()), end="")
    return 0

"""``h5fs completion SHELL``: the script with which a shell completes the words of h5fs."""

from __future__ import annotations

import argparse

from h5fs.parsers import build_parser
from h5fs.shells import write_completion


def run(arguments: argparse.Namespace) -> int:
    """Print the script; return the exit status."""
    print(write_completion(arguments.shell, build_parser()), end="")
    return 0

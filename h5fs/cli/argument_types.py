"""What the command line's arguments are parsed to. Each raises what argparse makes a message of."""

from __future__ import annotations

import argparse
from pathlib import Path

from h5fs.cli.file_arguments import split_mounted
from h5fs.model.location import Location, Url, parse_location


def parse_path(text: str) -> Path:
    """Return a path that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("is an empty name")
    return Path(text)


def parse_mounted(text: str) -> tuple[Location, bytes]:
    """Return what is to be mounted: a file, and the path of a group in it."""
    parse_path(text)
    return split_mounted(text)


def parse_url_or_path(text: str) -> Location:
    """Return a path or URL."""
    parse_path(text)
    try:
        return parse_location(text)
    except ValueError as error:
        shown = text.partition("?")[0]  # what follows may be a key
        raise argparse.ArgumentTypeError(f"{shown!r} is no URL: it {error}") from None


def parse_whole_location(text: str) -> Location:
    """Return a path or URL of a whole file."""
    location = parse_url_or_path(text)
    return location if isinstance(location, Url) else parse_whole_file(text)


def parse_whole_file(text: str) -> Path:
    """Return the path of a whole file."""
    file, part = split_mounted(text)
    if part and isinstance(file, Path):
        raise argparse.ArgumentTypeError(f"{text} is a part; name the whole file: {file}")
    return Path(text)


def parse_count(text: str) -> int:
    """Return a number from 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 1")
    return int(text)

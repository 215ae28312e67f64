"""From the text of an option of ``-o`` to its value, and back.

Each parser raises ``ValueError`` with what the text must be.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from h5fs.model.settings import Mode, View


def parse_mode(text: str) -> Mode:
    """Return the mode, spelled as in h5py."""
    try:
        return Mode("x" if text == "w-" else text)
    except ValueError:
        raise ValueError("must be one of r, r+, a, w, x (or w-)") from None


def choice_parser(kind: type[Enum]) -> Callable[[str], Enum]:
    """Return a parser that takes the value of a member of an enumeration."""

    def parse(text: str) -> Enum:
        try:
            return kind(text)
        except ValueError:
            choices = ", ".join(str(member.value) for member in kind)
            raise ValueError(f"must be one of {choices}") from None

    return parse


def number_parser(*, least: int = 0, most: int = 10**9) -> Callable[[str], int]:
    """Return a parser that takes a number in decimal digits."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ValueError(f"must be a number from {least} to {most}")
        return int(text)

    return parse


def parse_seconds(text: str) -> float:
    """Return a number of seconds."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not 0.1 <= float(text) <= 86400:
        raise ValueError("must be a number of seconds from 0.1 to 86400")
    return float(text)


def parse_seconds_or_0(text: str) -> float:
    """Return a number of seconds, which may be 0."""
    return 0.0 if text == "0" else parse_seconds(text)


_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Return a size in bytes."""
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", text.upper())
    if match is None or int(match[1]) == 0 or len(match[1]) > 15:
        raise ValueError("must be a size in bytes, or like 64K, 256M, 4G")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def parse_disk_cache(text: str) -> tuple[int, Path | None]:
    """Return the size of a cache in bytes, and its folder, None for the usual one."""
    size, colon, folder = text.partition(":")
    if colon and not folder:
        raise ValueError("must have a folder after the colon")
    return parse_size(size), Path(os.path.abspath(folder)) if folder else None


ALL_VIEWS = "all"
VIEW_WORDS = tuple(view.word for view in View)


def parse_views(text: str) -> frozenset[View]:
    """Return the views that a list names, or all of them."""
    words, known = text.split(","), (*VIEW_WORDS, ALL_VIEWS)
    for word in words:
        if word not in known:
            close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.3)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(
                f"no view is called {word}{meant} ({', '.join(VIEW_WORDS)}, or {ALL_VIEWS})"
            )
    return frozenset(view for view in View if {ALL_VIEWS, view.word} & set(words))


_USUAL_GZIP_LEVEL = 4  # h5py's


def parse_compression(text: str) -> int | None:
    """Return the level of gzip, or None for no compression."""
    match = re.fullmatch(r"gzip(?::([0-9]))?", text)
    if match is None and text != "none":
        raise ValueError("must be none, gzip or gzip:0-9")
    return int(match[1] or _USUAL_GZIP_LEVEL) if match is not None else None


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape of a chunk."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}(x[1-9][0-9]{0,17})*", text):
        raise ValueError("must be a shape like 100x200")
    return tuple(map(int, text.split("x")))


def parse_switch(text: str) -> bool:
    """Return whether the text is on."""
    if text not in ("on", "off"):
        raise ValueError("must be on or off")
    return text == "on"


def parse_log_target(text: str) -> str:
    """Return where the log goes: a path, or syslog."""
    # The daemon has another working directory, where a relative path would name another file.
    return text if text == "syslog" else os.path.abspath(text)


def _matching(pattern: str, words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {words}")
        return text

    return parse


parse_digits = _matching("[0-9]+", "a number")
parse_decimal = _matching(r"[0-9]+(\.[0-9]*)?", "a number")
parse_octal = _matching("[0-7]+", "octal digits, like 022")
parse_text = _matching(".+", "followed by a value")


def values_of(kind: type[Enum]) -> tuple[str, ...]:
    """Return the texts that stand for the members of an enumeration."""
    return tuple(str(member.value) for member in kind)


def say_value(value: object) -> str:
    """Return a value as the text that an option takes; empty for a value that has no text."""
    if value is None or isinstance(value, bool | frozenset):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int) and value >= 2**20:
        size, unit = max((size, unit) for unit, size in _SIZE_UNITS.items() if value % size == 0)
        return f"{value // size}{unit}"
    return f"{value:g}"

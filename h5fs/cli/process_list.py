"""Takes secrets out of what process lists show: the words that this process was started with.

Linux shows a process's own memory there (proc(5), ``cmdline``), so what is overwritten is gone from
``ps``. Until this is called, a secret can be seen: a fraction of a second.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable
from pathlib import Path

from h5fs.model.location import Url, parse_location

_ARG_START, _ARG_END = 48 - 3, 49 - 3  # fields of /proc/PID/stat, counted from the state (3)


def hide_secrets(words: Iterable[str]) -> None:
    """Overwrite, in the process's own command line, those parts of URLs that may be secrets."""
    for word in words:
        try:
            location = parse_location(word)
        except ValueError:
            continue
        if isinstance(location, Url) and location.text != location.shown:
            _overwrite(os.fsencode(word), os.fsencode(location.shown))


def _overwrite(word: bytes, shown: bytes) -> None:
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        line = Path("/proc/self/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return  # no /proc: nobody else sees the words there either
    if not 0 < start < end or len(line) != end - start:
        return  # somebody has overwritten it already
    for found in re.finditer(rb"(?<=\0)" + re.escape(word) + rb"(?=\0)", line):
        ctypes.memmove(start + found.start(), shown.ljust(len(word), b"\0")[: len(word)], len(word))

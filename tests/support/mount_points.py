"""The kernel's mount table, read by the tests' own means."""

from __future__ import annotations

import os
import re
from pathlib import Path


def mounts_below(folder: Path) -> set[bytes]:
    """Return the mountpoints at or below ``folder``, a real path, as bytes."""
    lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    places = {_unescape(line.split(b" ")[4]) for line in lines if line}
    below = os.fsencode(folder)
    return {place for place in places if place == below or place.startswith(below + b"/")}


def table_of_mounts() -> str:
    """Return /proc/mounts as text. Other tests have mountpoints whose names are not UTF-8."""
    return os.fsdecode(Path("/proc/mounts").read_bytes())


def is_mounted(place: Path) -> bool:
    """Whether something is mounted at just that real path."""
    return os.fsencode(place) in mounts_below(place)


def _unescape(text: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text)

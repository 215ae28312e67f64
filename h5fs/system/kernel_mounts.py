"""What the kernel's table of mounts says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_CONNECTION = re.compile(r"^fuse_connection:\s*(\d+)$", re.MULTILINE)
_MINOR_BITS = 20
_USER = re.compile(r"(?:^|,)user_id=(\d+)(?:,|$)")


class MountEntry(Struct, frozen=True):
    """One line of the kernel's mount table (proc(5), mountinfo).

    ``device``: "MAJOR:MINOR"; ``uid``: who mounted, as FUSE tells it; ``is_read_only``: as the
    kernel sees it.
    """

    mountpoint: Path
    device: str
    type: str
    source: str
    uid: int | None = None
    is_read_only: bool = False

    @property
    def is_h5fs(self) -> bool:
        """Whether h5fs serves this mount."""
        return self.type == "fuse.h5fs"


def find_mount(mountpoint: Path) -> MountEntry | None:
    """Return the topmost mount at a real path, or None when nothing is mounted there."""
    found = None
    for mount in read_mounts():
        if mount.mountpoint == mountpoint:
            found = mount
    return found


def read_mounts() -> Iterator[MountEntry]:
    """Yield what is mounted, in the kernel's order; a line of another form is passed over."""
    # The kernel escapes only ASCII spaces and line ends: str.split() knows more of them.
    for line in os.fsdecode(_MOUNTINFO.read_bytes()).split("\n"):
        before, _, after = line.partition(" - ")
        where, what = before.split(" "), after.split(" ")
        if len(where) < 6 or len(what) < 2:
            continue
        user = _USER.search(what[2]) if len(what) > 2 else None
        yield MountEntry(
            mountpoint=Path(_unescape(where[4])),
            device=where[2],
            type=what[0],
            source=_unescape(what[1]),
            uid=int(user[1]) if user is not None else None,
            is_read_only="ro" in where[5].split(","),
        )


def find_device(descriptor: int) -> str | None:
    """Return "MAJOR:MINOR" of the FUSE mount that an open /dev/fuse answers for.

    None where the kernel is older than that it tells, and for what is no such descriptor.
    """
    try:
        found = _CONNECTION.search(Path(f"/proc/self/fdinfo/{descriptor}").read_text())
    except OSError:
        return None
    if found is None:
        return None
    number = int(found[1])  # the kernel's own form of a device number
    return f"{number >> _MINOR_BITS}:{number & (1 << _MINOR_BITS) - 1}"


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)

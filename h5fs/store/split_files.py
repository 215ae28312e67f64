"""Files that are only a part of an HDF5 file, since an HDF5 driver has split it into several.

The library opens such files by that driver only; a part by itself looks cut short, or like no HDF5
file.
Format: HDF5 File Format Specification 3.0, II.B (driver information) and IV.A.2.u.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from h5fs.store.format.superblock import read_addresses, read_missing_end, read_superblock
from h5fs.store.sources.interface import Source, read_bytes
from h5fs.store.sources.local_file import LocalFile

_FAMILY, _MULTI, _SUBFILING = b"NCSAfami", b"NCSAmult", b"Subfilin"
_MOST_EXTENSION_BYTES = 1024
_UNDEFINED = (2**64 - 1, 2**32 - 1, 2**16 - 1)


def explain_part(path: Path) -> str:
    """Return a line about a file that is a part of an HDF5 file; empty for any other file.

    Raises ``OSError``.
    """
    with path.open("rb") as file:
        driver = _read_driver(LocalFile(file.fileno()))
    pattern = None
    if re.search(r"\.subfile_(\d+_)?\d+_of_\d+$", path.name):
        driver = _SUBFILING
    # A confined worker may not look at the files beside this one.
    with suppress(PermissionError):
        driver = _SUBFILING if _has_subfiles(path) else driver
        pattern = _family_pattern(path)
    if driver == _SUBFILING:
        return (
            f"{path} is a part of a file that HDF5's subfiling driver keeps in several files: make "
            "one file of them: h5fuse (a tool of HDF5's)"
        )
    if driver == _MULTI:
        return (
            f"{path} is a part of a file that HDF5's multi or split driver keeps in several files: "
            "make one file of them: h5repack --src-vfd-name=multi (or split) NAME whole.h5"
        )
    if driver == _FAMILY or pattern is not None:
        return (
            f"{path} is a part of a file that HDF5's family driver keeps in several files: make "
            f"one file of them: h5repart -family_to_sec2 {pattern or 'NAME%d.h5'} whole.h5"
        )
    return ""


def _read_driver(source: Source) -> bytes | None:
    """Return the name of the driver that the file says it needs."""
    found = read_superblock(source)
    addresses = read_addresses(source, found) if found is not None else None
    if found is None or addresses is None:
        return None
    # The fourth address of old versions, the second one of new ones.
    base, address = addresses[0], addresses[3 if found.version < 2 else 1]
    if address in _UNDEFINED or base + address >= source.size_bytes:
        return None
    size = 16 if found.version < 2 else _MOST_EXTENSION_BYTES
    data = read_bytes(source, base + address, size)
    return next((name for name in (_FAMILY, _MULTI, _SUBFILING) if name in data), None)


def _has_subfiles(path: Path) -> bool:
    wanted = re.compile(re.escape(path.name) + r"\.subfile_(\d+_)?\d+_of_\d+$")
    try:
        return any(wanted.match(other.name) for other in path.parent.iterdir())
    except OSError:  # a worker may read the file, and not its folder
        return False


def _family_pattern(path: Path) -> str | None:
    """Return the ``printf`` pattern of a family's file names; None for a file of no family.

    A family has a first file, which begins as an HDF5 file does, and others, which do not.
    """
    for digits in reversed(list(re.finditer(r"\d+", path.name))):
        head, tail = path.name[: digits.start()], path.name[digits.end() :]
        width = len(digits[0])
        members = [path.with_name(f"{head}{number:0{width}}{tail}") for number in (0, 1)]
        if all(member.is_file() for member in members) and _are_family(*members):
            return f"{head}%0{width}d{tail}" if width > 1 else f"{head}%d{tail}"
    return None


def _are_family(first: Path, second: Path) -> bool:
    """Whether a file goes on in the next one, by its own size and that one's beginning."""
    with first.open("rb") as first_file, second.open("rb") as second_file:
        one, two = LocalFile(first_file.fileno()), LocalFile(second_file.fileno())
        goes_on = read_superblock(one) is not None and read_missing_end(one) is not None
        return goes_on and read_superblock(two) is None

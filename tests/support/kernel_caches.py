"""What the kernel keeps of a mount, compared with what the mount says when it is asked.

Two questions pass the kernel's caches: a status with ``AT_STATX_FORCE_SYNC``, and a read with
``O_DIRECT``. Listings of a mount that writes are never kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_STATX_FORCE_SYNC = -100, 0x100, 0x2000
_BASIC = 0x7FF
_LARGEST_READ = 2**18
_VIEWS = (".csv", ".png")  # no listing shows them


class _Time(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32), ("pad", ctypes.c_int32))


class _Statx(ctypes.Structure):
    _fields_ = (
        ("mask", ctypes.c_uint32), ("blksize", ctypes.c_uint32), ("attributes", ctypes.c_uint64),
        ("nlink", ctypes.c_uint32), ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16), ("pad", ctypes.c_uint16), ("ino", ctypes.c_uint64),
        ("size", ctypes.c_uint64), ("blocks", ctypes.c_uint64), ("mask2", ctypes.c_uint64),
        ("atime", _Time), ("btime", _Time), ("ctime", _Time), ("mtime", _Time),
        ("more", ctypes.c_uint64 * 20),
    )  # fmt: skip


_libc = ctypes.CDLL(None, use_errno=True)


def status_now(path: Path, *, asks: bool) -> tuple[Any, ...]:
    """Return what ``lstat`` says, without the access time; ``asks``: the mount, not the kernel."""
    found = _Statx()
    flags = _AT_SYMLINK_NOFOLLOW | (_AT_STATX_FORCE_SYNC if asks else 0)
    done = _libc.statx(_AT_FDCWD, os.fsencode(path), flags, _BASIC, ctypes.byref(found))
    if done:
        number = ctypes.get_errno()
        return (errno.errorcode[number],)
    mtime, ctime = found.mtime, found.ctime
    return (
        oct(found.mode), found.nlink, found.ino, found.size, found.blocks,
        (mtime.sec, mtime.nsec), (ctime.sec, ctime.nsec),
    )  # fmt: skip


def walk(folder: Path) -> Iterator[Path]:
    """Yield what a mount lists in a folder, and below it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder)):
            path = folder / name
            yield path
            if stat.S_ISDIR(os.lstat(path).st_mode):
                yield from walk(path)


def read_kept(path: Path) -> bytes:
    """Return a file's bytes as programs read them."""
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), _LARGEST_READ, 0)


def read_mapped(path: Path) -> bytes:
    """Return a file's bytes through a mapping."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return b""
        try:
            with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
                return mapped[:_LARGEST_READ]
        except OSError as error:
            if error.errno != errno.ENODEV:  # R10: while somebody has an older array open
                raise
            return read_kept(path)


def read_asking(path: Path) -> bytes:
    """Return a file's bytes as the mount answers."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, _LARGEST_READ) as buffer:
            count = os.preadv(descriptor, [buffer], 0)
            return buffer[:count]
    finally:
        os.close(descriptor)


def differences(folder: Path, names: set[Path]) -> list[str]:
    """Return what the kernel keeps wrongly of a folder at rest.

    ``names`` are paths that there may be, or may have been.
    """
    found = []
    # Files are read last: a close may commit what could not be committed before.
    listed = set(walk(folder))
    paths = sorted(names | listed | {folder})
    kept = {path: status_now(path, asks=False) for path in paths}
    for path, status in kept.items():
        asked = status_now(path, asks=True)
        if status != asked:
            found.append(f"{path}: the kernel keeps {status}, the mount says {asked}")
        if path == folder or path.suffix in _VIEWS or _is_behind_link(folder, path):
            continue
        if (len(status) > 1) != (path in listed):
            found.append(f"{path}: lstat says {status}; it is {path in listed} that it is listed")
    for path, status in kept.items():
        if len(status) > 1 and stat.S_ISREG(int(status[0], 8)) and path in listed:
            found += _differing_bytes(path, status[3])
    return found


def _is_behind_link(folder: Path, path: Path) -> bool:
    """Whether a path leads through a symbolic link, which no walk follows."""
    return any(each.is_symlink() for each in path.parents if folder in each.parents)


def _differing_bytes(path: Path, size: int) -> list[str]:
    try:
        read_kept(path)  # after which attributes that could be committed are, as they are spelled
        asked = read_asking(path)
    except OSError as error:
        # EINVAL: no file yet, as its close says. ENOENT: a close has committed no attributes.
        return [] if error.errno in (errno.EINVAL, errno.ENOENT) else [f"{path}: {error}"]
    found = []
    # While it is replaced, its status is that of what comes, and readers have what was there.
    for read in (read_kept, read_mapped) if size == len(asked) else (read_kept,):
        try:
            kept = read(path)
        except OSError as error:
            found.append(f"{path}: {read.__name__}: {error}")
            continue
        if kept != asked[: len(kept)] or len(kept) != len(asked):
            pairs = zip(kept, asked, strict=False)
            place = next((place for place, (a, b) in enumerate(pairs) if a != b), -1)
            found.append(
                f"{path}: {read.__name__} has {len(kept)} bytes, the mount {len(asked)}; they "
                f"differ from byte {place}"
            )
    return found

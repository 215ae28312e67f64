"""The folders in which daemons keep their records; each belongs to one user alone.

One folder is in the user's runtime folder ($XDG_RUNTIME_DIR, /run/user/UID), which is removed when
the user logs out. Another is in /tmp, where each process of the user finds it, whatever its
environment. Anybody can make folders and links in /tmp: so a folder counts only when it is a real
folder, of that user and of mode 0700, and its files are reached through its descriptor.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

_SHARED = Path("/tmp")  # not $TMPDIR: the process that looks may have another one
_USERS = Path("/run/user")
_NAME = "h5fs"
_MODE = 0o700


class RuntimeFolder(Struct, frozen=True):
    """An open folder of one user; ``descriptor`` is valid within the block that opened it."""

    path: Path
    uid: int
    descriptor: int

    def names(self) -> list[str]:
        """Return the names in it."""
        return os.listdir(self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file in the folder, which may be gone already. Raises ``OSError``."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)


@contextmanager
def own_folders() -> Iterator[list[RuntimeFolder]]:
    """Open the folders for this user's daemons, and make those that are missing; best first.

    The list is empty where the system allows none.
    """
    with ExitStack() as opened:
        found: list[RuntimeFolder] = []
        runtime = (folder / _NAME for folder in _own_runtime_folders())
        for path in (next(filter(_make, runtime), None), _made_in_shared()):
            if path is None:
                continue
            with suppress(OSError):  # the folder has just gone
                found.append(opened.enter_context(_opened(path, os.getuid())))
                # systemd-tmpfiles, which clears /tmp of old files, passes over locked folders.
                fcntl.flock(found[-1].descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield found


@contextmanager
def folders_to_search() -> Iterator[list[RuntimeFolder]]:
    """Open the folders with daemons that this user may end: the user's own; for root, all."""
    uid = os.getuid()
    places = [(folder / _NAME, uid) for folder in [*_own_runtime_folders(), _USERS / str(uid)]]
    places += [(path, uid) for path in _shared_names(uid)]
    if uid == 0:
        places += [(each / _NAME, int(each.name)) for each in _USERS.glob("*") if _is_id(each.name)]
        for path in _SHARED.glob(f"{_NAME}-[0-9]*"):
            owner = path.name.split("-")[1]
            places += [(path, int(owner))] if _is_id(owner) else []
    with ExitStack() as opened:
        found: dict[tuple[int, int], RuntimeFolder] = {}
        for path, owner_uid in places:
            with suppress(OSError):  # the folder has just gone, is a link, or is somebody else's
                folder = opened.enter_context(_opened(path, owner_uid))
                status = os.fstat(folder.descriptor)
                found.setdefault((status.st_dev, status.st_ino), folder)
        yield list(found.values())


@contextmanager
def _opened(path: Path, uid: int) -> Iterator[RuntimeFolder]:
    """Open a real folder that belongs to a user alone. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != uid or stat.S_IMODE(status.st_mode) != _MODE:
            raise PermissionError(f"{path} is not a folder of user {uid} alone")
        yield RuntimeFolder(path, uid, descriptor)
    finally:
        os.close(descriptor)


def _own_runtime_folders() -> list[Path]:
    """Return the folders that a login has made for this user, as far as they are this user's."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [Path(given)] if os.path.isabs(given) else []
    return [place for place in [*places, _USERS / str(os.getuid())] if _is_own(place)]


def _is_own(folder: Path) -> bool:
    """Whether nobody but this user can put anything into a folder (``su`` keeps the variable)."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _made_in_shared() -> Path | None:
    """Return this user's folder in /tmp, under another name where somebody took the usual one."""
    uid = os.getuid()
    names = _shared_names(uid)
    for path in names:
        if (path == names[0] or path.is_dir()) and _make(path):
            return path
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_NAME}-{uid}-", dir=_SHARED))
    except OSError:
        return None


def _shared_names(uid: int) -> list[Path]:
    usual = _SHARED / f"{_NAME}-{uid}"
    return [usual, *sorted(_SHARED.glob(f"{_NAME}-{uid}-*"))]


def _make(path: Path) -> bool:
    """Make a folder of this user's; return whether there is one now."""
    try:
        with suppress(FileExistsError):
            path.mkdir(_MODE)
        # The umask can have taken away the permission that opening the folder to read needs.
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid():
            return False
        if stat.S_IMODE(status.st_mode) != _MODE:
            os.chmod(f"/proc/self/fd/{descriptor}", _MODE)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()

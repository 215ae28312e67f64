"""The cache on disk of remote files: which entries there are, and how large all may be.

Below the folder is one folder for each machine (a home may be on a network, whose machines do not
see at once what the others write), in it one for each address, in it an entry for each version.
Names are hashes, so that they tell no address. Processes share a cache: entries that nobody uses go
first, the least recently used ones before others, and then blocks of entries in use.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from h5fs.store.sources.cache_entry import (
    CacheEntry,
    ClosedEntryError,
    EntryLabel,
    open_entry,
    open_unnamed_entry,
    read_label,
    remove_entry,
)
from h5fs.store.sources.local_file import temporary_folder

_log = logging.getLogger(__name__)

_CARE_SECONDS = 15.0
_TRIMMED_SHARE = 0.9  # of the bound, so that room is made seldom, and much of it
_ADDRESS_LETTERS = 32
_LEAST_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry on disk: what it holds, how much room it takes, when it was used last."""

    folder: Path
    name: str
    label: EntryLabel | None
    held_bytes: int
    used_seconds: float


def default_cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/h5fs``, or its usual place."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~"), ".cache")
    return base / "h5fs"


class DiskCache:
    """Opens entries, and keeps all of them together below ``most_bytes``.

    ``_lock`` protects ``_open``, ``_news_bytes`` and ``_thread``; nothing else is taken under it.
    A thread of its own looks after the entries: it waits for the disk, so that no reader has to.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder / _machine_name()
        self._top = folder
        self._most_bytes = max(most_bytes, _LEAST_BYTES)
        self._lock = threading.Lock()
        self._open: set[CacheEntry] = set()
        self._news_bytes = 0
        self._thread: threading.Thread | None = None
        self._wakes = threading.Event()
        self._is_closed = False

    def open_entry(self, identity: str, label: EntryLabel) -> CacheEntry:
        """Return the entry of a version of a file. Raises ``OSError``."""
        try:
            folder = self._folder / _hash(identity)
            for each in (self._top, self._folder, folder):
                each.mkdir(0o700, parents=True, exist_ok=True)
            _check_owner(self._top)
            entry = open_entry(folder, _hash(f"{label.version}\n{label.size_bytes}"), label)
        except OSError as error:
            if error.errno in (errno.EFBIG, errno.EINVAL):  # no file may be so large
                raise
            place = temporary_folder()
            _log.warning(
                "%s: %s: what is read of %s is kept in %s until the unmount (see -o disk_cache)",
                self._folder, error.strerror or error, label.address, place,
            )  # fmt: skip
            entry = open_unnamed_entry(place, label)
        with self._lock:
            self._open.add(entry)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._care, name="h5fs-disk-cache", daemon=True
                )
                self._thread.start()
        self._wakes.set()
        return entry

    def close_entry(self, entry: CacheEntry) -> None:
        """Make an entry last, and let others remove it."""
        with self._lock:
            self._open.discard(entry)
        entry.close()

    def note(self, count: int) -> None:
        """Note that so many bytes have come."""
        with self._lock:
            self._news_bytes += count
            is_much = self._news_bytes >= self._most_bytes // 32
        if is_much:
            self._wakes.set()

    def close(self) -> None:
        """End the thread. All entries must be closed before."""
        self._is_closed = True
        self._wakes.set()

    def make_room(self) -> None:
        """Give back half of what the cache holds: the disk is full. Raises ``OSError``."""
        self._trim(sum(each.held_bytes for each in list_entries(self._top)) // 2)

    def _care(self) -> None:
        while not self._is_closed:
            self._wakes.wait(_CARE_SECONDS)
            self._wakes.clear()
            try:
                self._trim(self._most_bytes)
                with self._lock:
                    entries = list(self._open)
                for entry in entries:
                    entry.make_lasting()
            except ClosedEntryError:
                pass  # closing has made it last
            except OSError as error:
                _log.warning("%s: %s", self._folder, error.strerror or error)
            except Exception:
                _log.exception("the care of the cache on disk")

    def _trim(self, most_bytes: int) -> None:
        """Bring the cache below a size, or as near to it as entries in use allow."""
        with self._lock:
            self._news_bytes = 0
            own = list(self._open)
        kept = list_entries(self._top)
        held = sum(each.held_bytes for each in kept)
        if held <= most_bytes:
            return
        target = int(most_bytes * _TRIMMED_SHARE)
        with _alone(self._folder) as is_alone:
            if not is_alone:  # another process makes room now
                return
            for each in sorted(kept, key=lambda each: each.used_seconds):
                if held <= target:
                    return
                if remove_entry(each.folder, each.name):
                    held -= each.held_bytes
            for entry in own:
                entry.drop_oldest(min(held - target, entry.held_bytes()) if held > target else 0)
                held = sum(each.held_bytes for each in list_entries(self._top))


def list_entries(top: Path) -> list[Kept]:
    """Return the entries of this machine in a cache folder. Raises ``OSError``."""
    found = []
    for folder in _folders_in(top / _machine_name()):
        with os.scandir(folder) as files:
            names = [file.name for file in files if file.name.endswith(".data")]
        for name in names:
            with suppress(FileNotFoundError):  # it was removed just now
                found.append(_look_at(folder, name.removesuffix(".data")))
    return found


def clear_entries(top: Path) -> tuple[int, int]:
    """Remove what nobody uses; return how many went and how many stay. Raises ``OSError``."""
    kept = list_entries(top)
    gone = sum(remove_entry(each.folder, each.name) for each in kept)
    for folder in _folders_in(top / _machine_name()):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    return gone, len(kept) - gone


def _check_owner(folder: Path) -> None:
    """Raise ``OSError`` for a folder where others could put files that this process believes."""
    status = os.stat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise OSError(errno.EPERM, "others own it or can write there (chmod 700)")


def _look_at(folder: Path, name: str) -> Kept:
    held = os.stat(folder / f"{name}.data").st_blocks * 512
    descriptor = os.open(folder / f"{name}.map", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        label = read_label(descriptor)
    finally:
        os.close(descriptor)
    return Kept(folder, name, label, held + status.st_blocks * 512, status.st_mtime)


def _folders_in(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        yield from (Path(each.path) for each in found if each.is_dir(follow_symlinks=False))


def _machine_name() -> str:
    number = b""
    with suppress(OSError):
        number = Path("/etc/machine-id").read_bytes().strip()
    return _hash(f"{os.fsdecode(number)} {platform.node()}")[:16]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_ADDRESS_LETTERS]


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Keep other processes from making room while the block runs; yield whether that works."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / "lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)

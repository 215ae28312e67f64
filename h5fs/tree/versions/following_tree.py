"""An HDF5 file as a file system, also when another program replaces or rewrites it.

A tree shows one version of the file (``Version``). When the file has changed, the next question is
answered by a new tree; what the old one answered in the meantime is thrown away, so that no answer
mixes two versions. Read-only. Safe to call from any thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from h5fs.errors import CannotOpenError, H5fsError, StaleError, show_path
from h5fs.model.file_status import SpaceStatus
from h5fs.tree.dentries import Dentries
from h5fs.tree.handles import Handles
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Status
from h5fs.tree.tree import Tree
from h5fs.tree.versions.version import Followed, OpenFile, Version, is_at

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

LOOK_SECONDS = 0.4  # how long the file is taken to be what it was
_MOST_ATTEMPTS = 5
_CLOSING_PATIENCE_SECONDS = 0.1
_MOST_NAMES_KEPT = 100_000  # the kernel is told to forget these; more would be all


class FollowingTree:
    """Answers what ``Tree`` answers, for what stands at a place at the moment.

    In an HDF5 file that may grow, an open file also shows what comes later. In any other it goes on
    showing its old version while that is there (the HDF5 file was replaced), until somebody opens
    the same path anew; then, or when the HDF5 file was rewritten in place, it is stale.

    ``part``: the folder that the kernel has as the root. ``on_change`` is called when a change has
    been found, before anything is answered from the new content; it must not wait for an answer.

    ``_lock`` protects the versions and what is open, for moments only: no disk and no worker is
    waited for under it. ``_opening`` is held while a new version is opened, by those who ask and
    cannot be answered before; it comes before ``_lock``.
    """

    def __init__(self, followed: Followed, *, part: bytes = b"") -> None:
        self._followed, self._part = followed, part
        self._name = followed.name
        self.on_change: Callable[[], None] = lambda: None
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._has_ended = False
        self._current: Version | None = None
        self._stamp: Hashable | None = None  # of the version that was opened last
        self._noticed: Hashable | None = None
        self._retired: list[Version] = []
        self._files: Handles[OpenFile] = Handles()
        # Paths that were opened since the file changed for the first time: the kernel may keep
        # what it has of them. Empty while it has never changed: it may keep everything.
        self._opened: set[bytes] | None = None
        self._seen: set[bytes] = set()  # paths whose status was asked for since then
        self._names: set[bytes] = set()
        self._ended = TreeStatistics()  # what versions that are closed have counted
        self._changes = 0
        self._looks_at = self._used_at = 0.0
        self._fails_until, self._failure = 0.0, ""

    def open_file(self) -> None:
        """Open the HDF5 file now. Raises ``CannotOpenError``, ``UnreadableError``."""
        with self._opening:
            self._begin(self._followed.open(), None)

    def check(self) -> int:
        """Look whether the file has changed; return how often it has been seen to change."""
        found = self._followed.look()
        if found is None:  # it is gone, and what is open stays
            return self._changes
        with self._lock:
            if found not in (self._stamp, self._noticed):
                self._noticed = found
                self._looks_at = 0.0
                self._changes += 1
            return self._changes

    def forget(self) -> None:
        """Find out anew what stands there, whether or not it seems to have changed."""
        if self._followed.suspect() and (current := self._current) is not None:
            self._retire(current)

    def interrupt(self) -> None:
        """Let calls that wait for another machine end with an error: nobody needs them any more."""
        self._followed.interrupt()

    def take_names(self) -> set[bytes]:
        """Return which names in the root the kernel has asked for, and begin a new list."""
        names, self._names = self._names, set()
        return names

    def close_if_idle(self, seconds: float) -> bool:
        """Close the HDF5 file if nothing of it is open or was asked for that long."""
        if not self._opening.acquire(blocking=False):  # somebody asks just now
            return False
        try:
            with self._lock:
                version = self._current
                is_used = time.monotonic() - self._used_at < seconds
                if version is None or version.file_count or is_used:
                    return False
                self._current = None
                version.is_retired = version.is_closed = True
        finally:
            self._opening.release()
        self._end(version)
        return True

    def statistics(self) -> TreeStatistics:
        """Return what all versions hold now, and what they and those before have counted.

        Takes no lock, since one is held while the file is opened anew.
        """
        total, current = self._ended, self._current
        for version in [*self._retired, *([current] if current is not None else [])]:
            total += version.tree.statistics()
        return total

    @property
    def used_at(self) -> float:
        """When this tree was asked last, by the monotonic clock."""
        return self._used_at

    @property
    def is_open(self) -> bool:
        """Whether the HDF5 file is open."""
        return self._current is not None or bool(self._retired)

    # What the FUSE room asks.

    def get_status(self, path: bytes) -> Status:
        """Answer ``stat``."""
        folder, _, name = path.rpartition(b"/")
        if folder == self._part and len(self._names) < _MOST_NAMES_KEPT:
            self._names.add(name)
        version, status = self._ask_version(lambda tree: tree.get_status(path))
        with self._lock:
            if self._opened is not None and version is self._current:
                self._seen.add(path)
        return status

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``: all of one version."""
        dentries = self._ask(lambda tree: tree.list_folder(path))
        if path != (self._part or b"/"):
            return dentries
        # The kernel will know those whose status it is given, without having asked.
        room = max(_MOST_NAMES_KEPT - len(self._names), 0)
        dentries, known = dentries.with_statuses(room)
        self._names.update(known)
        return dentries

    def version(self) -> object:
        """Return what answers come from now: the version."""
        return self._ask_version(lambda _: None)[0]

    def keeps_folder(self, path: bytes) -> bool:
        """Whether what the kernel has of a folder is its listing. Asked once, at ``opendir``."""
        self.version()  # so that a change is noticed
        with self._lock:
            return self._keeps(path)

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        return self._ask(lambda tree: tree.read_link(path))

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Answer ``listxattr``."""
        return self._ask(lambda tree: tree.list_xattrs(path))

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """Answer ``getxattr``."""
        return self._ask(lambda tree: tree.get_xattr(path, name))

    def get_file_system_status(self) -> SpaceStatus:
        """Answer ``statfs``."""
        return self._ask(lambda tree: tree.get_file_system_status())

    def open(self, path: bytes, flags: int) -> int:
        """Open a file and return its handle.

        The kernel reads no further than the size it knows. So an ``open`` before the first
        ``stat`` since the file changed is stale: Linux then asks for the status, and opens again.
        """
        while True:
            version, handle = self._ask_version(lambda tree: tree.open(path, flags))
            with self._lock:
                if version.is_closed:
                    continue
                if self._opened is None or path in self._seen:
                    version.file_count += 1
                    return self._files.add(OpenFile(path, version, handle))
            version.tree.release(handle)
            again = self._stale(path)
            again.is_news = False
            raise again

    def keeps_cache(self, handle: int) -> bool:
        """Whether what the kernel has of the file is what it would read. Asked once, at open."""
        with self._lock:
            return self._keeps(self._files.get(handle).path)

    def _keeps(self, path: bytes) -> bool:
        if self._opened is None or path in self._opened:
            return True
        self._opened.add(path)
        return False

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of an open file; return how much."""
        file = self._files.get(handle)
        if self._followed.may_grow:
            self._follow(file)
        version = file.version
        if version.is_retired and (self._opened is None or file.path in self._opened):
            raise self._stale(file.path)
        try:
            count = version.tree.read_into(file.handle, buffer, offset)
        except H5fsError as error:
            if not version.holds():
                raise self._stale(file.path) from None
            if isinstance(error, StaleError):  # another file has changed, to which this one leads
                with self._lock:
                    self._tell_change()
            raise
        if not version.holds():
            raise self._stale(file.path)
        return count

    def release(self, handle: int) -> None:
        """Forget a file handle."""
        file = self._files.remove(handle)
        if not file.version.is_closed:
            file.version.tree.release(file.handle)
        self._let_go(file.version)

    def close(self) -> None:
        """Close everything."""
        with self._lock:
            self._has_ended = True
            versions = [*self._retired, *([self._current] if self._current is not None else [])]
            self._current, self._retired = None, []
            for version in versions:
                version.is_retired = version.is_closed = True
        for version in versions:
            version.close()

    # Versions.

    def _ask(self, question: Callable[[Tree], _Answer]) -> _Answer:
        """Return what the tree answers, of one version of the file."""
        return self._ask_version(question)[1]

    def _ask_version(self, question: Callable[[Tree], _Answer]) -> tuple[Version, _Answer]:
        for _ in range(_MOST_ATTEMPTS):
            version = self._take()
            try:
                answer = question(version.tree)
            except Exception:
                # What a tree says of a file that changes below it means nothing.
                if version.holds() and not version.is_retired:
                    raise
            else:
                if version.holds() and not version.is_retired:
                    return version, answer
            self._retire(version)
        raise StaleError(f"{self._name} is being changed all the time")

    def _take(self) -> Version:
        """Return the version of what stands at the path now."""
        now = time.monotonic()
        self._used_at = now
        version = self._current
        if version is not None and now < self._looks_at:
            return version
        with self._opening:
            # Before the look: a change that is noticed meanwhile is looked at again.
            self._looks_at = now + LOOK_SECONDS
            version = self._current
            if version is not None and is_at(self._followed, version):
                return version
            return self._renew(version)

    def _renew(self, old: Version | None) -> Version:
        """Open what stands at the path; go on with the old version when that is whole and the
        new one does not open yet."""
        now = time.monotonic()
        if now < self._fails_until:
            if old is not None and old.holds():
                return old
            raise CannotOpenError(self._failure)
        try:
            new = self._followed.open()
        except H5fsError as error:
            self._fails_until = now + self._followed.again_seconds
            if str(error) != self._failure:
                _log.warning("%s cannot be opened now: %s", self._name, error)
            self._failure = str(error)
            if old is not None and old.holds():
                return old
            if old is not None:
                self._retire(old)
            raise CannotOpenError(self._failure) from None
        self._begin(new, old)
        return new

    def _begin(self, version: Version, old: Version | None) -> None:
        """Let questions go to a new version."""
        with self._lock:
            if self._has_ended:
                version.is_retired = version.is_closed = True
                self._retired.append(version)
            else:
                if old is not None:
                    self._retire_one(old)
                self._looks_at = time.monotonic() + LOOK_SECONDS
                self._failure = ""
                if self._stamp is not None and self._stamp != version.stamp:
                    self._tell_change()
                    _log.info("%s has changed; its new content is shown", self._name)
                self._stamp = version.stamp
                self._current = version
        self._close_unused()

    def _retire(self, version: Version) -> None:
        """Ask this version nothing new; it is closed when no file of it is open any more."""
        with self._lock:
            self._retire_one(version)
        self._close_unused()

    def _retire_one(self, version: Version) -> None:
        if version.is_retired:
            return
        version.is_retired = True
        self._tell_change()
        if self._current is version:
            self._current = None
        self._retired.append(version)

    def _tell_change(self) -> None:
        self._opened, self._seen = set(), set()
        self._changes += 1
        self.on_change()

    def _let_go(self, version: Version) -> None:
        with self._lock:
            version.file_count -= 1
        self._close_unused()

    def _close_unused(self) -> None:
        """Close retired versions of which no file is open; not to be called with the lock."""
        with self._lock:
            unused = [each for each in self._retired if not each.file_count]
            for version in unused:
                self._retired.remove(version)
                version.is_closed = True  # nobody opens a file of it any more
        for version in unused:
            self._end(version)

    def _end(self, version: Version) -> None:
        """Close a version; where its disk or its workers take long, without waiting for them."""
        counts = version.tree.statistics().counts_only()
        with self._lock:
            self._ended += counts
        closing = threading.Thread(target=version.close, name="h5fs-close", daemon=True)
        try:
            closing.start()
        except RuntimeError:  # the system allows no more threads
            version.close()
            return
        closing.join(_CLOSING_PATIENCE_SECONDS)

    def _follow(self, file: OpenFile) -> None:
        """Let an open file show what its dataset has become."""
        if file.version is self._take():
            return
        version, handle = self._ask_version(lambda tree: tree.open(file.path, os.O_RDONLY))
        with self._lock:
            if version.is_closed or file.version is version:
                return
            before, file.version, file.handle = file.version, version, handle
            version.file_count += 1
        self._let_go(before)

    def _stale(self, path: bytes) -> StaleError:
        return StaleError(
            f"{show_path(path)}: {self._name} has changed since it was opened; open it again"
        )

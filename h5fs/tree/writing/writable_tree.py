"""The tree of a mode that writes: one call of the kernel's after another, each one step.

The tree answers nothing itself: it has parts with one job each, and calls them. Parts know each
other by their constructors alone, and none knows the tree. The store's interface is the only way
down to the HDF5 file.

Each call is one ``_in_flight.call`` of its path or file, ``answer`` where it may have to be alone,
or ``alone``. So one lock is held around all that the parts do, but for the time in which the store
makes a frequent change (``ChangesInFlight``): then other calls are answered, and no part but
``OpenedFiles`` has a lock. Reads of data and syncs take it for moments only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Set
from pathlib import Path

from msgspec import structs

from h5fs.errors import ExistsError, NoAttributeError, show_path
from h5fs.model.file_status import SpaceStatus
from h5fs.model.settings import NO_VIEWS, Limits, ViewOptions
from h5fs.store.interface import WritingStore
from h5fs.tree.contents.page_content import PageContent
from h5fs.tree.dentries import Dentries
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.status import Status
from h5fs.tree.tree import Tree
from h5fs.tree.writing.leftovers import keep_pending
from h5fs.tree.writing.parts import Parts


class WritableTree:
    """An HDF5 file as a file system that can be written to. Safe to call from any thread.

    Parameters: ``mountpoint`` is where absolute symbolic links lead into the mount, which shows
    ``part`` of the file, as in ``Tree``. ``leftovers`` is the folder for what is not in the HDF5
    file at the end; without one, or without ``takes_scratch``, no file may be made outside of the
    HDF5 file. ``commits_at_close``: each `close` waits for the disk.
    """

    def __init__(
        self, store: WritingStore, max_depth: int = Limits().max_depth, *,
        views: ViewOptions = NO_VIEWS, mountpoint: bytes = b"", part: bytes = b"",
        leftovers: Path | None = None, takes_scratch: bool = True, commits_at_close: bool = False,
    ) -> None:  # fmt: skip
        self._store = store
        self._leftovers = leftovers
        # Programs that copy or remove a folder shall take the arrays alone.
        views = structs.replace(views, are_listed=False)
        # What the HDF5 file has, with nothing pending.
        self._shown = Tree(store, max_depth, views=views, part=part)
        self._lookup = self._shown.lookup
        parts = Parts(
            store, self._lookup, self._shown.listed_status, mountpoint=mountpoint, part=part,
            leftovers=leftovers, takes_scratch=takes_scratch, commits_at_close=commits_at_close,
        )  # fmt: skip
        self._in_flight = parts.in_flight
        self._pending, self._opened, self._changes = parts.pending, parts.opened, parts.changes
        self._places, self._statuses = parts.places, parts.statuses
        self._openings, self._writes, self._closings = parts.openings, parts.writes, parts.closings
        self._truncations, self._attribute_changes = parts.truncations, parts.attribute_changes
        self._commits, self._keeper = parts.commits, parts.keeper
        self._new_links, self._removals = parts.new_links, parts.removals
        self._renames, self._remakings = parts.renames, parts.remakings
        for file in self._keeper.take_up():
            self._commits.try_to_commit(file)

    # Looking.

    def get_status(self, path: bytes) -> Status:
        """Answer ``stat``."""
        return self.get_lasting_status(path)[0]

    def get_lasting_status(self, path: bytes) -> tuple[Status, bool]:
        """Answer ``stat``; return also whether only calls that name this very path change that."""
        with self._in_flight.call(path):
            return self._statuses.lasting_of_path(path)

    def get_status_of_handle(self, handle: int, *, has_name: bool = True) -> Status:
        """Answer ``fstat``; ``has_name``: the file still has the name that it was opened by."""
        return self.get_lasting_status_of_handle(handle, has_name=has_name)[0]

    def get_lasting_status_of_handle(self, handle: int, *, has_name: bool) -> tuple[Status, bool]:
        """Answer ``fstat``; return also whether only calls about this file change that, for now."""
        opened = self._opened.get(handle)
        with self._in_flight.call(file=opened.file):
            return self._statuses.lasting_of_opened(opened, has_name=has_name)

    def list_folder(self, path: bytes) -> Dentries:
        """Answer ``readdir``, without ``.`` and ``..``."""
        with self._in_flight.call():
            new = self._pending.in_folder(path)
            if self._pending.scratch(path) is not None:
                return Dentries.of(new)
            gone = self._pending.whiteouts_in(path) | {dentry.name for dentry in new}
            folder, shown = self._lookup.find_folder(path), self._shown.list_folder(path)
            dentries = self._statuses.of_listing(folder, shown)
            return dentries.changed(gone, new) if gone else dentries

    def read_link(self, path: bytes) -> bytes:
        """Answer ``readlink``."""
        with self._in_flight.call(path):
            entry = self._pending.scratch(path)
            return self._shown.read_link(path) if entry is None else entry.read_link(path)

    def list_xattrs(self, path: bytes) -> list[bytes]:
        """Answer ``listxattr``."""
        with self._in_flight.call(path):
            return [] if self._pending.is_outside(path) else self._shown.list_xattrs(path)

    def get_xattr(self, path: bytes, name: bytes) -> bytes:
        """Answer ``getxattr``. Raises ``NoAttributeError``."""
        with self._in_flight.call(path):
            if self._pending.is_outside(path):
                raise NoAttributeError(f"{show_path(path)} is not in the HDF5 file")
            return self._shown.get_xattr(path, name)

    def get_file_system_status(self) -> SpaceStatus:
        """Answer ``statfs``: that of the file system the HDF5 file is on."""
        return self._shown.get_file_system_status()

    def set_xattr(self, path: bytes, name: bytes, value: bytes, flags: int) -> None:
        """Answer ``setxattr``: an attribute of the object gets a value."""
        with self._in_flight.alone():
            self._attribute_changes.set_extended(path, name, value, flags)

    def remove_xattr(self, path: bytes, name: bytes) -> None:
        """Answer ``removexattr``. Raises ``NoAttributeError``."""
        with self._in_flight.alone():
            self._attribute_changes.set_extended(path, name, None, 0)

    def change_attributes(self, path: bytes, changes: Mapping[bytes, bytes | None]) -> None:
        """Set attributes of an object in one step; None removes one."""
        with self._in_flight.alone():
            self._attribute_changes.change(path, changes)

    # What the kernel may keep.

    def bypasses_cache(self, handle: int) -> bool:
        """Whether a handle shall go past the kernel's cache: where that has, or would get, what
        others do not read.
        """
        return self._opened.get(handle).bypasses_cache

    def only_reads(self, handle: int) -> bool:
        """Whether a handle neither writes nor reads what others write meanwhile."""
        return self._opened.get(handle).file is None

    def page_content(self, handle: int) -> PageContent | None:
        """Return what a handle reads of the HDF5 file; None where it reads a draft."""
        opened = self._opened.get(handle)
        with self._in_flight.call(file=opened.file):
            return opened.page_content(self._store.data_version)

    def keeps_cache(self, _handle: int) -> bool:
        """Whether what the kernel has of a file is its content: ``page_content`` tells."""
        return False

    def keeps_folder(self, _path: bytes) -> bool:
        """Whether what the kernel has of a folder is its listing."""
        return False

    def version(self) -> object:
        """Return a number that differs after each change of a status that was listed."""
        return self._changes.count

    def changed_since(self, version: object) -> Set[int] | None:
        """Return the inode numbers of files whose status has changed; None for any file."""
        with self._in_flight.call():
            return self._changes.since(version) if isinstance(version, int) else None

    # Files.

    def open(self, path: bytes, flags: int, pid: int = 0) -> int:
        """Open a file and return its handle. ``flags`` are those of ``open(2)``."""
        with self._in_flight.call(path):
            handle = self._openings.open(path, flags, pid)
            with self._changes.by(self._opened.get(handle).file):
                return handle

    def create(self, path: bytes, flags: int, pid: int = 0, mode: int = 0o666) -> int:
        """Answer ``open`` with ``O_CREAT`` of a file that is not there, or was not just before."""
        with self._in_flight.call(path):
            if self._places.is_there(path):
                if flags & os.O_EXCL:
                    raise ExistsError(f"{show_path(path)} exists")
                return self._openings.open(path, flags & ~os.O_CREAT, pid)
            handle = self._openings.create(path, flags, pid, mode)
            self._statuses.note_change_in(path)
            return handle

    def read_into(self, handle: int, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` of an open file, drafts included; return how much."""
        opened = self._opened.get(handle)
        with self._in_flight.call(file=opened.file):
            content = opened.content
            if content is None:
                assert opened.file is not None
                if opened.file.draft is not None:
                    return opened.file.draft.read_into(buffer, offset)
                content = opened.file.content
        if content is None:
            return 0
        with self._lookup.noticing_replaced():
            return content.read_into(buffer, offset)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes at ``offset`` of an open file; fewer only at its end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.read_into(handle, memoryview(buffer), offset)])

    def write(
        self, handle: int, data: memoryview, offset: int, *, is_page: bool = False,
        is_mixed: bool = False,
    ) -> None:  # fmt: skip
        """Answer ``write``: in place, or into the file's draft.

        ``is_page``: the kernel writes back what programs have mapped: all of its pages;
        ``is_mixed``: others fill these with another content.
        """
        file = self._opened.get_writable(handle)
        with self._in_flight.call(file=file):
            offset = self._opened.get(handle).write_offset(offset, is_page=is_page)
            try:
                self._writes.write(file, data, offset, is_page=is_page, is_mixed=is_mixed)
            finally:
                self._changes.note(file.inode)

    def truncate(self, path: bytes | None, size: int, handle: int | None) -> None:
        """Answer ``truncate`` and ``ftruncate``."""
        if handle is not None:
            with self._in_flight.call(file=self._opened.get_writable(handle)):
                self._truncations.by_handle(handle, size)
            return
        assert path is not None
        with self._in_flight.alone():
            self._truncations.by_path(path, size)

    def flush(self, handle: int, pid: int) -> None:
        """Answer ``close`` of one of a handle's descriptors: what was written is committed."""
        opened = self._opened.get(handle)

        def flush() -> None:
            with self._changes.by(opened.file):
                self._closings.flush(opened, pid)

        self._in_flight.answer(flush, file=opened.file)

    def release(self, handle: int) -> None:
        """Forget a handle."""
        opened = self._opened.get(handle)

        def release() -> None:
            if self._closings.is_to_commit(opened):
                self._in_flight.insist_on_being_alone()
            self._opened.remove(handle)
            with self._changes.by(opened.file):
                self._closings.release(opened)

        self._in_flight.answer(release, file=opened.file)

    def give_up(self, handle: int) -> None:
        """Forget what was written to a file; a new one is gone, any other is as it was."""
        with self._in_flight.alone():
            file = self._opened.get_writable(handle)
            self._changes.note_any()
            if file.node is None:
                self._removals.unlink(file.path)
            else:
                file.discard()

    def fsync(self, handle: int) -> None:
        """Answer ``fsync``: what was written survives a power cut, if it is a whole file."""
        opened = self._opened.get(handle)

        def sync() -> None:
            with self._changes.by(opened.file):
                self._closings.sync(opened)

        self._in_flight.answer(sync, file=opened.file)
        self._store.commit(False)

    def sync_folder(self, _path: bytes) -> None:
        """Answer ``fsync`` of a folder."""
        self._store.commit(False)

    # Names.

    def make_folder(self, path: bytes) -> None:
        """Answer ``mkdir``."""
        with self._in_flight.call(path):
            self._new_links.make_folder(path)
            self._remakings.note_made(0, path)
            self._statuses.note_change_in(path)
            self._statuses.note_change_in(path + b"/")

    def make_hard_link(self, existing: bytes, new: bytes) -> None:
        """Answer ``link``."""
        with self._in_flight.alone():
            self._changes.note_any()
            if not self._attribute_changes.copy_for_later(existing, new):
                self._new_links.make_hard_link(existing, new)
            self._remakings.note_made(0, new)
            self._statuses.note_change_in(new)

    def make_symbolic_link(self, text: bytes, path: bytes) -> None:
        """Answer ``symlink``."""
        with self._in_flight.call(path):
            self._new_links.make_symbolic_link(text, path)
            self._remakings.note_made(0, path)
            self._statuses.note_change_in(path)

    def remove_folder(self, path: bytes) -> None:
        """Answer ``rmdir``."""
        with self._in_flight.alone():
            self._changes.note_any()
            self._removals.remove_folder(path)
            self._statuses.note_change_in(path)

    def unlink(self, path: bytes, pid: int = 0) -> None:
        """Answer ``unlink``."""

        def unlink() -> None:
            try:
                self._removals.unlink(path, pid)
            finally:
                self._changes.note_any()
            self._statuses.note_change_in(path)

        self._in_flight.answer(unlink, path)

    def rename(self, old: bytes, new: bytes, flags: int = 0, pid: int = 0) -> None:
        """Answer ``rename``: move a link, or give a file a name that commits it."""
        with self._in_flight.alone():
            self._changes.note_any()
            with self._remakings.renaming(pid, old, new, self._pending.staged(old)):
                self._renames.rename(old, new, flags)
            self._remakings.forget_below(old)
            if old != new:
                self._statuses.note_change_in(old)
                self._statuses.note_change_in(new)

    def set_mode(self, path: bytes | None, _mode: int) -> None:
        """Answer ``chmod``: accepted, and not stored."""
        if path is not None:
            self.get_status(path)

    def set_owner(self, path: bytes | None, _uid: int, _gid: int) -> None:
        """Answer ``chown``: accepted, and not stored."""
        if path is not None:
            self.get_status(path)

    def set_times(
        self, path: bytes | None, atime_ns: int | None, mtime_ns: int | None,
        handle: int | None = None,
    ) -> None:  # fmt: skip
        """Answer ``utimensat``: the times last as long as the mount."""
        file = self._opened.get(handle).file if path is None and handle is not None else None
        with self._in_flight.call(path, file=file):
            self._changes.note_any()
            self._statuses.set_times(path, handle, atime_ns, mtime_ns)

    # The whole.

    def statistics(self) -> TreeStatistics:
        """Return what the tree and its store hold now, and did. Waits for nothing."""
        drafts = self._pending.drafts()
        return TreeStatistics(
            self._store.statistics(), self._opened.count(), len(drafts),
            sum(draft.written_bytes for draft in drafts),
        )  # fmt: skip

    def call_when_waiting(self, function: Callable[[], None]) -> None:
        """Have a function called by each call that begins to wait for the store while others are
        answered, on its thread."""
        self._in_flight.on_waiting = function

    def count_waiting(self) -> int:
        """Return how many calls wait for the store, while others are answered."""
        return self._in_flight.count

    def close(self) -> tuple[bytes, ...]:
        """Commit what can be, save what is left beside the HDF5 file, and close the store.

        Returns: the paths of files that did not become part of the HDF5 file.
        """
        with self._in_flight.alone():
            self._commits.commit_all()
            self._removals.end_all_hiding()
            self._commits.apply_in_part()
            paths = keep_pending(self._leftovers, self._pending, self._places, self._lookup)
            self._remakings.forget_all(self._pending.staged_files())
            self._keeper.remove_all()
        self._store.close()
        return paths

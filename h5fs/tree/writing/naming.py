"""Names in a mount that writes: where a path is, what a name means there, which are refused.

What is outside of the HDF5 file has its own folders: those whose names are hidden, as programs make
them for trash, checkpoints and repositories. In them every name is taken, and nothing is committed.
"""

from __future__ import annotations

import os
import time

from h5fs.errors import (
    ExistsError,
    InvalidNameError,
    IsAGroupError,
    NotAGroupError,
    NotEmptyError,
    NotFoundError,
    ReadOnlyError,
    show_path,
)
from h5fs.projection.names import (
    GROUP_ATTRIBUTES,
    DentryName,
    Projection,
    decode_name,
)
from h5fs.tree.lookup import check_length
from h5fs.tree.nodes import Node
from h5fs.tree.writing.opened_file import OpenedFile
from h5fs.tree.writing.scratch_entries import ScratchEntry
from h5fs.tree.writing.scratch_names import (
    is_hidden,
    is_made_by_mkstemp,
    is_placeholder,
    is_scratch_link_name,
    is_scratch_name,
)
from h5fs.tree.writing.writable import WritableBase, writes_anew
from h5fs.tree.writing.writable_file import WritableFile


class NamingTree(WritableBase):
    """What may be created where."""

    def create(self, path: bytes, flags: int, pid: int = 0, mode: int = 0o666) -> int:
        """Answer ``open`` with ``O_CREAT`` of a file that is not there.

        ``mode`` is the one that the program gave; it is not stored, and says what the file is for.

        Raises ``InvalidNameError`` for a name that no file can have.
        """
        with self._lock:
            if self._is_there(path):
                if flags & os.O_EXCL:
                    raise ExistsError(f"{show_path(path)} exists")
                return self.open(path, flags & ~os.O_CREAT, pid)
            self._check_new_name(path, flags, mode)
            file = WritableFile(path, inode=next(self._inodes))
            file.begin(empty=True)
            self._pending.stage(file)
            self._note_change_in(path)
            bypasses_cache = writes_anew(flags | os.O_TRUNC)
            opened = OpenedFile(pid, file, bypasses_cache=bypasses_cache, writes=True)
            return self._add_handle(opened)

    @property
    def _takes_scratch(self) -> bool:
        """Whether files may be outside of the HDF5 file: what is left at the end has a place."""
        return self._leftovers is not None

    def _is_in_scratch(self, path: bytes) -> bool:
        return self._pending.scratch(path.rpartition(b"/")[0]) is not None

    def _is_scratch_folder_name(self, path: bytes, meaning: DentryName | None) -> bool:
        """Whether a folder that is made under a path is outside of the HDF5 file."""
        if not self._takes_scratch:
            return False
        if self._is_in_scratch(path):
            return True
        is_folder_name = meaning is None or meaning.projection is Projection.FOLDER
        return is_folder_name and is_hidden(path.rpartition(b"/")[2])

    def _is_scratch_link_name(self, path: bytes) -> bool:
        """Whether a symbolic link that is made under a path is outside of the HDF5 file."""
        name = path.rpartition(b"/")[2]
        is_on_the_way = is_hidden(name) or is_scratch_link_name(name)
        return self._takes_scratch and (is_on_the_way or self._is_in_scratch(path))

    def _add_scratch(self, path: bytes, text: bytes | None) -> None:
        """Make a scratch folder, or a symbolic link of that text."""
        self._pending.add_scratch(path, ScratchEntry(next(self._inodes), text))
        self._note_change_in(path)

    def _remove_scratch_folder(self, path: bytes) -> None:
        entry = self._pending.scratch(path)
        if entry is None or not entry.is_folder:
            raise NotAGroupError(f"{show_path(path)} is not a folder")
        self._check_nothing_outside_in(path)
        self._pending.remove_scratch(path)
        self._note_change_in(path)

    def _check_nothing_outside_in(self, path: bytes) -> None:
        """Raise when a folder has files or folders that the HDF5 file has not."""
        if self._pending.has_any_in(path):
            raise NotEmptyError(f"{show_path(path)} is not empty")

    def _check_may_replace_scratch(self, path: bytes, *, is_folder: bool) -> None:
        """Raise when something of that kind cannot be renamed over what is outside at a path."""
        entry = self._pending.scratch(path)
        if entry is None:
            if is_folder and self._pending.staged(path) is not None:
                raise NotAGroupError(f"{show_path(path)} is not a folder")
            return
        if entry.is_folder and not is_folder:
            raise IsAGroupError(f"{show_path(path)} is a folder")
        if is_folder and not entry.is_folder:
            raise NotAGroupError(f"{show_path(path)} is not a folder")
        if entry.is_folder:
            self._check_nothing_outside_in(path)

    def _note_change_in(self, path: bytes) -> None:
        """Let the times of a path's folder be now: an entry has come or gone."""
        folder_path, now_ns = path.rpartition(b"/")[0], time.time_ns()
        entry = self._pending.scratch(folder_path)
        if entry is not None:
            entry.mtime_ns = now_ns
            return
        try:
            folder = self.lookup.find_folder(folder_path or b"/")
        except (NotFoundError, NotAGroupError):
            return  # it went with what was in it
        times = self._pending.times_of(folder.inode)
        atime_ns = times[0] if times else self.lookup.status_of_file(folder.info.ref.file).atime_ns
        self._pending.set_times(folder.inode, atime_ns, now_ns)

    def _place(self, path: bytes) -> tuple[Node, DentryName | None]:
        """Return the folder of a path, which may be written to, and what a file of that name is.

        None for a name that no file in the HDF5 file has, and in a scratch folder, for which the
        folder is the one in the HDF5 file that it is in.
        """
        folder, meaning = self._place_of_any(path)
        is_file = meaning is not None and meaning.projection is not Projection.FOLDER
        return folder, meaning if is_file else None

    def _place_of_any(self, path: bytes) -> tuple[Node, DentryName | None]:
        """Return the folder of a path, which may be written to, and what its name means."""
        folder_path, _, name = path.rpartition(b"/")
        check_length(name)
        entry = self._pending.scratch(folder_path)
        if entry is not None:
            if not entry.is_folder:
                raise NotAGroupError(f"{show_path(folder_path)} is not a folder")
            return self._place_of_any(folder_path)[0], None
        folder = self.lookup.find_folder(folder_path or b"/")
        if folder.info.ref.file:
            raise ReadOnlyError(f"{show_path(path)} is in another HDF5 file, which is only read")
        self.lookup.check_depth(folder)
        if name == GROUP_ATTRIBUTES:
            return folder, DentryName(Projection.ATTRIBUTES, None)
        return folder, decode_name(name)

    def _check_new_name(self, path: bytes, flags: int, mode: int) -> None:
        """Raise unless a file may be created under that name."""
        folder, meaning = self._place(path)
        name = path.rpartition(b"/")[2]
        if meaning is None:
            is_temporary = is_made_by_mkstemp(name, flags, mode) or is_placeholder(flags, mode)
            if not (is_temporary and self._takes_scratch):
                self._check_scratch(path)
        elif meaning.link_name is None and name != GROUP_ATTRIBUTES:
            raise InvalidNameError(f"{show_path(path)}: a name that only a longer one is cut to")
        elif meaning.link_name is not None and meaning.projection is not Projection.ATTRIBUTES:
            self._check_free_for(folder, meaning.link_name, path)

    def _check_scratch(self, path: bytes) -> None:
        """Raise unless a file outside of the HDF5 file may have this name."""
        if self._takes_scratch and (
            is_scratch_name(path.rpartition(b"/")[2]) or self._is_in_scratch(path)
        ):
            return
        raise InvalidNameError(
            f"{show_path(path)}: the HDF5 file can hold NAME.npy, NAME.attrs.json, "
            "NAME.dtype.json and folders; files of other names must be temporary (.NAME, "
            "NAME~, NAME.tmp, ...)"
        )

    def _check_free_for(self, folder: Node, link_name: bytes, path: bytes) -> None:
        try:
            self.lookup.get_link(folder.info.ref, link_name)
        except NotFoundError:
            return
        if not self._pending.is_hidden(path):
            raise ExistsError(f"{show_path(path)}: the HDF5 file has another object of that name")

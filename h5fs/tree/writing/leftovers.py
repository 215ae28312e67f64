"""What is left at the end of a mount and is not in the HDF5 file: saved beside it.

The folder beside the HDF5 file is perhaps one that others may write to, and the mount perhaps
root's. So nothing is written over and no link is followed: each mount saves in a folder that it has
made, and each name in there is made anew, relative to the folder's descriptor. Nobody else gets in
before all is saved.
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from h5fs.errors import H5fsError, InvalidNameError, show_path
from h5fs.model.file_status import FileStatus
from h5fs.tree.lookup import Lookup
from h5fs.tree.writing.names.places import Places
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.refused_drafts import RefusedDraft
from h5fs.tree.writing.pending.writable_file import WritableFile

_log = logging.getLogger(__name__)

_COPY_BYTES = 2**20
_MOST_FOLDERS = 10_000
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def keep_leftovers(
    folder: Path | None,
    files: Sequence[WritableFile],
    refused: Sequence[RefusedDraft],
    links: Sequence[tuple[bytes, bytes]],
    of_file: FileStatus | None,
) -> None:
    """Save files and symbolic links under their paths, each with a line in the log.

    ``folder`` is where, or that name and a number if it is there already. Of ``refused``, what was
    not kept is a line alone. ``links`` are paths and texts. ``of_file`` is the status of the HDF5
    file, whose owner and mode what is saved gets; None if it is not known, and only this user may
    read then. Files of no bytes are dropped.
    """
    files = [file for file in files if file.size_bytes]
    kept = [change for change in refused if change.data is not None]
    for change in refused:
        if folder is None or change.data is None:
            _log.error("%s; it was not kept", _explain(change))
    if folder is None:
        for file in files:
            if file.refusal:
                _log.warning("%s", _explain(file))
        return
    if not (files or kept or links):
        return
    every: list[_Left] = [*files, *kept, *(_Link(path, text) for path, text in links)]
    try:
        saved = _SavedFolder(folder, of_file)
    except OSError as error:
        for each in every:
            reason = f"{folder} cannot be made: {error.strerror}"
            _log.error("%s; it is lost: %s", _explain(each), reason)
        return
    try:
        for each in every:
            _save(each, saved)
    finally:
        saved.close()


def keep_pending(
    folder: Path | None, pending: Pending, places: Places, lookup: Lookup
) -> tuple[bytes, ...]:
    """Save all that is pending at the end of a mount; return the paths of its files."""
    left = pending.staged_files()
    try:
        of_file = lookup.status_of_file(0)
    except H5fsError as error:
        _log.warning("the HDF5 file's owner and mode are not known: %s", error)
        of_file = None
    refused = pending.refused.left(places.is_there)
    keep_leftovers(folder, left, refused, pending.scratch_links(), of_file)
    return tuple(file.path for file in left if file.size_bytes)


class _Link(NamedTuple):
    """A symbolic link."""

    path: bytes
    text: bytes
    refusal: str = ""


_Left: TypeAlias = WritableFile | RefusedDraft | _Link


def _save(left: _Left, saved: _SavedFolder) -> None:
    """Save one file or link, and tell so."""
    target = saved.folder.joinpath(*map(os.fsdecode, left.path.split(b"/")))
    try:
        if isinstance(left, _Link):
            saved.save_link(left.path, left.text)
        else:
            saved.save_file(left)
    except (OSError, H5fsError) as error:
        _log.error("%s; it could not be saved as %s: %s", _explain(left), target, error)
    else:
        _log.error("%s; saved as %s", _explain(left), target)


def _explain(left: _Left) -> str:
    path, why = show_path(left.path), left.refusal
    if isinstance(left, RefusedDraft):
        return f"{path}: what was written was refused: {why}"
    if isinstance(left, WritableFile) and left.refused_name is not None and not why:
        name, refusal = left.refused_name
        why = f"it was to be {show_path(name)}, and was refused: {refusal}"
    return f"{path} is not in the HDF5 file{': ' if why else ''}{why}"


class _SavedFolder:
    """A new folder, open by its descriptor."""

    def __init__(self, folder: Path, of_file: FileStatus | None) -> None:
        self._of_file = of_file
        self.folder = _make_free(folder)
        self._descriptor = os.open(self.folder, _OPEN_FOLDER)
        if os.fstat(self._descriptor).st_uid != os.geteuid() or os.listdir(self._descriptor):
            os.close(self._descriptor)
            raise OSError(0, f"{self.folder} was exchanged for another folder")

    def save_file(self, file: WritableFile | RefusedDraft) -> None:
        """Save what a program would read. Raises ``OSError``, ``H5fsError``."""
        with self._opened_folder_of(file.path) as (parent, name):
            descriptor = os.open(name, _MAKE_FILE, 0o600, dir_fd=parent)
            try:
                _copy(file, descriptor)
                self._give(descriptor, stat.S_IRUSR | stat.S_IWUSR)
                os.fsync(descriptor)
            except BaseException:  # a part would be taken for the whole, and has others' room
                os.unlink(name, dir_fd=parent)
                raise
            finally:
                os.close(descriptor)

    def save_link(self, path: bytes, text: bytes) -> None:
        """Save a symbolic link. Raises ``OSError``."""
        with self._opened_folder_of(path) as (parent, name):
            os.symlink(text, name, dir_fd=parent)

    def close(self) -> None:
        """Let the HDF5 file's owner have the folder; it goes where nothing could be saved."""
        try:
            if not os.listdir(self._descriptor):
                os.rmdir(self.folder)
            self._give(self._descriptor, stat.S_IRWXU)
            os.fsync(self._descriptor)
        except OSError as error:
            _log.error("%s: %s", self.folder, error.strerror)
        finally:
            os.close(self._descriptor)

    @contextmanager
    def _opened_folder_of(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """Open the folder that a path is in, making those that are missing; yield the name, too."""
        *folders, name = path.lstrip(b"/").split(b"/")
        if not {b"", b".", b".."}.isdisjoint((*folders, name)):  # it would lead out of the folder
            raise InvalidNameError(f"{show_path(path)} is no path of a mount")
        here = os.dup(self._descriptor)
        try:
            for folder in folders:
                there = self._open_subfolder(here, folder)
                os.close(here)
                here = there
            yield here, name
        finally:
            os.close(here)

    def _open_subfolder(self, parent: int, name: bytes) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            return os.open(name, _OPEN_FOLDER, dir_fd=parent)
        descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        try:
            self._give(descriptor, stat.S_IRWXU)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _give(self, descriptor: int, least_mode: int) -> None:
        """Give a file or folder the HDF5 file's owner, group and read permissions."""
        of_file = self._of_file
        if of_file is None:
            return
        mode = of_file.mode & (stat.S_IRGRP | stat.S_IROTH)
        try:
            os.fchown(descriptor, of_file.uid, of_file.gid)
        except PermissionError:  # another user's file, that this one may write to
            if os.fstat(descriptor).st_gid != of_file.gid:
                mode &= ~stat.S_IRGRP
        if least_mode & stat.S_IXUSR:
            mode |= mode >> 2  # who may read may enter
        os.fchmod(descriptor, least_mode | mode)


def _make_free(folder: Path) -> Path:
    """Make a folder of that name, or of that name and a number; return its path."""
    for number in itertools.count():
        place = folder.with_name(f"{folder.name}.{number}") if number else folder
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            if number == _MOST_FOLDERS:
                raise
        else:
            return place
    raise AssertionError("unreachable")


def _copy(file: WritableFile | RefusedDraft, descriptor: int) -> None:
    buffer = memoryview(bytearray(_COPY_BYTES))
    at = 0
    while count := file.read_into(buffer, at):
        part = buffer[:count]
        while part:
            part = part[os.write(descriptor, part) :]
        at += count

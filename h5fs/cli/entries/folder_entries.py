"""``h5fs tree FOLDER``: what is in a folder of HDF5 files, as a mount of the folder shows it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from h5fs.cli.commands.without_mount import opened_tree, started
from h5fs.cli.entries.tree_entries import Entry, Extent, Visit, fill, listing_habits
from h5fs.cli.file_arguments import absolute
from h5fs.errors import H5fsError, MountError, show_path
from h5fs.model.location import Location, Url
from h5fs.model.settings import StoreOptions
from h5fs.store.format.superblock import is_hdf5_file
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.tree.tree import Tree


class Folder(Protocol):
    """A folder, whoever keeps it. Raises ``OSError``, ``H5fsError``."""

    def list(self, folder: Entry) -> list[Entry]:
        """Return what is in the folder itself, or in one below it."""

    def open(self, file: Entry) -> AbstractContextManager[Tree]:
        """Open an HDF5 file. Raises also ``MountError``."""


@contextmanager
def listed_folder(
    location: Location, extent: Extent, starter: WorkerStarter | None
) -> Iterator[tuple[list[Entry], Visit]]:
    """List a folder; yield its entries, and what looks at one of them. Raises ``MountError``.

    ``starter``: one that has been started; without it there will be another. No HDF5 file is
    opened before it is looked at, and none stays open.
    """
    with _opened(location, starter) as folder:
        try:
            entries = folder.list(Entry("", "/", "folder", dentry_path=b""))
        except (OSError, H5fsError) as error:
            raise MountError(_say(location, error)) from None
        yield entries, lambda entry, levels: _look_at(folder, entry, extent, levels)


@contextmanager
def _opened(location: Location, starter: WorkerStarter | None) -> Iterator[Folder]:
    if not isinstance(location, Url):
        with started(starter) as running:
            yield _LocalFolder(location, running)
        return
    from h5fs.cli.entries.url_folders import opened_url_folder

    with opened_url_folder(location, starter) as folder:
        yield folder


def _look_at(folder: Folder, entry: Entry, extent: Extent, levels: int) -> None:
    if not extent.includes(levels + 1):
        return
    try:
        if entry.kind == "folder":
            entry.entries = folder.list(entry)
        elif entry.kind == "hdf5":
            _open(folder, entry, extent, levels)
    except OSError as error:
        entry.error = error.strerror
    except H5fsError as error:
        entry.error = str(error)


def _open(folder: Folder, entry: Entry, extent: Extent, levels: int) -> None:
    """Look at all that is in an HDF5 file."""
    root = Entry(entry.name, entry.path, "unreadable", dentry_path=b"/")
    try:
        with folder.open(entry) as tree:
            fill(tree, root, extent, levels)
    except (H5fsError, MountError) as error:
        root.error = str(error)
    entry.attributes, entry.attrs = root.attributes, root.attrs
    entry.entries, entry.error = root.entries, root.error


def _say(location: Location, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{location}: {error.strerror}"
    return str(error)


class _LocalFolder:
    """A folder of this machine. An entry's ``dentry_path`` is below it, and begins with a slash."""

    def __init__(self, place: Path, starter: WorkerStarter) -> None:
        self._place = os.fsencode(place)
        self._starter = starter

    def list(self, folder: Entry) -> list[Entry]:
        with os.scandir(self._place + folder.dentry_path) as found:
            names = sorted(found, key=lambda each: each.name)
        return [_entry_of(folder, each) for each in names]

    def open(self, file: Entry) -> AbstractContextManager[Tree]:
        path = absolute(Path(os.fsdecode(self._place + file.dentry_path)))
        options = StoreOptions(path, workers=1)
        return opened_tree(options, self._starter, habits=listing_habits(are_many_files=True))


def _entry_of(folder: Entry, found: os.DirEntry[bytes]) -> Entry:
    entry = child_of(folder, found.name, "file")
    try:
        if found.is_symlink():
            entry.kind, entry.target = "link", show_path(os.readlink(found.path))
        elif found.is_dir():
            entry.kind = "folder"
        elif found.is_file():
            entry.size_bytes = found.stat().st_size
            if is_hdf5_file(found.path):
                entry.kind = "hdf5"
    except OSError as error:  # it has gone since it was listed
        entry.error = error.strerror
    return entry


def child_of(folder: Entry, name: bytes, kind: str) -> Entry:
    """Return the entry of what has that name in a folder."""
    shown = show_path(name)
    return Entry(
        shown, f"{folder.path.rstrip('/')}/{shown}", kind,
        dentry_path=folder.dentry_path + b"/" + name,
    )  # fmt: skip

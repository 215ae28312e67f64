"""``h5fs tree FOLDER``: what is in a folder of HDF5 files, as a mount of the folder shows it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from h5fs.cli.commands.without_mount import absolute, opened_tree, started
from h5fs.cli.entries.tree_entries import Entry, Extent, Visit, fill
from h5fs.errors import H5fsError, MountError, show_path
from h5fs.model.settings import StoreOptions
from h5fs.store.format.superblock import is_hdf5_file
from h5fs.store.workers.starting.worker_starter import WorkerStarter


@contextmanager
def listed_folder(
    folder: str, extent: Extent, starter: WorkerStarter | None
) -> Iterator[tuple[list[Entry], Visit]]:
    """List a folder; yield its entries, and what looks at one of them. Raises ``MountError``.

    ``starter``: one that has been started; without it there will be another. No HDF5 file is
    opened before it is looked at, and none stays open.
    """
    top = Entry("", "/", "folder", dentry_path=os.fsencode(folder))
    try:
        entries = _list_files(top)
    except OSError as error:
        raise MountError(f"{folder}: {error.strerror}") from None
    with started(starter) as running:
        yield entries, lambda entry, levels: _look_at(entry, extent, levels, running)


def _look_at(entry: Entry, extent: Extent, levels: int, starter: WorkerStarter) -> None:
    if not extent.includes(levels + 1):
        return
    try:
        if entry.kind == "folder":
            entry.entries = _list_files(entry)
        elif entry.kind == "hdf5":
            _open(entry, extent, levels, starter)
    except OSError as error:
        entry.error = error.strerror


def _open(entry: Entry, extent: Extent, levels: int, starter: WorkerStarter) -> None:
    """Look at all that is in an HDF5 file."""
    root = Entry(entry.name, entry.path, "unreadable", dentry_path=b"/")
    file = absolute(Path(os.fsdecode(entry.dentry_path)))
    try:
        with opened_tree(StoreOptions(file, workers=1), starter) as tree:
            fill(tree, root, extent, levels)
    except (H5fsError, MountError) as error:
        root.error = str(error)
    entry.attributes, entry.attrs = root.attributes, root.attrs
    entry.entries, entry.error = root.entries, root.error


def _list_files(folder: Entry) -> list[Entry]:
    """Return what is in a folder of this machine. Raises ``OSError``."""
    with os.scandir(folder.dentry_path) as found:
        names = sorted(found, key=lambda each: each.name)
    return [_entry_of(folder, each) for each in names]


def _entry_of(folder: Entry, found: os.DirEntry[bytes]) -> Entry:
    name = show_path(found.name)
    entry = Entry(name, f"{folder.path.rstrip('/')}/{name}", "file", dentry_path=found.path)
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

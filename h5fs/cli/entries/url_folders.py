"""Folders that URLs name, for ``h5fs tree``: a prefix of an object store, a folder of domains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING

from h5fs.cli.commands.without_mount import opened_tree, started
from h5fs.cli.entries.folder_entries import Folder, child_of
from h5fs.cli.entries.tree_entries import Entry, listing_habits
from h5fs.daemon.refusals import explaining
from h5fs.model.location import Url
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.format.superblock import has_hdf5_name
from h5fs.store.schemes import find_scheme
from h5fs.store.sources.remote_files import RemoteFiles
from h5fs.store.sources.remote_folder import RemoteFolder
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.tree.tree import Tree

if TYPE_CHECKING:  # needs the HTTP client
    from h5fs.store.hsds.folders import DomainFolder


@contextmanager
def opened_url_folder(url: Url, starter: WorkerStarter | None) -> Iterator[Folder]:
    """Open the folder of a URL that ends in a slash. Raises ``MountError``."""
    options = StoreOptions(url, workers=1)
    with explaining(url):
        is_object = find_scheme(url, Mode.READ).is_object
    if not is_object:
        with explaining(url):
            from h5fs.store.hsds.opening import open_folder

            domains = open_folder(options)
        with closing(domains):
            yield _DomainFolder(domains)
        return
    with closing(RemoteFiles(options.remote)) as files:
        with explaining(url):
            folder = files.open_folder(url)
        with started(starter) as running:
            yield _PrefixFolder(url, folder, running)


class _PrefixFolder:
    """A prefix of a bucket. HDF5 files are known by their names, as in a mount."""

    def __init__(self, url: Url, folder: RemoteFolder, starter: WorkerStarter) -> None:
        self._url, self._folder, self._starter = url, folder, starter

    def list(self, folder: Entry) -> list[Entry]:
        entries = []
        for found in self._folder.entries(folder.dentry_path.decode().strip("/")):
            name = found.name.encode()
            entry = child_of(folder, name, "folder")
            if found.version is not None:
                entry.kind = "hdf5" if has_hdf5_name(name) else "file"
                entry.size_bytes = found.version.size_bytes
            entries.append(entry)
        return entries

    def open(self, file: Entry) -> AbstractContextManager[Tree]:
        url = Url(self._url.text.rstrip("/") + file.dentry_path.decode())
        options = StoreOptions(url, workers=1)
        return opened_tree(options, self._starter, habits=listing_habits(are_many_files=True))


class _DomainFolder:
    """A folder of domains of a data service, which tells no sizes."""

    def __init__(self, folder: DomainFolder) -> None:
        self._folder = folder

    def list(self, folder: Entry) -> list[Entry]:
        return [
            child_of(folder, each.name, "folder" if each.is_folder else "hdf5")
            for each in self._folder.list(folder.dentry_path or b"/")
        ]

    @contextmanager
    def open(self, file: Entry) -> Iterator[Tree]:
        with closing(Tree(self._folder.open_store(file.dentry_path))) as tree:
            yield tree

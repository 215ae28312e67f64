"""Which tree a mount shows: of an HDF5 file or of a folder of them, to read or to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from h5fs.daemon.refusals import explaining
from h5fs.model.location import Url
from h5fs.model.settings import MountOptions, StoreOptions
from h5fs.store.locks.lock_waiting import opened_patiently
from h5fs.store.schemes import find_scheme, is_shared
from h5fs.store.workers.starting.worker_starter import WorkerStarter

if TYPE_CHECKING:  # numpy takes long to import: workers are started before that
    from h5fs.store.ahead.habits import Habits
    from h5fs.store.sources.remote_files import RemoteFiles
    from h5fs.store.sources.remote_object import RemoteObject
    from h5fs.tree import DomainFolderTree, FolderTree, FollowingTree, Tree, WritableTree

    MountedTree = Tree | WritableTree | FollowingTree | FolderTree | DomainFolderTree

_LEFTOVERS_SUFFIX = ".h5fs-left"


@contextmanager
def opened_to_mount(options: MountOptions, starter: WorkerStarter) -> Iterator[MountedTree]:
    """Open the tree that is to be mounted; after the block close it, and drop what is unfinished.

    Raises ``MountError``.
    """
    with ExitStack() as opened:
        tree: MountedTree
        with explaining(options.store.location):
            if options.store.url is not None:
                tree = opened.enter_context(_opened_url(options, options.store.url, starter))
            elif options.is_folder:
                tree = opened.enter_context(closing(folder_tree(options, starter)))
            elif options.mode.writes or options.store.workers == 0:
                tree = opened_patiently(
                    options.store.file,
                    lambda: opened.enter_context(_opened_store_tree(options, starter)),
                )
            else:
                following = _following_tree(options, options.store.file, starter)
                tree = opened.enter_context(closing(following))
                opened_patiently(options.store.file, following.open_file)
            if options.part:
                from h5fs.daemon.part_check import check_part

                check_part(tree, options)
        yield tree


@contextmanager
def _opened_store_tree(
    options: MountOptions, starter: WorkerStarter
) -> Iterator[Tree | WritableTree]:
    from h5fs.store import open_store
    from h5fs.tree import RenewingTree, SharedWritableTree, Tree, WritableTree

    store: Any = open_store(options.store, starter)  # in a write mode it is one that writes
    depth = options.store.limits.max_depth
    try:
        if not options.mode.writes:
            kind = RenewingTree if is_shared(options.store.url) else Tree
            yield kind(store, depth, views=options.views, part=options.part)
            return
        writable = SharedWritableTree if is_shared(options.store.url) else WritableTree
        yield writable(
            store, depth, views=options.views, mountpoint=os.fsencode(options.mountpoint),
            part=options.part, leftovers=leftovers_of(_named_file(options.store)),
            commits_at_close=options.store.commit_seconds == 0,
        )  # fmt: skip
    finally:
        store.close()


def leftovers_of(file: Path) -> Path:
    """Return the folder for what is not in an HDF5 file when nobody writes to it any more."""
    file = Path(os.path.realpath(file))
    return file.with_name(file.name + _LEFTOVERS_SUFFIX)


def _named_file(options: StoreOptions) -> Path:
    """Return the HDF5 file; of what has a URL one of its name, where the user is."""
    if options.url is None:
        return options.file
    name = options.url.text.rstrip("/").rpartition("/")[2]
    return (options.remote.working_folder or Path.cwd()) / name


def _domain_folder_tree(options: MountOptions) -> DomainFolderTree:
    from h5fs.store.hsds.opening import open_folder
    from h5fs.tree import DomainFolderTree

    return DomainFolderTree(open_folder(options.store), options.store.limits.max_depth)


def _following_tree(
    options: MountOptions, file: Path, starter: WorkerStarter, habits: Habits | None = None
) -> FollowingTree:
    from h5fs.store import open_store
    from h5fs.tree import FollowingTree, Tree
    from h5fs.tree.versions.local_version import FollowedPath

    def open_tree(identity: tuple[int, int]) -> Tree:
        store = structs.replace(options.store, location=file, identity=identity)
        return Tree(
            open_store(store, starter, habits=habits), options.store.limits.max_depth,
            views=options.views, part=options.part, habits=habits,
        )  # fmt: skip

    followed = FollowedPath(file, open_tree, may_grow=options.store.is_swmr)
    return FollowingTree(followed, part=options.part)


@contextmanager
def _opened_url(options: MountOptions, url: Url, starter: WorkerStarter) -> Iterator[MountedTree]:
    if not find_scheme(url, options.mode).is_object:
        if options.is_folder:
            with closing(_domain_folder_tree(options)) as domains:
                yield domains
        else:
            with _opened_store_tree(options, starter) as tree:
                yield tree
        return
    from h5fs.store.ahead.habits import Habits
    from h5fs.store.sources.remote_files import RemoteFiles
    from h5fs.tree import FolderTree
    from h5fs.tree.folders.remote_prefix import RemotePrefix

    # The transport's threads begin here, in the daemon.
    with closing(RemoteFiles(options.store.remote)) as files:
        if not url.is_folder:
            with closing(_following_object(options, url, files, starter)) as following:
                following.open_file()
                yield following
            return
        each, habits = _for_one_of_many(options), Habits()
        prefix = RemotePrefix(
            url, files, lambda file: _following_object(each, file, files, starter, habits),
            options.store.remote.revalidate_seconds,
        )  # fmt: skip
        prefix.check()
        with closing(FolderTree(prefix)) as folder:
            yield folder


def _following_object(
    options: MountOptions,
    url: Url,
    files: RemoteFiles,
    starter: WorkerStarter,
    habits: Habits | None = None,
) -> FollowingTree:
    from h5fs.store.worker_stores.remote_store import open_version
    from h5fs.tree import FollowingTree, Tree
    from h5fs.tree.versions.remote_version import FollowedObject

    store_options = structs.replace(options.store, location=url)

    def open_tree(remote: RemoteObject) -> Tree:
        return Tree(
            open_version(store_options, starter, remote, habits),
            options.store.limits.max_depth,
            views=options.views, part=options.part, habits=habits,
        )  # fmt: skip

    followed = FollowedObject(url, files, open_tree, options.store.remote.revalidate_seconds)
    return FollowingTree(followed, part=options.part)


def folder_tree(options: MountOptions, starter: WorkerStarter) -> FolderTree:
    """Return the tree of a folder of this machine; it opens HDF5 files as they are looked into."""
    from h5fs.store.ahead.habits import Habits
    from h5fs.tree import FolderTree
    from h5fs.tree.folders.local_folder import LocalFolder

    # Programs that go through a folder do the same in each file of it.
    each, habits = _for_one_of_many(options), Habits()
    return FolderTree(
        LocalFolder(options.store.file, lambda file: _following_tree(each, file, starter, habits))
    )


def _for_one_of_many(options: MountOptions) -> MountOptions:
    """Return the settings of one HDF5 file of a folder."""
    from h5fs.tree.folders.folder_tree import MOST_FILES_OPEN

    # Memory and processes are shared out among the files that may be open at the same time.
    store = structs.replace(
        options.store,
        workers=options.store.workers or 1,
        cache_bytes=max(options.store.cache_bytes // MOST_FILES_OPEN, 1),
    )
    return structs.replace(options, store=store)

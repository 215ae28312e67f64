"""A tree without a mount, for commands that read and write files: the tree that a mount shows."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import TYPE_CHECKING

from h5fs.daemon.refusals import explaining
from h5fs.errors import H5fsError, LinkLoopError, MountError, NotFoundError, show_path
from h5fs.model.location import Location
from h5fs.model.settings import Mode, StoreOptions, View, ViewOptions
from h5fs.projection.names import OBJECT_SUFFIXES
from h5fs.store import open_store
from h5fs.store.ahead.habits import Habits
from h5fs.store.ahead.walk import Asked
from h5fs.store.interface import Store
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.tree.status import Status
from h5fs.tree.tree import Tree

if TYPE_CHECKING:  # what only reads is to start fast
    from h5fs.tree import WritableTree

COPY_BYTES = 4 * 2**20
_MOST_LINKS = 40  # as the kernel follows for one path


@contextmanager
def opened_tree(
    options: StoreOptions, starter: WorkerStarter | None = None, *, habits: Habits | None = None
) -> Iterator[Tree]:
    """Open an HDF5 file as a tree to read. Raises ``MountError`` with what the user can do.

    ``habits``: what the command asks of the objects of each group that it lists.
    """
    with opened_store(options, starter, habits=habits) as store:
        views = ViewOptions(frozenset(View), are_listed=False)
        tree = Tree(store, options.limits.max_depth, views=views, habits=habits)
        yield tree
        tree.close()


@contextmanager
def opened_writable_tree(
    options: StoreOptions,
    starter: WorkerStarter | None = None,
    *,
    tell_left: Callable[[Sequence[bytes]], None] | None = None,
) -> Iterator[WritableTree]:
    """Open an HDF5 file as a tree to write to, in which each file is one of the HDF5 file.

    What waited for its object since a mount was killed is in the tree, too, and is brought into the
    HDF5 file at the end, or saved beside it; ``tell_left`` is given the paths of those. Raises
    ``MountError`` with what the user can do.
    """
    from h5fs.daemon.open_tree import leftovers_of
    from h5fs.tree import WritableTree

    with opened_store(options, starter) as store:
        tree = WritableTree(
            store, options.limits.max_depth,  # type: ignore[arg-type]
            leftovers=leftovers_of(options.file), takes_scratch=False,
        )  # fmt: skip
        yield tree
        try:
            left = tree.close()
        except H5fsError as error:
            raise MountError(f"{options.location}: {error}") from None
        if tell_left is not None:
            tell_left(left)


@contextmanager
def opened_store(
    options: StoreOptions, starter: WorkerStarter | None = None, *, habits: Habits | None = None
) -> Iterator[Store]:
    """Open an HDF5 file, with a starter of workers that has been started, or one of its own.

    Raises ``MountError`` with what the user can do.
    """
    check_file(options)
    with started(starter) as running:
        with explaining(options.location):
            store = open_store(options, running, habits=habits)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def started(starter: WorkerStarter | None) -> Iterator[WorkerStarter]:
    """Yield what starts workers; where there is none yet, start one, and end it after the block."""
    if starter is not None:
        yield starter
        return
    starter = WorkerStarter()
    starter.start()
    try:
        yield starter
    finally:
        starter.close()


def check_file(options: StoreOptions) -> None:
    """Raise ``MountError`` for what can be seen to prevent opening the file."""
    if options.url is not None:
        return  # opening it says all that there is to say
    file = options.file
    if not file.exists() and options.mode is not Mode.READ:
        return
    if os.path.isdir(file):
        raise MountError(f"{file} is a folder; name an HDF5 file")
    try:
        mode = file.stat().st_mode
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise MountError(f"{file}: {why}") from None
    if not stat.S_ISREG(mode):
        raise MountError(f"{file} is not a regular file; name an HDF5 file")


def find_object(tree: Tree | WritableTree, path: bytes) -> bytes:
    """Return the path in the mount of an object, named as HDF5 names it or as a mount does."""
    for ending in OBJECT_SUFFIXES:
        with suppress(NotFoundError):
            tree.get_status(path + ending)
            return path + ending
    raise NotFoundError(f"{show_path(path)}: no such object")


def explain_missing_object(file: Location, path: bytes) -> str:
    """Return what to say of a path at which an HDF5 file has nothing."""
    hint = _explain_selection(path) or f"h5fs tree {file} lists what there is"
    return f"{file}:{show_path(path)}: no such object; {hint}"


def _explain_selection(path: bytes) -> str:
    return "it is h5fs cat that takes a [selection]" if re.search(rb"\[[^/]*\]$", path) else ""


def explain_missing_file(tree: Tree, file: Location, path: bytes) -> str:
    """Return what to say of a path at which a mount has nothing, and which one was meant."""
    place = f"{file}:{show_path(path)}"
    hint = _explain_selection(path) or f"h5fs tree {file} lists the files"
    with suppress(H5fsError):
        tree.get_status(path + b".npy")
        hint = f"the dataset is the file {place}.npy"
    return f"{place}: no such file; {hint}"


def follow_links(tree: Tree, path: bytes) -> bytes:
    """Return what a path leads to through symbolic links, as the kernel follows them.

    What does not lead to anything is returned as far as it leads. Raises ``LinkLoopError``.
    """
    names, place, links = path.split(b"/")[::-1], b"", 0
    while names:
        name = names.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            place = place.rpartition(b"/")[0]
            continue
        text = None
        with suppress(H5fsError):  # no link; what it is, whoever opens it finds out
            text = tree.read_link(place + b"/" + name)
        if text is None:
            place += b"/" + name
            continue
        links += 1
        if links > _MOST_LINKS:
            raise LinkLoopError(f"{show_path(path)}: too many symbolic links")
        names += text.split(b"/")[::-1]
    return place or b"/"


def walking_habits() -> Habits:
    """Return what ``walk`` asks of the objects of each group: sizes."""
    return Habits(Asked.ATTRIBUTES, Asked.DATASET)


def walk(tree: Tree, path: bytes = b"/") -> Iterator[tuple[bytes, Status | H5fsError]]:
    """Yield the paths below a folder with their status, folders before what is in them.

    What cannot be listed or described comes with its error. Not recursive: groups may nest deeper
    than Python's calls can.
    """
    pending = [path]
    while pending:
        inside = pending.pop()
        if inside is not path:
            try:
                status = tree.get_status(inside)
            except H5fsError as error:
                yield inside, error
                continue
            yield inside, status
            if not stat.S_ISDIR(status.mode):
                continue
        try:
            names = sorted(dentry.name for dentry in tree.list_folder(inside))
        except H5fsError as error:
            yield inside, error
            continue
        pending += [inside.rstrip(b"/") + b"/" + name for name in reversed(names)]


def new_buffer() -> memoryview:
    """Return memory for ``read_pieces``; it takes longer to make than a small file to read."""
    return memoryview(bytearray(COPY_BYTES))


def read_pieces(tree: Tree, path: bytes, *buffers: memoryview) -> Iterator[memoryview]:
    """Yield the content of a file in pieces, each in the next buffer. Raises ``H5fsError``."""
    handle = tree.open(path, os.O_RDONLY)
    try:
        at = 0
        for buffer in cycle(buffers):
            count = tree.read_into(handle, buffer, at)
            yield buffer[:count]
            at += count
            if count < len(buffer):
                break
    finally:
        tree.release(handle)

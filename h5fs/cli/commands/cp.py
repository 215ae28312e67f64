"""``h5fs cp``: files and folders out of an HDF5 file, or into one, without a mount."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from h5fs.cli.commands.library_copy import copy_between
from h5fs.cli.commands.without_mount import (
    COPY_BYTES,
    explain_missing_file,
    explain_missing_object,
    new_buffer,
    opened_tree,
    opened_writable_tree,
    read_pieces,
    walk,
    walking_habits,
)
from h5fs.cli.file_arguments import absolute, split_place
from h5fs.cli.output.progress import progress_bar
from h5fs.errors import H5fsError, MountError, NotFoundError, UsageError, show_path
from h5fs.model.location import Location
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.format.superblock import has_hdf5_name
from h5fs.system.system_errors import explain_system_error
from h5fs.tree.status import Status

if TYPE_CHECKING:
    from h5fs.store.workers.starting.worker_starter import WorkerStarter
    from h5fs.tree import Tree, WritableTree

_KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def run(arguments: argparse.Namespace) -> int:
    """Copy; return the exit status."""
    source = split_place(arguments.source, needs_file=False)
    target = split_place(arguments.target, needs_file=False)
    if source is None and target is None:
        raise UsageError(
            "SOURCE or TARGET must be FILE:/PATH: h5fs cp FILE:/ FOLDER, or h5fs cp x.npy FILE:/"
        )
    try:
        if source is not None:
            of_contents = _names_contents(os.fsencode(arguments.source))
            source = source[0], os.path.normpath(source[1])
            if target is not None:
                return copy_between(source, target, arguments.starter, of_contents=of_contents)
            _check_target(arguments.source, arguments.target)
            return _copy_out(
                *source, Path(arguments.target), arguments.starter, of_contents=of_contents
            )
        assert target is not None
        return _copy_in(arguments.source, *target, arguments.starter)
    except MountError:
        raise
    except OSError as error:
        raise MountError(explain_system_error(error)) from None


def _check_target(source: str, target: str) -> None:
    """Refuse to make a folder, or a .npy file, of an HDF5 file's name: one of those was meant.

    Raises ``UsageError``.
    """
    if has_hdf5_name(os.fsencode(target)) and not os.path.lexists(target):
        raise UsageError(
            f"{target} would be no HDF5 file; into one: h5fs cp {source} {target}:/ (into a folder "
            f"of that name: {target}/)"
        )


def _copy_out(
    file: Location,
    path: bytes,
    target: Path,
    starter: WorkerStarter | None,
    *,
    of_contents: bool,
) -> int:
    options = StoreOptions(absolute(file))
    with opened_tree(options, starter, habits=walking_habits()) as tree:
        try:
            status = tree.get_status(path)
        except NotFoundError:
            raise MountError(explain_missing_file(tree, file, path)) from None
        except H5fsError as error:
            raise MountError(f"{file}:{show_path(path)}: {error}") from None
        if target.is_dir() and path != b"/" and not of_contents:
            target /= os.fsdecode(path.rpartition(b"/")[2])
        if of_contents and not stat.S_ISDIR(status.mode):
            raise MountError(f"{file}:{show_path(path)} is not a group")
        found = [(path, status), *(walk(tree, path) if stat.S_ISDIR(status.mode) else ())]
        sizes = [each.size_bytes for _, each in found if isinstance(each, Status)]
        failures = _Failures()
        with (
            ThreadPoolExecutor(1) as thread,
            progress_bar(f"copying from {file.name}", sum(sizes)) as bar,
        ):
            writer = _Writer(tree, thread, bar)
            for inside, each in found:
                if failures.is_below(inside):
                    continue
                place = target.joinpath(*os.fsdecode(inside[len(path) :]).split("/"))
                try:
                    if isinstance(each, H5fsError):
                        raise each
                    _copy_one(tree, inside, each, place, writer, is_target=inside == path)
                except (H5fsError, OSError) as error:
                    failures.add(inside, is_folder=_has_files(each))
                    # An error of the system is about the copy, not about the HDF5 file.
                    of_system = isinstance(error, OSError)
                    _complain(bar, os.fsencode(place) if of_system else inside, error)
    return failures.exit_status


class _Failures:
    """What could not be copied. Where a folder could not, nothing below it is tried."""

    def __init__(self) -> None:
        self._folder: bytes | None = None
        self.exit_status = 0

    def add(self, path: bytes, *, is_folder: bool) -> None:
        """Note one more failure."""
        self.exit_status = 1
        if is_folder:
            self._folder = path.rstrip(b"/") + b"/"

    def is_below(self, path: bytes) -> bool:
        """Whether a path, in the order of a walk, is in a folder that could not be copied."""
        return self._folder is not None and path.startswith(self._folder)


def _has_files(status: Status | H5fsError) -> bool:
    return isinstance(status, Status) and stat.S_ISDIR(status.mode)


def _complain(bar: Any, path: bytes, error: H5fsError | OSError) -> None:
    why = str(error) if isinstance(error, H5fsError) else str(error.strerror)
    bar.write(f"h5fs: {show_path(path)}: {why}", file=sys.stderr)


def _copy_one(
    tree: Tree, path: bytes, status: Status, place: Path, writer: _Writer, *, is_target: bool
) -> None:
    """Copy out one file, folder or link.

    Below the target that the user named, nothing is written through a symbolic link: a link that an
    earlier copy made could lead anywhere. Raises ``H5fsError``, ``OSError``.
    """
    if stat.S_ISDIR(status.mode):
        if not is_target and place.is_symlink():
            raise FileExistsError(errno.EEXIST, "a symbolic link is in the way", str(place))
        place.mkdir(parents=is_target, exist_ok=True)
    elif stat.S_ISLNK(status.mode):
        text = os.fsdecode(tree.read_link(path))
        if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            place.unlink()
        os.symlink(text, place)
    else:
        flags = 0 if is_target else os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o666)
        with open(descriptor, "wb") as copy:
            writer.write(path, copy)


class _Writer:
    """Writes pieces of large files while the next ones are read."""

    def __init__(self, tree: Tree, thread: Executor, bar: Any) -> None:
        self._tree = tree
        self._thread = thread
        self._bar = bar
        self._buffers = new_buffer(), new_buffer()

    def write(self, path: bytes, copy: BinaryIO) -> None:
        """Copy the content of a file. Raises ``H5fsError``, ``OSError``."""
        writing: Future[int] | None = None
        try:
            for piece in read_pieces(self._tree, path, *self._buffers):
                if writing is not None:
                    writing.result()
                    writing = None
                if len(piece) == COPY_BYTES:
                    writing = self._thread.submit(copy.write, piece)
                else:  # the last one; to wait for another thread would take longer
                    copy.write(piece)
                self._bar.update(len(piece))
        finally:
            if writing is not None:
                writing.result()


def _copy_in(text: str, file: Location, path: bytes, starter: WorkerStarter | None) -> int:
    source, of_contents = Path(text), _names_contents(os.fsencode(text))
    if not os.path.lexists(source):
        raise MountError(f"{text}: no such file")
    if of_contents:
        if not source.is_dir():
            raise MountError(f"{text} is not a folder")
        source = source.resolve() if source.is_symlink() else source
    found = list(walk_local(source))
    total = sum(_size_of(each) for _, each in found)
    options = StoreOptions(absolute(file), mode=Mode.APPEND)
    failed = False
    copied: set[bytes] = set()
    left: list[bytes] = []  # each has its line: it was saved beside the HDF5 file
    with (
        opened_writable_tree(options, starter, tell_left=left.extend) as tree,
        progress_bar(f"copying to {file.name}", total) as bar,
    ):
        if not of_contents and (path == b"/" or _is_folder(tree, path)):
            path = path.rstrip(b"/") + b"/" + os.fsencode(os.path.basename(source.absolute()))
        group = path.rpartition(b"/")[0]
        if group and not _mode_of(tree, group):
            raise MountError(explain_missing_object(file, group))
        for each, status in found:
            relative = os.fsencode(each.relative_to(source)) if each != source else b""
            inside = path.rstrip(b"/") + b"/" + relative if relative else path
            try:
                if isinstance(status, OSError):
                    raise status
                _put_one(tree, each, status, inside, bar)
                copied.add(inside)
            except (H5fsError, OSError) as error:
                failed = True
                _complain(bar, os.fsencode(each), error)
    return 1 if failed or not copied.isdisjoint(left) else 0


def walk_local(source: Path) -> Iterator[tuple[Path, os.stat_result | OSError]]:
    """Yield a file, or a folder and all that is in it, folders before their content.

    Each path comes with its status (a symbolic link with its own), or with the error where there is
    none. A folder that cannot be listed comes a second time, with that error.
    """
    pending = [source]
    while pending:
        path = pending.pop()
        try:
            status = os.lstat(path)
        except OSError as error:
            yield path, error
            continue
        yield path, status
        if not stat.S_ISDIR(status.st_mode):
            continue
        try:
            names = sorted(os.listdir(path), key=lambda name: (name.endswith(".attrs.json"), name))
        except OSError as error:
            yield path, error
            continue
        pending += [path / name for name in reversed(names)]


def _names_contents(text: bytes) -> bool:
    """Whether a path means what is in a folder, and not the folder by its name."""
    return text.rpartition(b"/")[2] in (b"", b".", b"..")


def _size_of(status: os.stat_result | OSError) -> int:
    if isinstance(status, OSError) or not stat.S_ISREG(status.st_mode):
        return 0
    return status.st_size


def _is_folder(tree: WritableTree, path: bytes) -> bool:
    return stat.S_ISDIR(_mode_of(tree, path))


def _mode_of(tree: WritableTree, path: bytes) -> int:
    """Return type and permissions of what is at a path, 0 when nothing is that could be told of."""
    try:
        return tree.get_status(path).mode
    except H5fsError:
        return 0


def _put_one(
    tree: WritableTree, local: Path, status: os.stat_result, path: bytes, bar: Any
) -> None:
    """Copy in one file, folder or link, to the place of one that is there as ``cp`` does it.

    Raises ``H5fsError``, ``OSError``.
    """
    if stat.S_ISLNK(status.st_mode):
        _put_link(tree, os.fsencode(os.readlink(local)), path)
    elif stat.S_ISDIR(status.st_mode):
        if not _is_folder(tree, path):
            tree.make_folder(path)
    elif stat.S_ISREG(status.st_mode):
        # The file may have become a pipe since; opening that would wait for a writer.
        descriptor = os.open(local, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as opened:
            _put_file(tree, opened, path, bar)
    else:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
        raise OSError(errno.EINVAL, f"{kind}, which HDF5 has nothing for")


def _put_link(tree: WritableTree, text: bytes, path: bytes) -> None:
    mode = _mode_of(tree, path)
    if stat.S_ISLNK(mode) and tree.read_link(path) == text:
        return
    if mode and not stat.S_ISDIR(mode):
        tree.unlink(path)
    tree.make_symbolic_link(text, path)


def _put_file(tree: WritableTree, opened: BinaryIO, path: bytes, bar: Any) -> None:
    handle = tree.create(path, os.O_WRONLY | os.O_TRUNC)
    try:
        at = 0
        while piece := opened.read(COPY_BYTES):
            tree.write(handle, memoryview(piece), at)
            at += len(piece)
            bar.update(len(piece))
        tree.flush(handle, 0)
    except BaseException:
        tree.give_up(handle)  # the file itself stays where it is
        raise
    finally:
        tree.release(handle)

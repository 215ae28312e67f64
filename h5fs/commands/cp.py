"""``h5fs cp``: files and folders out of an HDF5 file, or into one, without a mount."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import Any

from h5fs.commands.offline import COPY_BYTES, opened_tree, read_pieces, split_place, walk
from h5fs.commands.progress import progress_bar
from h5fs.errors import H5fsError, MountError, UsageError, show_path
from h5fs.options import Mode, StoreOptions
from h5fs.tree import Tree, WritableTree
from h5fs.tree.status import Status


def run(arguments: argparse.Namespace) -> int:
    """Copy; return the exit status."""
    source = split_place(arguments.source, needs_file=False)
    target = split_place(arguments.target, needs_file=False)
    if (source is None) == (target is None):
        raise UsageError(
            "one of SOURCE and TARGET must be FILE:/PATH, and only one: h5fs cp FILE:/ FOLDER, or "
            "h5fs cp x.npy FILE:/"
        )
    try:
        if source is not None:
            return _copy_out(*source, Path(arguments.target))
        assert target is not None
        return _copy_in(Path(arguments.source), *target)
    except OSError as error:
        raise MountError(f"{error.filename}: {error.strerror}") from None


def _copy_out(file: Path, path: bytes, target: Path) -> int:
    with opened_tree(StoreOptions(file.absolute())) as tree:
        try:
            status = tree.get_status(path)
        except H5fsError as error:
            raise MountError(f"{file}:{show_path(path)}: {error}") from None
        if target.is_dir() and path != b"/":
            target /= os.fsdecode(path.rpartition(b"/")[2])
        found = [(path, status), *(walk(tree, path) if stat.S_ISDIR(status.mode) else ())]
        sizes = [each.size_bytes for _, each in found if isinstance(each, Status)]
        failed = 0
        with progress_bar(f"copying from {file.name}", sum(sizes)) as bar:
            for inside, each in found:
                place = target.joinpath(*os.fsdecode(inside[len(path) :]).split("/"))
                try:
                    if isinstance(each, H5fsError):
                        raise each
                    _copy_one(tree, inside, each, place, bar)
                except H5fsError as error:
                    failed += 1
                    bar.write(f"h5fs: {show_path(inside)}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _copy_one(tree: Tree, path: bytes, status: Status, place: Path, bar: Any) -> None:
    if stat.S_ISDIR(status.mode):
        place.mkdir(parents=True, exist_ok=True)
    elif stat.S_ISLNK(status.mode):
        os.symlink(os.fsdecode(tree.read_link(path)), place)
    else:
        with place.open("wb") as copy:
            for piece in read_pieces(tree, path):
                copy.write(piece)
                bar.update(len(piece))


def _copy_in(source: Path, file: Path, path: bytes) -> int:
    found = _list_local(source)
    total = sum(each.stat().st_size for each in found if each.is_file())
    options = StoreOptions(file.absolute(), mode=Mode.APPEND)
    failed = 0
    with opened_tree(options) as tree, progress_bar(f"copying to {file.name}", total) as bar:
        assert isinstance(tree, WritableTree)
        if path == b"/" or _is_folder(tree, path):
            path = path.rstrip(b"/") + b"/" + os.fsencode(source.resolve().name)
        for each in found:
            relative = os.fsencode(each.relative_to(source)) if each != source else b""
            inside = path + b"/" + relative if relative else path
            try:
                _put_one(tree, each, inside, bar)
            except H5fsError as error:
                failed += 1
                bar.write(f"h5fs: {each}: {error}", file=sys.stderr)
    return 1 if failed else 0


def _list_local(source: Path) -> list[Path]:
    if not os.path.lexists(source):
        raise MountError(f"{source}: no such file")
    if source.is_symlink() or not source.is_dir():
        return [source]
    return [source, *sorted(source.rglob("*"))]


def _is_folder(tree: Tree, path: bytes) -> bool:
    try:
        return stat.S_ISDIR(tree.get_status(path).mode)
    except H5fsError:
        return False


def _put_one(tree: WritableTree, local: Path, path: bytes, bar: Any) -> None:
    if local.is_symlink():
        tree.make_symbolic_link(os.fsencode(os.readlink(local)), path)
    elif local.is_dir():
        if not _is_folder(tree, path):
            tree.make_folder(path)
    else:
        handle = tree.create(path, os.O_WRONLY | os.O_TRUNC)
        try:
            at = 0
            with local.open("rb") as opened:
                while piece := opened.read(COPY_BYTES):
                    tree.write(handle, memoryview(piece), at)
                    at += len(piece)
                    bar.update(len(piece))
            tree.flush(handle, 0)
        finally:
            tree.release(handle)

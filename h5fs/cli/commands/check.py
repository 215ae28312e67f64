"""``h5fs check FILE``: what state a file and its log are in, and whether all of it can be read."""

from __future__ import annotations

import argparse
import os
import stat
from pathlib import Path

from h5fs.cli.commands.without_mount import (
    new_buffer,
    opened_tree,
    read_pieces,
    walk,
    walking_habits,
)
from h5fs.cli.file_arguments import absolute_path
from h5fs.cli.output.progress import progress_bar
from h5fs.cli.output.sizes import show_count
from h5fs.errors import CannotOpenError, H5fsError, MountError, show_path
from h5fs.model.location import Url
from h5fs.model.settings import StoreOptions
from h5fs.store.format.superblock import explain_version, read_superblock
from h5fs.store.log.file_and_log import explain_damage, read_boot_id
from h5fs.store.log.log_on_disk import open_to_look
from h5fs.store.log.log_path import find_log, has_log
from h5fs.store.log.recovery import describe_log
from h5fs.store.log.system_calls import RealFile
from h5fs.store.sources.local_file import LocalFile
from h5fs.store.split_files import explain_part
from h5fs.tree import Tree
from h5fs.tree.status import Status


def run(arguments: argparse.Namespace) -> int:
    """Check a file; return 0 when nothing is wrong, 1 when something is."""
    if not isinstance(arguments.file, Path):
        return _check_url(arguments.file)
    file = absolute_path(arguments.file)
    if os.path.isdir(file):
        raise MountError(f"{file} is a folder; name an HDF5 file")
    _tell_superblock(file)
    is_damaged = _tell_log(file)
    with opened_tree(StoreOptions(file), habits=walking_habits()) as tree:
        print("opens: yes")
        return max(_read_all(tree, file.name), int(is_damaged))


def _check_url(url: Url) -> int:
    with opened_tree(StoreOptions(url), habits=walking_habits()) as tree:
        print("opens: yes")
        return _read_all(tree, url.name)


def _tell_superblock(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            superblock = read_superblock(LocalFile(opened.fileno()))
    except FileNotFoundError:
        raise MountError(f"{file}: no such file") from None
    except OSError as error:
        raise MountError(f"{file}: {error.strerror}") from None
    if superblock is None:
        if has_log(file):
            print("no HDF5 signature: all of the file is in its log")
            return
        no_signature = f"{file} is not an HDF5 file (it has no HDF5 signature)"
        raise MountError(explain_part(file) or no_signature)
    print(f"superblock: version {superblock.version} at byte {superblock.offset_bytes}")
    if not superblock.is_known:
        raise MountError(f"{file} cannot be opened: {explain_version(superblock)}")
    if superblock.is_open_for_write:
        print(
            "marked open for write: yes. A program writes it, or died while it did; if none does: "
            f"h5fs recover --clear-flag {file}"
        )
    else:
        print("marked open for write: no")


def _tell_log(file: Path) -> bool:
    """Tell what the log has; return whether it is damaged."""
    if not has_log(file):
        print("log: none")
        return False
    path = find_log(file)
    with file.open("rb") as main:
        try:
            log, is_in_use = open_to_look(path, main.fileno())
        except CannotOpenError as error:
            raise MountError(str(error)) from None
        with open(log, "rb"):
            found = describe_log(RealFile(main.fileno()), RealFile(log), read_boot_id())
    if found.mismatch:
        print(f"log: {path}, of another file: {found.mismatch}")
        return True
    lost = f"; {found.lost_commits} more were lost when the system was started anew"
    print(
        f"log: {path}, {show_count(found.commits, 'commit')} "
        f"({found.durable_commits} of them on the disk{lost if found.lost_commits else ''}), "
        f"{found.pages * found.page_bytes} bytes to be "
        f"brought into the file: the next mount that writes does it, or h5fs recover {file}"
    )
    # A log that is just being written may look damaged.
    problem = "" if is_in_use else explain_damage(path, found)
    if problem:
        print(f"log: {problem}")
    elif found.rest.size_bytes and not is_in_use:
        print(f"log: behind them {found.rest.size_bytes} bytes of a commit that was not finished")
    return bool(problem)


def _read_all(tree: Tree, name: str) -> int:
    files: list[tuple[bytes, Status]] = []
    errors: list[tuple[bytes, H5fsError]] = []
    seen: set[int] = set()
    for path, status in walk(tree):
        if isinstance(status, H5fsError):
            errors.append((path, status))
        elif stat.S_ISREG(status.mode) and status.inode not in seen:
            seen.add(status.inode)
            files.append((path, status))
    total, buffer = sum(status.size_bytes for _, status in files), new_buffer()
    with progress_bar(f"reading {name}", total) as bar:
        for path, _ in files:
            try:
                for piece in read_pieces(tree, path, buffer):
                    bar.update(len(piece))
            except H5fsError as error:
                errors.append((path, error))
    for path, reason in errors:
        print(f"{show_path(path)}: {reason}")
    print(
        f"read: {show_count(len(files), 'file')} of the tree, {show_count(total, 'byte')}, "
        f"{show_count(len(errors), 'error')}"
    )
    return 1 if errors else 0

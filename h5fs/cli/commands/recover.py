"""``h5fs recover FILE``: bring a file to the last commit in its log, or clear a dead writer's mark.

What a killed mount has kept in the file for later is brought to its end as well, as the next mount
that writes would do it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from h5fs.cli.commands.without_mount import opened_writable_tree
from h5fs.cli.file_arguments import absolute_path
from h5fs.cli.output.progress import progress_bar
from h5fs.daemon.recent_messages import keep_recent_messages
from h5fs.daemon.refusals import with_own_mount
from h5fs.errors import CannotOpenError, MountError
from h5fs.model.settings import Locking, Mode, StoreOptions
from h5fs.store.format.superblock import clear_write_mark
from h5fs.store.log.file_and_log import open_logged, read_boot_id
from h5fs.store.log.log_path import has_log


def _clear_mark(file: Path, descriptor: int) -> bool:
    try:
        return clear_write_mark(descriptor)
    except CannotOpenError as error:
        raise MountError(f"{file}: {error}") from None


def run(arguments: argparse.Namespace) -> int:
    """Recover; return the exit status."""
    file = absolute_path(arguments.file)
    if os.path.isdir(file):
        raise MountError(f"{file} is a folder; name an HDF5 file")
    if not file.is_file():
        raise MountError(f"{file}: no such file")
    had_log = has_log(file)
    try:
        with progress_bar(f"recovering {file.name}", None) as bar:
            files = open_logged(
                file, Mode.UPDATE, Locking.DEFAULT, read_boot_id(),
                checks=not arguments.clear_flag, may_have_links=True, on_write=bar.update,
            )  # fmt: skip
        assert files is not None
        try:
            is_cleared = arguments.clear_flag and _clear_mark(file, files.main)
        finally:
            files.close(removes_log=True)
    except CannotOpenError as error:
        raise MountError(with_own_mount(file, str(error))) from None
    except MountError:  # it is an OSError, too
        raise
    except OSError as error:
        raise MountError(f"{file} could not be recovered: {error.strerror}") from None
    print("log: brought into the file" if had_log else "log: none")
    if files.problem:
        print(f"log: {files.problem}")
    if arguments.clear_flag:
        print("mark: cleared" if is_cleared else "mark: none")
    is_all_in = not had_log or _end_waiting(file)
    return 0 if is_all_in and not files.problem else 1


def _end_waiting(file: Path) -> bool:
    """Apply or save what waits in a file since a mount was killed; whether all could be applied."""
    recent = keep_recent_messages()
    try:
        with opened_writable_tree(StoreOptions(file, mode=Mode.UPDATE)):
            pass
    except MountError as error:
        print(f"h5fs: what waits in the file, if anything, stays there: {error}", file=sys.stderr)
        return True
    return not recent.messages()

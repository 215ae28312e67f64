"""``h5fs umount MOUNTPOINT``: unmount, and say what has not come into an HDF5 file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from h5fs.cli.reports import tell_reports
from h5fs.daemon.mounting import unmount
from h5fs.errors import MountError, UsageError, say_on_one_line
from h5fs.system.kernel_mounts import read_mounts


def run(arguments: argparse.Namespace) -> int:
    """Unmount; return 1 when not everything has come into an HDF5 file. Raises ``MountError``."""
    if arguments.all == (arguments.mountpoint is not None):
        raise UsageError("umount takes a MOUNTPOINT or --all (see h5fs umount --help)")
    places = _own_mountpoints() if arguments.all else [arguments.mountpoint]
    status = 0
    for place in places:
        try:
            ended = unmount(place, is_lazy=arguments.lazy)
        except MountError as error:
            if not arguments.all:
                raise
            print(f"h5fs: {say_on_one_line(error)}", file=sys.stderr)
            status = 1
            continue
        if ended.is_in_use:
            print(f"h5fs: {place} is in use; it ends with the last use", file=sys.stderr)
        if ended.reports:
            tell_reports(ended.reports)
            status = 1
    return status


def _own_mountpoints() -> list[Path]:
    uid = os.getuid()
    return [each.mountpoint for each in read_mounts() if each.is_h5fs and each.uid == uid]

"""Files and folders of the system, as ``h5fs cp`` takes them in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


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

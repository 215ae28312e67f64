"""Files and folders of the system, as ``h5fs cp`` takes them in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def walk_local(source: Path) -> Iterator[tuple[Path, os.stat_result | OSError]]:
    """Yield a file, or a folder and all that is in it, folders before their content.

    Each comes with its status, of symbolic links their own, or with why there is none; so does,
    once more, a folder that cannot be listed.
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
            names = sorted(os.listdir(path))
        except OSError as error:
            yield path, error
            continue
        pending += [path / name for name in reversed(names)]

"""Files that a mount that writes leaves beside an HDF5 file, because they cannot go into it.

Imported by commands that start fast: no numpy.
"""

from __future__ import annotations

import os
from pathlib import Path

REPLACED_SUFFIX = ".h5fs-replaced"
"""Follows the HDF5 file's name: all of a file that has lost its name."""

ASIDE_SUFFIX = "-aside"
"""Follows the log's name: a damaged log, or the log of a file that was overwritten."""

_LOG_ASIDE_SUFFIX = f".h5fs-log{ASIDE_SUFFIX}"


def kept_beside(file: Path) -> set[Path]:
    """Return what is there of such files, in whatever state the HDF5 file itself is."""
    real = Path(os.path.realpath(file))
    beginnings = real.name + REPLACED_SUFFIX, real.name + _LOG_ASIDE_SUFFIX
    try:
        return {each for each in real.parent.iterdir() if each.name.startswith(beginnings)}
    except OSError:  # this user may not look into the folder
        return set()

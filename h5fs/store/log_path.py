"""Where the redo log of an HDF5 file is."""

from __future__ import annotations

import os
from pathlib import Path

LOG_SUFFIX = ".h5fs-log"


def log_path(file: Path) -> Path:
    """Return the log's path: in the folder of the file itself, wherever symbolic links lead."""
    real = Path(os.path.realpath(file))
    return real.with_name(real.name + LOG_SUFFIX)


def has_log(file: Path) -> bool:
    """Whether a file has a log with something in it."""
    try:
        return log_path(file).stat().st_size > 0
    except OSError:
        return False

"""What is left at the end of a mount and is not in the HDF5 file: saved beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from h5fs.errors import H5fsError, show_path
from h5fs.tree.writable_file import WritableFile

_log = logging.getLogger(__name__)

_COPY_BYTES = 2**20


def keep_leftovers(folder: Path | None, files: Sequence[WritableFile]) -> None:
    """Save files under their paths below ``folder``, each with a line in the log.

    Those of no bytes are dropped.
    """
    for file in files:
        if not file.size_bytes or folder is None:
            continue
        target = folder.joinpath(*map(os.fsdecode, file.path.split(b"/")))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _save(file, target)
        except (OSError, H5fsError) as error:
            _log.error("%s could not be saved as %s: %s", show_path(file.path), target, error)
        else:
            _log.warning("%s is not in the HDF5 file; saved as %s", show_path(file.path), target)


def _save(file: WritableFile, target: Path) -> None:
    buffer = memoryview(bytearray(_COPY_BYTES))
    with target.open("wb") as copy:
        at = 0
        while count := file.read_into(buffer, at):
            copy.write(buffer[:count])
            at += count
        copy.flush()
        os.fsync(copy.fileno())

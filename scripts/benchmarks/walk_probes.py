"""Programs that walk a tree of small datasets and are timed: see ``probes``."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Work = Callable[[], Any]

_MEMORY = "/dev/shm"  # making a file on a disk takes 0.04 ms at one time and 0.5 ms at another

ATTRIBUTE_FILES = ".attrs.json"

# Each copies the folder to the target.
_COPIES: dict[str, Callable[[str, str], list[str]]] = {
    "cp": lambda folder, target: ["cp", "-r", folder, target],
    "rsync": lambda folder, target: ["rsync", "-a", f"{folder}/", target],
    "tar": lambda folder, target: ["tar", "cf", target, "-C", folder, "."],
}


def copy_tree(program: str, folder: str) -> Work:
    """Copy all files of a folder. Digest: what h5py would have read."""
    target = make_target()

    def work() -> Callable[[], Any]:
        subprocess.run(_COPIES[program](folder, str(target)), check=True)
        return lambda: sum_up_and_remove(target)

    return work


def make_target() -> Path:
    """Return where a copy may be made, in a new folder in memory."""
    return Path(tempfile.mkdtemp(dir=_MEMORY if os.path.isdir(_MEMORY) else None), "copy")


def sum_up_and_remove(target: Path) -> list[float]:
    """Return what is in a copy, as h5py would have read it; remove the copy and its folder."""
    found = _Found()
    for name, content in _files_in(target):
        if name.endswith(ATTRIBUTE_FILES):
            found.note_attributes(json.loads(content))
        else:
            found.note_array(np.load(io.BytesIO(content)))
    shutil.rmtree(target.parent)
    return found.digest()


def _files_in(target: Path) -> Iterator[tuple[str, bytes]]:
    if target.is_dir():
        for path in target.rglob("*.*"):
            yield path.name, path.read_bytes()
        return
    with tarfile.open(target) as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened is not None:
                yield member.name, opened.read()


def visit_with_h5py(file: str, *, with_data: bool) -> Work:
    """Visit all objects of a file with h5py, and read their attributes and data."""
    import h5py

    attributes: list[Any] = []
    arrays: list[Any] = []

    def note(_name: str, found: Any) -> None:
        attributes.append(dict(found.attrs))
        if with_data and isinstance(found, h5py.Dataset):
            arrays.append(found[...])

    def work() -> Callable[[], Any]:
        with h5py.File(file, "r") as opened:
            opened.visititems(note)
        return lambda: _digest_of(attributes, arrays)

    return work


def _digest_of(attributes: list[Any], arrays: list[Any]) -> list[float]:
    found = _Found()
    for each in attributes:
        found.note_attributes(each)
    for array in arrays:
        found.note_array(array)
    return found.digest()


class _Found:
    """Counts and sums of what was read, by whatever way."""

    def __init__(self) -> None:
        self._arrays = self._attributes = 0
        self._sum = 0.0

    def note_array(self, array: Any) -> None:
        self._arrays += 1
        self._sum += float(array.sum())

    def note_attributes(self, attributes: dict[str, Any]) -> None:
        self._attributes += sum(not name.startswith("$") for name in attributes)

    def digest(self) -> list[float]:
        return [self._arrays, self._attributes, self._sum]


WALK_PROBES: dict[str, Callable[..., Work]] = {
    "copy_tree": copy_tree,
    "visit_with_h5py": visit_with_h5py,
}

"""Where HDF5 looks for the files that datasets name: sources of virtual ones, and raw data."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_MAX_SOURCES = 2**16  # that one name with %b stands for
_PREFIXES = ("HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX")


class Place(NamedTuple):
    """A real path, and what is there; None where nothing is."""

    path: str
    status: os.stat_result | None

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode number."""
        return None if self.status is None else (self.status.st_dev, self.status.st_ino)


class RealPlaces:
    """Finds real paths; those of folders are found once, since sources are mostly in one folder.

    To be used for one look at the sources of a dataset, and then forgotten.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def at(self, path: str) -> Place:
        """Return what an absolute path leads to, after all symbolic links."""
        folder, name = os.path.split(path)
        if name not in ("", ".", ".."):
            if folder not in self._folders:
                self._folders[folder] = os.path.realpath(folder)
            place = _place_at(os.path.join(self._folders[folder], name), os.lstat)
            if place.status is None or not stat.S_ISLNK(place.status.st_mode):
                return place
        return Place(os.path.realpath(path), _place_at(path, os.stat).status)


def _place_at(path: str, look: Callable[[str], os.stat_result]) -> Place:
    try:
        return Place(path, look(path))
    except (OSError, ValueError):  # a path with a null character is that of nothing
        return Place(path, None)


def has_prefixes() -> bool:
    """Whether the environment names folders in which HDF5 looks before all others."""
    return any(prefix in os.environ for prefix in _PREFIXES)


def spell_out(name: str, number: int) -> str:
    """Return a source's name with a number for each ``%b``, as HDF5 has it."""
    return re.sub("%[b%]", lambda found: str(number) if found[0] == "%b" else "%", name)


def _existing_places(name: str, beside: Path, places: RealPlaces) -> list[Place]:
    """Return what is there where HDF5 looks for a source or for raw data."""
    # Of an absolute path HDF5 looks for the last part elsewhere; of a relative one, for all of it.
    part = os.path.basename(name.rstrip("/")) if os.path.isabs(name) else name
    here = os.getcwd()
    paths = [name] if os.path.isabs(name) else []
    paths += [os.path.join(folder, part) for folder in (beside, here)]
    for variable in _PREFIXES:
        for prefix in filter(None, os.environ.get(variable, "").split(":")):
            folder = prefix.replace("${ORIGIN}", os.fspath(beside))
            paths.append(os.path.join(here, folder, part))
    # Mostly a name has no folder, and several of these are one.
    found = [places.at(path) for path in dict.fromkeys(paths)]
    return list({place.path: place for place in found if place.status is not None}.values())


def find_sources(name: str, beside: Path, places: RealPlaces) -> list[Place]:
    """Return the files that HDF5 finds under a name."""
    found = {place.path: place for place in _existing_places(name, beside, places)}
    # ``%b`` counts from 0, and HDF5 looks no further than to the first that is not there.
    for number in range(_MAX_SOURCES if "%" in name else 0):
        spelled = spell_out(name, number)
        there = _existing_places(spelled, beside, places)
        more = {place.path: place for place in there if place.path not in found}
        if not more:
            break
        found |= more
    return list(found.values())

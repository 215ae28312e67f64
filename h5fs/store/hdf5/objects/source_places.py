"""Where HDF5 looks for the files that datasets name: sources of virtual ones, and raw data."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PREFIXES = ("HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX")


def has_prefixes() -> bool:
    """Whether the environment names folders in which HDF5 looks before all others."""
    return any(prefix in os.environ for prefix in _PREFIXES)


def spell_out(name: str, number: int) -> str:
    """Return a source's name with a number for each ``%b``, as HDF5 has it."""
    return re.sub("%[b%]", lambda found: str(number) if found[0] == "%b" else "%", name)


def existing_places(name: str, beside: Path) -> list[Path]:
    """Return the real paths of what is there where HDF5 looks for a source or for raw data."""
    last = Path(name).name
    places = [beside / name, beside / last, Path.cwd() / name, Path.cwd() / last]
    for variable in _PREFIXES:
        for prefix in filter(None, os.environ.get(variable, "").split(":")):
            folder = prefix.replace("${ORIGIN}", os.fspath(beside))
            places += [Path(folder, name.lstrip("/")), Path(folder, last)]
    return [Path(os.path.realpath(place)) for place in places if place.exists()]

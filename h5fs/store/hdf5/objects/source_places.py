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
    last = os.path.basename(name.rstrip("/"))
    here = os.getcwd()
    places = [os.path.join(folder, part) for folder in (beside, here) for part in (name, last)]
    for variable in _PREFIXES:
        for prefix in filter(None, os.environ.get(variable, "").split(":")):
            folder = prefix.replace("${ORIGIN}", os.fspath(beside))
            places += [os.path.join(folder, part) for part in (name.lstrip("/"), last)]
    # Mostly a name has no folder, and several of these are one.
    there = filter(os.path.exists, dict.fromkeys(places))
    return [Path(place) for place in dict.fromkeys(map(os.path.realpath, there))]

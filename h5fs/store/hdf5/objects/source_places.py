"""Where HDF5 looks for the files that datasets name: sources of virtual ones, and raw data."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MAX_SOURCES = 2**16  # that one name with %b stands for
_PREFIXES = ("HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX")


def has_prefixes() -> bool:
    """Whether the environment names folders in which HDF5 looks before all others."""
    return any(prefix in os.environ for prefix in _PREFIXES)


def spell_out(name: str, number: int) -> str:
    """Return a source's name with a number for each ``%b``, as HDF5 has it."""
    return re.sub("%[b%]", lambda found: str(number) if found[0] == "%b" else "%", name)


def existing_places(name: str, beside: Path) -> list[Path]:
    """Return the real paths of what is there where HDF5 looks for a source or for raw data."""
    # Of an absolute path HDF5 looks for the last part elsewhere; of a relative one, for all of it.
    part = os.path.basename(name.rstrip("/")) if os.path.isabs(name) else name
    places = [name] if os.path.isabs(name) else []
    places += [os.path.join(folder, part) for folder in (beside, os.getcwd())]
    for variable in _PREFIXES:
        for prefix in filter(None, os.environ.get(variable, "").split(":")):
            places.append(os.path.join(prefix.replace("${ORIGIN}", os.fspath(beside)), part))
    # Mostly a name has no folder, and several of these are one.
    there = filter(os.path.exists, dict.fromkeys(places))
    return [Path(place) for place in dict.fromkeys(map(os.path.realpath, there))]


def find_sources(name: str, beside: Path) -> list[Path]:
    """Return the real paths of the files that HDF5 finds under a name."""
    found = dict.fromkeys(existing_places(name, beside))
    # ``%b`` counts from 0, and HDF5 looks no further than to the first that is not there.
    for number in range(_MAX_SOURCES if "%" in name else 0):
        spelled = spell_out(name, number)
        more = [path for path in existing_places(spelled, beside) if path not in found]
        if not more:
            break
        found |= dict.fromkeys(more)
    return list(found)

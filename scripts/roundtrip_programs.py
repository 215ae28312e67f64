#!/usr/bin/env python3
"""Send one file of each of several programs round, and let the program that made it open the copy.

    python scripts/roundtrip_programs.py [NAME ...] [--keep FOLDER] [--matlab FILE.mat] [--details]

Each file is made by its program, with what is typical of it, and copied in three ways:

- cp -r:                      `cp -r` out of a mount in mode r to a folder, and `cp -r` of this
                              folder into a mount in mode w of a new file
- h5fs cp through a folder:   `h5fs cp FILE:/ DIR`, and `h5fs cp DIR/. NEW.h5:/`
- h5fs cp file to file:       `h5fs cp FILE:/ NEW.h5:/`

Then the program opens each copy, and what it reads is compared with what it reads of its own file
(values, types, attributes, dimensions, ...: one "item" each). What HDF5 itself says of objects
(types, chunks, filters, limits of the shape, fill values, attributes) is compared with h5py.
Prints a table in Markdown. `--details` also prints each item that differs.

Nothing is installed: where a package is missing, its row says so and is left out. All of them:

    pip install xarray h5netcdf netCDF4 anndata pynwb pandas tables nexusformat keras jax \\
        hdf5storage mat73
"""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")]

from corpus import DEFAULT_CORPUS  # noqa: E402
from support.programs import PROGRAMS, Program  # noqa: E402

SECONDS = 300  # bound for each command
H5FS = (sys.executable, "-m", "h5fs")
MATLAB_FILE = DEFAULT_CORPUS / "JuliaIO__MAT.jl/test/v7.3/cell.mat"
HEAD = """\
| Program | `cp -r` | `h5fs cp` through a folder | `h5fs cp` file to file | What was lost |
|---|---|---|---|---|"""


def main() -> int:
    """Print the table; each row is made in a process of its own, which may crash alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep all files there")
    parser.add_argument("--matlab", type=Path, default=MATLAB_FILE, help="a file of MATLAB's")
    parser.add_argument("--details", action="store_true", help="print each item that differs")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["H5FS_MATLAB_FILE"] = str(given.matlab)
    if unknown := set(given.names) - set(PROGRAMS):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if given.row:
        print(make_row(PROGRAMS[given.row], given.keep, given.details))
        return 0
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="h5fs-programs-") as scratch:
        for name in given.names or PROGRAMS:
            print_row(name, (given.keep or Path(scratch)) / name, given.details)
    return 0


def print_row(name: str, folder: Path, details: bool) -> None:
    """Print the row of one program, or why there is none."""
    program = PROGRAMS[name]
    missing = [package for package in program.packages if not importlib.util.find_spec(package)]
    if missing:
        print(f"| {program.title} | skipped: no package {', '.join(missing)} | | | |", flush=True)
        return
    if program.needs_file and not Path(os.environ["H5FS_MATLAB_FILE"]).exists():
        print(
            f"| {program.title} | skipped: no {os.environ['H5FS_MATLAB_FILE']} | | | |", flush=True
        )
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--row", name, "--keep", str(folder)]
    command += ["--matlab", os.environ["H5FS_MATLAB_FILE"], *["--details"] * details]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=8 * SECONDS)
    if details or ran.returncode:
        print(ran.stderr, file=sys.stderr)
    if ran.returncode:
        end = (ran.stderr.strip().splitlines() or [""])[-1]
        print(f"| {program.title} | not finished ({ran.returncode}): {end} | | | |", flush=True)
    else:
        print(ran.stdout.strip().splitlines()[-1], flush=True)


def make_row(program: Program, folder: Path, details: bool) -> str:
    """Make a file, copy it in three ways, compare; the row of the table."""
    source = folder / f"source{program.ending}"
    program.make(source)
    expected = dict(program.read(source))
    cells = []
    lost: dict[str, list[str]] = {}
    for way, copy in (("cp -r", copy_by_mount), ("folder", copy_by_folder), ("file", copy_file)):
        target = folder / f"{way.replace(' ', '')}{program.ending}"
        said = copy(source, target, folder / f"{way.replace(' ', '')}.copied")
        cell, items = compare_reading(program, target, expected)
        if said:
            cell += f"; said: {said}"
        cells.append(cell)
        losses = [f"**{item}**" for item in items]
        if target.exists():
            losses += compare_storage(source, target)
        lost.setdefault("; ".join(losses) or "nothing", []).append(way)
        if details:
            print(f"{program.title}, {way}: {cell}", *items, sep="\n    ", file=sys.stderr)
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in program.distributions)
    names = {"cp -r": "`cp -r`", "folder": "through a folder", "file": "file to file"}
    words = [f"{', '.join(map(names.__getitem__, ways))}: {what}" for what, ways in lost.items()]
    if len(lost) == 1:
        words = list(lost)
    row = [f"{program.title} ({versions})", *cells, ". ".join(words)]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def compare_reading(
    program: Program, target: Path, expected: dict[str, Any]
) -> tuple[str, list[str]]:
    """Let the program open a copy; the cell, and the items that differ."""
    try:
        found = dict(program.read(target))
    except Exception as error:  # whatever the program raises is the answer
        traceback.print_exc()
        return f"does not open: {type(error).__name__}: {str(error)[:150]}", []
    wrong = [name for name in expected if not is_equal(expected[name], found.get(name))]
    wrong += [f"{name} is new" for name in found if name not in expected]
    if not wrong:
        return f"opens, {len(expected)} items equal", []
    for name in wrong:
        was, now = expected.get(name), found.get(name)
        print(f"{name}: was {was!r:.200}, is {now!r:.200}", file=sys.stderr)
    return f"opens, {len(wrong)} of {len(expected)} items differ", wrong


def is_equal(was: Any, now: Any) -> bool:
    """Whether two items are equal, in type, shape and value; NaN equals NaN."""
    if isinstance(was, np.ndarray) and was.dtype != object:
        if not isinstance(now, np.ndarray) or (was.dtype, was.shape) != (now.dtype, now.shape):
            return False
        return was.tobytes() == now.tobytes() or np.array_equal(was, now, equal_nan=True)
    if isinstance(was, dict) and isinstance(now, dict):  # their order is none of an item's
        was, now = sorted(was.items()), sorted(now.items())
    return type(was) is type(now) and repr(was) == repr(now)


def run(*command: str | Path) -> str:
    """Run one command; what it said when it failed, in one line."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    if not ran.returncode:
        return ""
    lines = ran.stderr.strip().splitlines()
    print(" ".join(map(str, command)), *lines, sep="\n    ", file=sys.stderr)
    return f"exit status {ran.returncode}, {lines[0][:200] if lines else ''} ({len(lines)} lines)"


def copy_by_mount(source: Path, target: Path, folder: Path) -> str:
    """`cp -r` out of a mount in mode r, and into a mount in mode w."""
    folder.mkdir()
    mountpoint = folder.with_suffix(".mnt")
    said = []
    for file, mode, copied in (
        (source, "r", (f"{mountpoint}/.", folder)),
        (target, "w", (f"{folder}/.", mountpoint)),
    ):
        if refused := run(*H5FS, file, mountpoint, "--mode", mode):
            return refused
        try:
            said.append(run("cp", "-r", *copied))
        finally:
            said.append(run(*H5FS, "umount", mountpoint))
    return "; ".join(filter(None, said))


def copy_by_folder(source: Path, target: Path, folder: Path) -> str:
    """`h5fs cp` to a folder, and from there to a new file."""
    said = (run(*H5FS, "cp", f"{source}:/", folder), run(*H5FS, "cp", f"{folder}/.", f"{target}:/"))
    return "; ".join(filter(None, said))


def copy_file(source: Path, target: Path, _folder: Path) -> str:
    """`h5fs cp` from one HDF5 file to another."""
    return run(*H5FS, "cp", f"{source}:/", f"{target}:/")


def compare_storage(source: Path, target: Path) -> list[str]:
    """What HDF5 says of the objects of two files, where it differs: each kind, and how often."""
    counts: collections.Counter[str] = collections.Counter()
    with h5py.File(source) as old, h5py.File(target) as new:
        if old.userblock_size != new.userblock_size:
            counts["user block"] += 1
        names = ["/"]
        old.visit(names.append)
        for name in names:
            if name not in new:
                counts["objects"] += 1
                continue
            counts.update(list_differences(old[name], new[name]))
    return [f"{kind} ({count})" for kind, count in sorted(counts.items())]


def list_differences(old: Any, new: Any) -> Iterator[str]:
    """The kinds of what differs between two objects, as HDF5 knows them."""
    for name in old.attrs:
        if name not in new.attrs:
            yield "attributes"
        elif old.attrs.get_id(name).get_type() != new.attrs.get_id(name).get_type():
            yield "types of attributes"
    if not isinstance(old, h5py.Dataset):
        return
    if not isinstance(new, h5py.Dataset):
        yield "objects"
        return
    if (old.shape, old.id.get_space().get_simple_extent_type()) != (
        new.shape,
        new.id.get_space().get_simple_extent_type(),
    ):
        yield "shapes"
    if old.id.get_type() != new.id.get_type():
        if name_type(old) == name_type(new):
            yield "details of types, such as the padding of strings"
        else:
            yield f"types: {name_type(old)} became {name_type(new)}"
    yield from list_storage_differences(old, new)


def list_storage_differences(old: h5py.Dataset, new: h5py.Dataset) -> Iterator[str]:
    """The kinds of what differs in how two datasets are stored."""
    if old.chunks != new.chunks:
        yield "chunks"
    if old.maxshape != new.maxshape:
        yield "maxshape"
    try:
        made = [dataset.id.get_create_plist() for dataset in (old, new)]
    except RuntimeError:
        yield "fill values that cannot be read"
        return
    if made[0].get_nfilters() != made[1].get_nfilters():
        yield "filters"
    defined = [creation.fill_value_defined() for creation in made]
    if h5py.h5d.FILL_VALUE_USER_DEFINED in defined and (
        defined[0] != defined[1] or repr(old.fillvalue) != repr(new.fillvalue)
    ):
        yield "fill values"


def name_type(dataset: h5py.Dataset) -> str:
    """A dataset's type in a word or two."""
    kind = dataset.id.get_type()
    names = {
        h5py.h5t.INTEGER: "integer",
        h5py.h5t.FLOAT: "float",
        h5py.h5t.STRING: "string",
        h5py.h5t.BITFIELD: "bitfield",
        h5py.h5t.OPAQUE: "opaque",
        h5py.h5t.COMPOUND: "compound",
        h5py.h5t.REFERENCE: "reference",
        h5py.h5t.ENUM: "enumeration",
        h5py.h5t.VLEN: "sequence",
        h5py.h5t.ARRAY: "array",
    }
    word = names.get(kind.get_class(), "other")
    if isinstance(kind, h5py.h5t.TypeStringID):
        charset = "UTF-8" if kind.get_cset() == h5py.h5t.CSET_UTF8 else "ASCII"
        word = f"{'variable' if kind.is_variable_str() else 'fixed'} {charset} string"
    return word


if __name__ == "__main__":
    sys.exit(main())

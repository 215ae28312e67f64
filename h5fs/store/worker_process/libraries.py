"""The files that loading a shared library takes, as ld.so(8) finds them: other libraries.

A process that is confined before it loads plugins needs these files: plugins may be symbolic links,
and may need libraries in other folders. This module reads ELF files itself (System V ABI, chapters
4 and 5), since the dynamic linker would run code of the files. It skips files that it cannot read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_MOST_LIBRARIES = 1000
_MOST_TABLE_BYTES = 2**24
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 15, 29
_CONFIGURATION = Path("/etc/ld.so.conf")


def files_of_libraries(libraries: Iterable[Path]) -> set[Path]:
    """Return the real paths of shared libraries and of all libraries that they need.

    Libraries in the system's own folders are left out.
    """
    found: set[Path] = set()
    # Each library comes with the folders that are named by the libraries that need it.
    pending: list[tuple[Path, tuple[Path, ...]]] = [(library, ()) for library in libraries]
    configured = tuple(_configured_folders(_CONFIGURATION))
    seen: set[Path] = set()
    while pending and len(seen) < _MOST_LIBRARIES:
        path, inherited = pending.pop()
        real = Path(os.path.realpath(path))
        if real in seen or not real.is_file():
            continue
        seen.add(real)
        found.add(real)
        needed, own_folders = _look_into(real)
        # $ORIGIN is the folder of the requested path, or of the file that the path leads to.
        origins = dict.fromkeys((path.parent, real.parent))
        own = (each for origin in origins for each in _spell_out(own_folders, origin))
        folders = (*own, *inherited)
        for name in needed:
            places = (folder / name for folder in (*folders, *configured))
            place = Path(name) if "/" in name else next(filter(Path.exists, places), None)
            if place is not None:
                pending.append((place, folders))
    return found


def libraries_in(folder: Path) -> list[Path]:
    """Return the files that HDF5 would try to load from a folder of plugins."""
    try:
        return [path for path in folder.iterdir() if ".so" in path.name]
    except OSError:
        return []


def _spell_out(folders: Iterable[str], origin: Path) -> Iterator[Path]:
    for folder in folders:
        spelled = folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", os.fspath(origin))
        if os.path.isabs(spelled):
            yield Path(spelled)


def _configured_folders(file: Path, depth: int = 0) -> Iterator[Path]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"] and depth < 4:
            for pattern in words[1:]:
                for each in sorted(file.parent.glob(pattern.removeprefix(f"{file.parent}/"))):
                    yield from _configured_folders(each, depth + 1)
        elif words and os.path.isabs(words[0]):
            yield Path(words[0])


def _look_into(path: Path) -> tuple[list[str], list[str]]:
    """Return the names of the libraries that a library needs, and the folders that it names."""
    try:
        with path.open("rb") as file:
            return _parse(file)
    except (OSError, struct.error, ValueError):
        return [], []


def _parse(file: BinaryIO) -> tuple[list[str], list[str]]:
    head = file.read(64)
    if head[:4] != b"\x7fELF" or head[4] != 2:
        return [], []
    order = "<" if head[5] == 1 else ">"
    (table,) = struct.unpack_from(order + "Q", head, 32)
    size, count = struct.unpack_from(order + "HH", head, 54)
    program_headers = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack(
            order + "IIQQQQ", _read(file, table + index * size, 40)
        )
        program_headers.append((kind, offset, address, length))
    entries: list[tuple[int, int]] = []
    for kind, offset, _, length in program_headers:
        if kind == _PT_DYNAMIC:
            entries = list(struct.iter_unpack(order + "QQ", _read(file, offset, length // 16 * 16)))
    tags = [tag for tag, _ in entries]
    entries = entries[: tags.index(_DT_NULL)] if _DT_NULL in tags else entries
    values = dict(entries)
    strings = _read(file, _offset_of(values[_DT_STRTAB], program_headers), values[_DT_STRSZ]) if (
        _DT_STRTAB in values and _DT_STRSZ in values
    ) else b""  # fmt: skip

    def text(start: int) -> str:
        return os.fsdecode(strings[start : strings.index(b"\0", start)])

    needed = [text(value) for tag, value in entries if tag == _DT_NEEDED]
    folders = [text(value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH)]
    return needed, [folder for joined in folders for folder in joined.split(":")]


def _offset_of(address: int, program_headers: list[tuple[int, int, int, int]]) -> int:
    for kind, offset, start, length in program_headers:
        if kind == _PT_LOAD and start <= address < start + length:
            return address - start + offset
    raise ValueError("an address that no program header covers")


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > _MOST_TABLE_BYTES:
        raise ValueError("a table that is too large")
    file.seek(offset)
    return file.read(size)

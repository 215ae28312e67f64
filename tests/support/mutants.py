"""Damaged copies of HDF5 files; each follows from its seed and the source files alone."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SIGNATURE = b"\x89HDF\r\n\x1a\n"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Mutant:
    """A damaged copy of a file, and how to make it again."""

    seed: int
    source: Path
    changes: tuple[str, ...]
    content: bytes

    @property
    def digest(self) -> str:
        """The content's SHA-256, to tell whether a replay is the same."""
        return hashlib.sha256(self.content).hexdigest()[:16]


def find_sources(corpus: Path, *, largest_bytes: int = 1_000_000) -> list[Path]:
    """Return the HDF5 files of a folder, small ones, in an order that stays the same."""
    return [
        path
        for path in sorted(corpus.rglob("*"))
        if path.is_file() and path.stat().st_size <= largest_bytes and _is_hdf5(path)
    ]


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def make_mutant(seed: int, sources: Sequence[Path]) -> Mutant:
    """Return the mutant of a seed: the same one for the same sources."""
    chance = random.Random(seed)
    source = chance.choice(sources)
    content = bytearray(source.read_bytes())
    changes = []
    for _ in range(chance.choice((1, 1, 2, 2, 3, 5, 8, 16, 40))):
        change = chance.choices(_CHANGES, _WEIGHTS)[0]
        if content:
            changes.append(change(chance, content, sources))
    if chance.random() < 0.8:
        changes.append(f"{repair_checksums(content)} checksums repaired")
    return Mutant(seed, source, tuple(changes), bytes(content))


def _flip_bit(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset, bit = _choose_offset(chance, content), chance.randrange(8)
    content[offset] ^= 1 << bit
    return f"bit {bit} at {offset} flipped"


def _set_bytes(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset = _choose_offset(chance, content)
    values = chance.randbytes(min(chance.choice((1, 1, 2, 4, 8, 32)), len(content) - offset))
    content[offset : offset + len(values)] = values
    return f"{values.hex()} at {offset}"


def _put_integer(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset = _choose_offset(chance, content)
    size = min(chance.choice((1, 2, 4, 8)), len(content) - offset)
    value = chance.choice(_INTEGERS) + chance.choice((0, 0, 0, -1, 1, -16))
    value %= 1 << 8 * size
    content[offset : offset + size] = value.to_bytes(size, "little")
    return f"{value:#x} ({size} bytes) at {offset}"


def _copy_word(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    """Let an address, perhaps, be another one of the same file: circles come of it."""
    start, offset = (_choose_offset(chance, content) & ~7 for _ in range(2))
    word = content[start : start + 8]
    content[offset : offset + len(word)] = word
    return f"8 bytes of {start} at {offset}"


def _splice_page(chance: random.Random, content: bytearray, sources: Sequence[Path]) -> str:
    other = chance.choice(sources)
    size = chance.choice((64, 512, 4096))
    pages = other.read_bytes()
    start = chance.randrange(len(pages) // size + 1) * size
    offset = chance.randrange(len(content) // size + 1) * size
    page = pages[start : start + size][: len(content) - offset]
    content[offset : offset + len(page)] = page
    return f"{len(page)} bytes of {start} of {other.name} at {offset}"


def _clear(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    offset = _choose_offset(chance, content)
    size = min(chance.choice((8, 64, 512)), len(content) - offset)
    content[offset : offset + size] = bytes(size)
    return f"{size} zeros at {offset}"


def _truncate(chance: random.Random, content: bytearray, _: Sequence[Path]) -> str:
    size = chance.randrange(len(content))
    del content[size:]
    return f"cut to {size}"


_Change = Callable[[random.Random, bytearray, Sequence[Path]], str]
_CHANGES: tuple[_Change, ...] = (
    _flip_bit, _set_bytes, _put_integer, _copy_word, _splice_page, _clear, _truncate,
)  # fmt: skip
_WEIGHTS = (30, 20, 30, 15, 8, 4, 2)
_INTEGERS = (
    0, 1, 2, 7, 8, 16, 255, 256, 4096, 2**15, 2**16 - 1, 2**20, 2**24, 2**30, 2**31, 2**32 - 1,
    2**32, 2**40, 2**53, 2**61, 2**62, 2**63, 2**64 - 1,
)  # fmt: skip

# Where the library's own structures begin: most bytes of most files are data, which harms nobody.
_STRUCTURES = re.compile(
    b"OHDR|OCHK|GCOL|TREE|SNOD|HEAP|FRHP|FHDB|FHIB|FSHD|FSSE|BTHD|BTIN|BTLF|SMTB|SMLI"
    b"|EAHD|EAIB|EASB|EADB|FAHD|FADB|FRHP|\x01\0..\x01\0\0\0",  # the last, old object headers
    re.DOTALL,
)


def _choose_offset(chance: random.Random, content: bytearray) -> int:
    where = chance.random()
    if where < 0.65:
        places = [found.start() for found in _STRUCTURES.finditer(content)]
        if places:
            return min(chance.choice(places) + chance.randrange(320), len(content) - 1)
    if where < 0.8:
        return chance.randrange(min(len(content), 2048))
    return chance.randrange(len(content))


def repair_checksums(content: bytearray) -> int:
    """Make the checksums of superblock and object headers right again; return how many were not.

    Without it HDF5 refuses most mutants of new files before it has looked at them. HDF5 file
    format, II.A and IV.A.1.b.
    """
    repaired = 0
    if content[8:9] in (b"\2", b"\3"):
        repaired += _repair(content, 0, 12 + 4 * content[9])
    for found in re.finditer(b"OHDR\2", content):
        start = found.start()
        flags = content[start + 5] if start + 5 < len(content) else 0
        place = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(content[place : place + width], "little")
        if size < 2**16:
            repaired += _repair(content, start, place + width + size)
    return repaired


def _repair(content: bytearray, start: int, stop: int) -> int:
    if stop + 4 > len(content):
        return 0
    checksum = lookup3(bytes(content[start:stop])).to_bytes(4, "little")
    if content[stop : stop + 4] == checksum:
        return 0
    content[stop : stop + 4] = checksum
    return 1


_WORD = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """Return Bob Jenkins's ``hashlittle`` with initial value 0 (lookup3.c, 2006)."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    last = max(len(data) - 1, 0) // 12 * 12
    for place in range(0, last + 1, 12):
        block = data[place : place + 12].ljust(12, b"\0")
        a = (a + int.from_bytes(block[:4], "little")) & _WORD
        b = (b + int.from_bytes(block[4:8], "little")) & _WORD
        c = (c + int.from_bytes(block[8:], "little")) & _WORD
        if place == last:
            break
        for bits in (4, 6, 8, 16, 19, 4):  # mix(); the three change places at each step
            a = (a - c & _WORD) ^ _rotate(c, bits)
            c = (c + b) & _WORD
            a, b, c = b, c, a
    if data:
        for bits in (14, 11, 25, 16, 4, 14, 24):  # final()
            c = (c ^ b) - _rotate(b, bits) & _WORD
            a, b, c = b, c, a
        return b
    return c


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _WORD

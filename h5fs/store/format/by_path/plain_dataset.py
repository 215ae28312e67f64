"""Plain datasets of many files, found by their paths and looked at without the HDF5 library.

To open a file and a dataset in it by the library takes 150 us, and all that is asked of them in
Python five times as much; to read a few hundred bytes of the file takes a tenth of that. A dataset
that is found here is no more than like another one: of that one the library has to say what both
are. Whatever is not in its plain form is not found.

Format: HDF5 File Format Specification 3.0, II.A (superblock), IV.A.2 (messages), IV.A.2.i (layout).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from h5fs.store.format.by_path.group_links import find_linked
from h5fs.store.format.by_path.little_endian import number_at
from h5fs.store.format.by_path.whole_header import (
    WholeHeader,
    has_none_of,
    is_undefined,
    read_header,
)
from h5fs.store.format.file_layout import FileLayout, layout_of
from h5fs.store.format.lookup3 import checksum_blocks
from h5fs.store.format.superblock import Superblock, read_addresses, read_superblock
from h5fs.store.sources.interface import Source, WholeSource, read_bytes

_HEAD_BYTES = 4096
"""Of a file, read at once: in most files all that is needed is there."""
_FIRST_MARKED = 2
"""From this version on a superblock has a checksum, and the address of the root group's header."""
_FLAGS_AT = 11
_CHECKSUM_BYTES = 4
_USUAL = b"\x89HDF\r\n\x1a\n" + bytes(8) + b"\4\0\x10\0" + bytes(4)
"""A superblock of version 0 up to its addresses, with all that may differ but sizes."""
_USUAL_OF_VERSION_1 = b"\x20\0\0\0"
_KINDS_OF_ROOT = (bytes(4), b"\1\0\0\0")
_OVERREAD_BYTES = 12

_DATASPACE, _TYPE, _LAYOUT = 0x01, 0x03, 0x08
_OLD_FILL, _FILL, _FILTERS = 0x04, 0x05, 0x0B
_OF_GROUPS = (0x02, 0x06, 0x0A, 0x11)
_DESCRIBING = (_DATASPACE, _TYPE, _OLD_FILL, _FILL, _FILTERS)

_CONTIGUOUS, _CHUNKED = 1, 2
_SINGLE_CHUNK = 1
_INDEX_BYTES = {_SINGLE_CHUNK: 0, 2: 0, 3: 1, 4: 5, 5: 6}
"""What a chunk index of each type has in the layout message before its address."""
_FILTERED_SINGLE_CHUNK = 2

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PlainDataset:
    """What the bytes of a file say of a dataset in it.

    ``path``: where it is, in its plainest form. ``address``: of its header. ``likeness`` is equal
    for datasets that differ in nothing but their attributes, their times and where their data are.
    ``data_offset``: where in the file contiguous data begin; None for chunks. ``checked``: blocks
    that end with their checksum (``with_right_checksums`` looks at it).
    """

    path: bytes
    address: int
    likeness: Hashable
    data_offset: int | None
    checked: tuple[bytes, ...]


class UnopenedFile:
    """Finds datasets in one file, as long as its ``source`` is open. Raises ``OSError``."""

    def __init__(self, source: Source) -> None:
        self._head = _Head(source)
        self._checked: list[bytes] = []
        self._root: int | None = None
        self._layout: FileLayout | None = None
        self._base = self._stop = 0
        superblock = read_superblock(self._head)
        if superblock is not None:
            self._read_superblock(superblock)

    def _read_superblock(self, superblock: Superblock) -> None:
        layout = layout_of(superblock)
        addresses = read_addresses(self._head, superblock)
        if layout is None or addresses is None or superblock.is_open_for_write:
            return
        width = layout.size_of_addresses
        base, extension, stop, root = addresses
        start = superblock.offset_bytes
        if base != start or stop > self._head.size_bytes:
            return
        if superblock.version >= _FIRST_MARKED:
            block = self._head.read(start, 12 + 4 * width + _CHECKSUM_BYTES)
            if block[_FLAGS_AT] or not is_undefined(extension, layout):
                return
            self._checked.append(block)
        else:
            # In old ones these are the addresses of the free space, and of a driver's block.
            if not is_undefined(extension, layout) or not is_undefined(root, layout):
                return
            is_old = superblock.version == 0
            usual = _USUAL if is_old else _USUAL + _USUAL_OF_VERSION_1
            head = self._head.read(start, len(usual) + 6 * width + 4)
            sizes = bytes((width, layout.size_of_lengths))
            at = len(usual)
            if head[9:13] + head[15:at] != usual[9:13] + usual[15:at] or head[13:15] != sizes:
                return
            # The root group's entry: where its name is, its header, and what else it tells of it.
            at += 5 * width
            root = int.from_bytes(head[at : at + width], "little")
            if head[at + width : at + width + 4] not in _KINDS_OF_ROOT:
                return
        self._layout, self._root = layout, root
        self._base, self._stop = start, stop

    def find(self, path: bytes) -> PlainDataset | None:
        """Return the dataset that hard links lead to along a path; None where it is not plain."""
        layout, address = self._layout, self._root
        if layout is None or address is None:
            return None
        checked = list(self._checked)
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        for name in names:
            group = read_header(self._read, address, layout)
            if group is None:
                return None
            checked += group.checked
            found = find_linked(self._read, group, name, layout)
            if found is None:
                return None
            address = found
        header = read_header(self._read, address, layout)
        if header is None:
            return None
        checked += header.checked
        try:
            return self._describe(b"/" + b"/".join(names), address, header, tuple(checked), layout)
        except IndexError:  # a message ends within a number
            return None

    def _describe(
        self,
        path: bytes,
        address: int,
        header: WholeHeader,
        checked: tuple[bytes, ...],
        layout: FileLayout,
    ) -> PlainDataset | None:
        body = header.only(_LAYOUT)
        bodies = tuple(header.only(kind) for kind in _DESCRIBING)
        are_single = all(len(header.messages.get(kind, ())) < 2 for kind in _DESCRIBING)
        if body is None or None in bodies[:2] or not are_single:
            return None
        if not has_none_of(header.messages, *_OF_GROUPS):
            return None
        place = _place_of_address(body, layout)
        if place is None:
            return None
        offset = None
        width = layout.size_of_addresses
        if body[1] == _CONTIGUOUS:
            start, size = (
                number_at(body, 2, width),
                number_at(body, 2 + width, layout.size_of_lengths),
            )
            offset = layout.base_offset + start
            if not start or is_undefined(start, layout) or offset + size > self._stop:
                return None
        rest = body[:place], body[place + width :]
        return PlainDataset(path, address, (layout, bodies, rest), offset, checked)

    def _read(self, address: int, size: int) -> bytes:
        # What lies behind the end that the superblock states, the library does not read.
        start = address + self._base
        return self._head.read(start, min(size, self._stop - start))


def _place_of_address(body: bytes, layout: FileLayout) -> int | None:
    """Return where a layout message has the address of the data, or of the chunks' index.

    None for one that has no such place, or has more there that each dataset has of its own.
    """
    version, layout_class = number_at(body, 0, 1), number_at(body, 1, 1)
    if version not in (3, 4, 5):
        return None
    if layout_class == _CONTIGUOUS:
        return 2
    if layout_class != _CHUNKED:
        return None
    if version == 3:
        return 3
    flags, rank, width = number_at(body, 2, 1), number_at(body, 3, 1), number_at(body, 4, 1)
    at = 5 + rank * width
    kind = number_at(body, at, 1)
    if kind not in _INDEX_BYTES or (kind == _SINGLE_CHUNK and flags & _FILTERED_SINGLE_CHUNK):
        return None
    return at + 1 + _INDEX_BYTES[kind]


class _Head(WholeSource):
    """A source whose first bytes are kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size_bytes = source.size_bytes
        self.version = None
        self._kept = read_bytes(source, 0, _HEAD_BYTES)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to so many bytes; none for a negative size."""
        if size <= 0:
            return b""
        if offset + size <= len(self._kept):
            return self._kept[offset : offset + size]
        return read_bytes(self._source, offset, size)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        data = self.read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def with_right_checksums(found: Mapping[_Key, PlainDataset]) -> dict[_Key, PlainDataset]:
    """Return those all of whose blocks have the checksum that they state."""
    blocks = [(key, block) for key, dataset in found.items() for block in dataset.checked]
    if not blocks:
        return dict(found)
    data = b"".join(block for _, block in blocks) + bytes(_OVERREAD_BYTES)
    sizes = np.array([len(block) for _, block in blocks], np.int64)
    ends = np.cumsum(sizes)
    sums = checksum_blocks(np.frombuffer(data, np.uint8), ends - sizes, sizes - _CHECKSUM_BYTES)
    stated = [int.from_bytes(block[-_CHECKSUM_BYTES:], "little") for _, block in blocks]
    wrong = {blocks[place][0] for place in np.flatnonzero(sums != np.array(stated, np.uint32))}
    return {key: dataset for key, dataset in found.items() if key not in wrong}

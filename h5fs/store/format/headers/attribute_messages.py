"""The attribute messages of many object headers, taken apart.

The HDF5 library has to be asked, and the answer is None, for an object with an attribute that is
shared, has a shared type or dataspace, is kept outside of the header, or is not in its plain form.

Format: HDF5 File Format Specification 3.0, IV.A.2.m (attribute message).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.arena import Arena
from h5fs.store.format.headers.array_messages import (
    RANK_MAX,
    ArrayTable,
    measure_datatype,
    read_shape,
)
from h5fs.store.format.headers.blocks import HEADERS_AT_ONCE, Headers, walk_headers
from h5fs.store.format.headers.header_messages import ATTRIBUTE, SHARED, UNKNOWN, interpret_headers
from h5fs.store.sources.interface import Source

_HEAD = struct.Struct("<BBHHH")
_ALIGNMENT = 8
_SIMPLE, _NULL = 1, 2


@dataclass(frozen=True, slots=True)
class RawAttribute:
    """An attribute as its message has it.

    ``datatype`` is a datatype message, ``data`` are the elements and padding behind them. ``shape``
    is None for a null dataspace.
    """

    name: bytes
    datatype: bytes
    shape: tuple[int, ...] | None
    data: bytes


def scan_attributes(
    source: Source, layout: FileLayout, addresses: npt.NDArray[np.uint64]
) -> list[list[RawAttribute] | None]:
    """Return the attributes of the objects at those HDF5 addresses, as HDF5 iterates them.

    That is the order of creation where the header keeps it, else that of the names.
    """
    arena = Arena(source)
    last = np.uint64(max(arena.file_size_bytes - layout.base_offset, 0))
    found: list[list[RawAttribute] | None] = [None] * len(addresses)
    reachable = np.flatnonzero(addresses < last)
    for start in range(0, len(reachable), HEADERS_AT_ONCE):
        places = reachable[start : start + HEADERS_AT_ONCE]
        offsets = addresses[places].astype(np.int64) + layout.base_offset
        arena.clear()
        headers = walk_headers(arena, layout, offsets)
        facts = interpret_headers(headers, layout, ArrayTable(layout))
        batch = _take_apart(headers, layout, (facts.kind != UNKNOWN).tolist())
        for place, attributes in zip(places.tolist(), batch, strict=True):
            found[place] = attributes
    return found


def _take_apart(
    headers: Headers, layout: FileLayout, are_known: list[bool]
) -> list[list[RawAttribute] | None]:
    messages = headers.messages.select(headers.messages.kind == ATTRIBUTE)
    found: list[list[tuple[int, RawAttribute]] | None] = [[] if known else None
                                                          for known in are_known]  # fmt: skip
    data = headers.arena.data.data
    rows = zip(
        messages.row.tolist(), messages.flags.tolist(), messages.at.tolist(),
        messages.size.tolist(), strict=True,
    )  # fmt: skip
    for row, flags, at, size in rows:
        attributes = found[row]
        if attributes is None:
            continue
        attribute = None if flags & SHARED else _parse(bytes(data[at : at + size]), layout)
        if attribute is None:
            found[row] = None
        else:
            order = int.from_bytes(data[at - 2 : at], "little")
            attributes.append((order, attribute))
    is_ordered = headers.tracks_order.tolist()
    return [
        None if attributes is None else _sort(attributes, is_ordered[row])
        for row, attributes in enumerate(found)
    ]


def _sort(
    attributes: list[tuple[int, RawAttribute]], is_ordered: bool
) -> list[RawAttribute] | None:
    keys = {order if is_ordered else attribute.name for order, attribute in attributes}
    names = {attribute.name for _, attribute in attributes}
    if len(names) < len(attributes) or len(keys) < len(attributes):  # damage
        return None
    attributes.sort(key=lambda each: each[0] if is_ordered else each[1].name)
    return [attribute for _, attribute in attributes]


def _parse(message: bytes, layout: FileLayout) -> RawAttribute | None:
    if len(message) < _HEAD.size + 1:
        return None
    version, flags, name_size, type_size, space_size = _HEAD.unpack_from(message)
    if flags or not 1 <= version <= 3:
        return None
    start = _HEAD.size + (version == 3)  # where the name's character set comes in between
    name_end, type_start = start + name_size, _padded(start, name_size, version)
    space_start = _padded(type_start, type_size, version)
    data_start = _padded(space_start, space_size, version)
    name = message[start:name_end]
    if data_start > len(message) or not name.endswith(b"\0"):
        return None
    space = message[space_start : space_start + space_size]
    length = measure_datatype(message[type_start : type_start + type_size])
    if length is None or not _is_plain_space(space, layout):
        return None
    return RawAttribute(
        name[: name.index(b"\0")],
        message[type_start : type_start + length],
        read_shape(space, layout),
        message[data_start:],
    )


def _padded(start: int, size: int, version: int) -> int:
    return start + (-(-size // _ALIGNMENT) * _ALIGNMENT if version == 1 else size)


def _is_plain_space(space: bytes, layout: FileLayout) -> bool:
    if len(space) < 4:
        return False
    version, rank, flags, space_class = space[:4]
    if version not in (1, 2) or rank > RANK_MAX or flags > 1:
        return False
    if version == 2 and space_class != _SIMPLE and (space_class > _NULL or rank):
        return False
    head = 8 if version == 1 else 4
    return len(space) >= head + rank * layout.size_of_lengths * (1 + flags)

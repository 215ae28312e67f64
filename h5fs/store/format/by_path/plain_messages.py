"""Whether messages that say nothing of a dataset's elements are ones that the HDF5 library takes.

It opens no object with a message among these that it cannot decode; so an object with one is not
plain, whatever else its header says. Messages that describe a dataset need no look: those of
datasets that are alike are equal, and the library has decoded one of them.

Format: HDF5 File Format Specification 3.0, IV.A.2.c (link info), IV.A.2.g (link), IV.A.2.k (group
info), IV.A.2.s (modification time), IV.A.2.v (attribute info) and IV.A.2.w (reference count).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from h5fs.store.format.by_path.little_endian import number_at
from h5fs.store.format.file_layout import FileLayout

LINK_INFO, LINK, REFERENCE_COUNT = 0x02, 0x06, 0x16
_GROUP_INFO, _TIME, _ATTRIBUTE_INFO = 0x0A, 0x12, 0x15

HARD, _SOFT, _EXTERNAL = 0, 1, 64
_HAS_TYPE, _HAS_ORDER, _HAS_CHARSET = 8, 4, 16
_KNOWN_LINK_FLAGS = 0x1F
_MOST_ORDER = 2**63

_IsPlain: TypeAlias = Callable[[bytes, FileLayout], bool]


def are_plain(messages: Mapping[int, list[bytes]], layout: FileLayout) -> bool:
    """Whether all messages of these kinds are plain. Raises ``IndexError`` for a short one."""
    return all(
        is_plain(body, layout)
        for kind, is_plain in _IS_PLAIN.items()
        if kind in messages
        for body in messages[kind]
    )


def _is_link_info(body: bytes, layout: FileLayout) -> bool:
    has_order = _flags(body, 3) & 1
    number_at(body, 2 + 8 * has_order, (2 + (body[1] >> 1)) * layout.size_of_addresses)
    return not body[0] and (not has_order or number_at(body, 2, 8) < _MOST_ORDER)


def _is_group_info(body: bytes, _: FileLayout) -> bool:
    flags = _flags(body, 3)
    number_at(body, 2, 4 * (flags & 1) + 4 * (flags >> 1))
    return not body[0]


def _is_time(body: bytes, _: FileLayout) -> bool:
    return number_at(body, 0, 8) & 0xFF == 1


def _is_attribute_info(body: bytes, layout: FileLayout) -> bool:
    flags = _flags(body, 3)
    number_at(body, 2, 2 * (flags & 1) + (2 + (flags >> 1)) * layout.size_of_addresses)
    return not body[0]


def _is_reference_count(body: bytes, _: FileLayout) -> bool:
    return number_at(body, 0, 5) & 0xFF == 0


def _is_link(body: bytes, layout: FileLayout) -> bool:
    kind, name, at = read_link(body)
    if kind == HARD:
        number_at(body, at, layout.size_of_addresses)
        return bool(name)
    size = number_at(body, at, 2)
    number_at(body, at + 2, size)
    return bool(name and size) and kind in (_SOFT, _EXTERNAL)


def read_link(body: bytes) -> tuple[int, bytes, int]:
    """Return a link's kind, its name (b"" where something is not plain), and where the rest is.

    Raises ``IndexError``.
    """
    flags = _flags(body, _KNOWN_LINK_FLAGS)
    at, kind = 2, HARD
    if flags & _HAS_TYPE:
        kind, at = number_at(body, at, 1), at + 1
    at += 8 * bool(flags & _HAS_ORDER)
    charset = 0
    if flags & _HAS_CHARSET:
        charset, at = number_at(body, at, 1), at + 1
    width = 1 << (flags & 3)
    size = number_at(body, at, width)
    start, end = at + width, at + width + size
    if end > len(body):
        raise IndexError(end)
    is_plain = body[0] == 1 and charset <= 1
    return kind, body[start:end] if is_plain else b"", end


def _flags(body: bytes, known: int) -> int:
    """Return the flags of a message. Raises ``IndexError`` too for ones that nobody knows."""
    flags = number_at(body, 1, 1)
    if flags & ~known:
        raise IndexError(1)
    return flags


_IS_PLAIN: dict[int, _IsPlain] = {
    LINK_INFO: _is_link_info,
    LINK: _is_link,
    _GROUP_INFO: _is_group_info,
    _TIME: _is_time,
    _ATTRIBUTE_INFO: _is_attribute_info,
    REFERENCE_COUNT: _is_reference_count,
}

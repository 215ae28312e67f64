"""Where a hard link of a group leads, in plain Python; None for all that is not plainly there.

Groups of the old format (a symbol table), and small ones of the new (links in the header). Larger
ones of the new format, soft and other links are left to the HDF5 library.

Format: HDF5 File Format Specification 3.0, III.A.1 (version 1 B-trees), III.B (symbol table nodes),
III.D (local heaps), IV.A.2.c (link info), IV.A.2.g (link) and IV.A.2.r (symbol table).
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from h5fs.store.format.by_path.little_endian import number_at
from h5fs.store.format.by_path.plain_messages import HARD, LINK, LINK_INFO, read_link
from h5fs.store.format.by_path.whole_header import (
    Read,
    WholeHeader,
    has_none_of,
    is_undefined,
)
from h5fs.store.format.file_layout import FileLayout

_SYMBOL_TABLE = 0x11

_MOST_HEAP_BYTES = 2**16
_MOST_LEVELS = 8
_MOST_CHILDREN = 32
_MOST_SYMBOLS = 8
"""What the library has in a node by default; the superblock says so of this file."""
_NO_FREE_BLOCK = 1
_OF_HARD_LINKS = (0, 1)  # what an entry keeps of the object: nothing, or where a group's links are
_OF_ALL_LINKS = (*_OF_HARD_LINKS, 2)
_ENTRY_TAIL_BYTES = 24  # the kind of the cache, four spare bytes, and 16 of the cache


def find_linked(read: Read, header: WholeHeader, name: bytes, layout: FileLayout) -> int | None:
    """Return the address of the object that a hard link of a group leads to.

    ``header`` is the group's. None too when there is no such link, or it is of another kind.
    """
    messages = header.messages
    try:
        if _SYMBOL_TABLE in messages and has_none_of(messages, LINK_INFO, LINK):
            return _find_in_symbol_table(read, header, name, layout)
        if LINK_INFO in messages and has_none_of(messages, _SYMBOL_TABLE):
            return _find_in_header(header, name, layout)
    except IndexError:  # something ends within a number
        return None
    return None


def _find_in_symbol_table(
    read: Read, header: WholeHeader, name: bytes, layout: FileLayout
) -> int | None:
    table = header.only(_SYMBOL_TABLE)
    if table is None:
        return None
    addresses = layout.size_of_addresses
    names = _read_heap(read, number_at(table, addresses, addresses), layout)
    if names is None:
        return None
    address = number_at(table, 0, addresses)
    level: int | None = None
    while level != 0:
        node = read(address, _node_bytes(layout))
        below, level = level, number_at(node, 5, 1)
        is_right_below = below is None or level == below - 1
        if node[:5] != b"TREE\0" or level > _MOST_LEVELS or not is_right_below:
            return None
        child = _find_child(node, names, name, layout)
        if child is None:
            return None
        address = child
    return _find_in_node(read, address, names, name, layout)


def _node_bytes(layout: FileLayout) -> int:
    """Return the size of a node of a group's B-tree, as the library makes them by default."""
    addresses, lengths = layout.size_of_addresses, layout.size_of_lengths
    return 8 + 2 * addresses + _MOST_CHILDREN * (lengths + addresses) + lengths


def _read_heap(read: Read, address: int, layout: FileLayout) -> bytes | None:
    addresses, lengths = layout.size_of_addresses, layout.size_of_lengths
    head = read(address, 8 + 2 * lengths + addresses)
    size, free = number_at(head, 8, lengths), number_at(head, 8 + lengths, lengths)
    if head[:5] != b"HEAP\0" or size > _MOST_HEAP_BYTES:
        return None
    data = read(number_at(head, 8 + 2 * lengths, addresses), size)
    if len(data) < size:
        return None
    # The library goes through the free blocks, too, and refuses a heap where these are damaged.
    for _ in range(size):
        if free == _NO_FREE_BLOCK:
            return data
        length = number_at(data, free + lengths, lengths)
        if not length or free + length > size:
            return None
        free = number_at(data, free, lengths)
    return None


def _name_at(names: bytes, at: int) -> bytes:
    end = names.find(b"\0", at)
    if not 0 <= at <= end:
        raise IndexError(at)
    return names[at:end]


def _find_child(node: bytes, names: bytes, name: bytes, layout: FileLayout) -> int | None:
    """Return the child of a node that has a name, if any has: those between two keys."""
    addresses, lengths = layout.size_of_addresses, layout.size_of_lengths
    step = lengths + addresses
    first, count = 8 + 2 * addresses, number_at(node, 6, 2)
    if count > _MOST_CHILDREN:
        return None
    places = range(first, first + count * step + 1, step)
    keys = [_name_at(names, number_at(node, at, lengths)) for at in places]
    if not _is_sorted(keys):
        return None
    child = bisect_left(keys, name) - 1
    if not 0 <= child < count:
        return None
    return number_at(node, places[child] + lengths, addresses)


def _find_in_node(
    read: Read, address: int, names: bytes, name: bytes, layout: FileLayout
) -> int | None:
    addresses = layout.size_of_addresses
    step = 2 * addresses + _ENTRY_TAIL_BYTES
    node = read(address, 8 + _MOST_SYMBOLS * step)
    count = number_at(node, 6, 2)
    if node[:5] != b"SNOD\1" or count > _MOST_SYMBOLS or len(node) < 8 + _MOST_SYMBOLS * step:
        return None
    places = range(8, 8 + count * step, step)
    held = [_name_at(names, number_at(node, at, addresses)) for at in places]
    place = bisect_left(held, name)
    if not _is_sorted(held) or held[place : place + 1] != [name]:
        return None
    # The library decodes all entries of a node, and refuses it for one that it does not know.
    if any(number_at(node, each + 2 * addresses, 4) not in _OF_ALL_LINKS for each in places):
        return None
    at = places[place] + addresses
    is_hard = number_at(node, at + addresses, 4) in _OF_HARD_LINKS
    return number_at(node, at, addresses) if is_hard else None


def _is_sorted(names: list[bytes]) -> bool:
    """Whether the library, which halves its search at each step, finds each of the names."""
    return all(one < other for one, other in pairwise(names))


def _find_in_header(header: WholeHeader, name: bytes, layout: FileLayout) -> int | None:
    info = header.only(LINK_INFO)
    if info is None:
        return None
    flags = number_at(info, 1, 1)
    heap = number_at(info, 2 + 8 * (flags & 1), layout.size_of_addresses)
    if not is_undefined(heap, layout):
        return None  # the links are outside of the header
    links = [(body, *read_link(body)) for body in header.messages.get(LINK, ())]
    named = [(body, kind, at) for body, kind, held, at in links if held == name]
    if len(named) != 1 or named[0][1] != HARD:
        return None
    body, _, at = named[0]
    return number_at(body, at, layout.size_of_addresses)

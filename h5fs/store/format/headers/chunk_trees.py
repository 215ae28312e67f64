"""How many bytes the chunks of many small datasets take, by version 1 B-trees, an old chunk index.

A tree of one node has the size of each chunk. Larger trees, other indexes and whatever is not plain
are left to the HDF5 library. Pure numpy, all nodes of a batch in lock-step.

Format: HDF5 File Format Specification 3.0, III.A.1 (version 1 B-trees, node type 1), IV.A.2.l (the
filter pipeline message).
"""

from __future__ import annotations

import numpy as np

from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.arena import Arena, Ints

_MOST_ENTRIES = 8
_CHUNK_NODE = int.from_bytes(b"TREE\x01\x00", "little")  # of raw data chunks, a leaf
_MASK_2, _MASK_4, _MASK_6 = 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF
_HEAD_BYTES = 8

_ALWAYS_THERE = frozenset({1, 2, 3, 32000})  # deflate, shuffle, fletcher32, and h5py's own lzf


def has_usual_filters(message: bytes) -> bool:
    """Whether a filter pipeline message is plain, and names no filter that may be missing.

    A dataset with a missing filter cannot be opened.
    """
    version, count = message[:2]
    if version not in (1, 2):
        return False
    at = 8 if version == 1 else 2
    for _ in range(count):
        code = int.from_bytes(message[at : at + 2], "little")
        if code not in _ALWAYS_THERE or at + 8 > len(message):
            return False
        name_bytes, value_count = 0, int.from_bytes(message[at + 4 : at + 6], "little")
        at += 6
        if version == 1 or code >= 256:
            name_bytes = int.from_bytes(message[at - 4 : at - 2], "little")
            value_count = int.from_bytes(message[at : at + 2], "little")
            at += 2
        padding = 4 * (value_count % 2) if version == 1 else 0
        at += (-(-name_bytes // 8) * 8 if version == 1 else name_bytes) + 4 * value_count + padding
    return at <= len(message)


def sum_chunks(arena: Arena, layout: FileLayout, address: Ints, rank: Ints) -> Ints:
    """Return how many bytes the chunks of each dataset take in the file; -1 where it is not known.

    ``address``: of the tree, -1 where no chunk was written. ``rank``: that of the layout message,
    one more than the dataset's.
    """
    total = np.where(address == -1, np.int64(0), np.int64(-1))
    left = arena.file_size_bytes - layout.base_offset
    head_bytes = _HEAD_BYTES + 2 * layout.size_of_addresses
    there = np.flatnonzero((address >= 0) & (address < left - head_bytes))
    if not there.size:
        return total
    entry_bytes = 8 + 8 * rank[there] + layout.size_of_addresses
    at, end = arena.read(
        address[there] + layout.base_offset, head_bytes + _MOST_ENTRIES * entry_bytes
    )
    word = arena.word(at)
    count = word >> 48 & _MASK_2
    is_plain = (end - at >= head_bytes + count * entry_bytes) & (word & _MASK_6 == _CHUNK_NODE)
    is_plain &= (count > 0) & (count <= _MOST_ENTRIES)
    for side in range(2):  # the only node has no siblings
        sibling = at + _HEAD_BYTES + side * layout.size_of_addresses
        is_plain &= arena.integer(sibling, layout.size_of_addresses) == -1
    there, at, count = there[is_plain], at[is_plain] + head_bytes, count[is_plain]
    entry_bytes = entry_bytes[is_plain]
    total[there] = 0
    for entry in range(_MOST_ENTRIES):
        stored = arena.word(at + entry * entry_bytes) & _MASK_4
        total[there] += np.where(entry < count, stored, 0)
    return total

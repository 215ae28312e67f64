"""Groups that keep many links in their header, where a change of one is a single write.

Else the library moves links out of the header from the ninth on, to a heap and an index; then each
change writes seven more pieces of metadata, through the log. Python has no call for the limit, but
a group's properties can be had from any group: from that of a file in memory, spelled here.

Format: HDF5 File Format Specification 3.0, II.A (version 2), IV.A.1.b, IV.A.2.c, IV.A.2.k.
"""

from __future__ import annotations

import struct
from typing import Final

from h5py import h5f, h5g, h5p

from h5fs.store.format.lookup3 import checksum

_MOST_IN_HEADER: Final = 200
_LEAST_OUTSIDE: Final = 100
_NAME_BYTES: Final = 24

_UNDEFINED: Final = 2**64 - 1
_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK_BYTES: Final = 48
_LINK_INFO, _GROUP_INFO = 2, 10
_HAS_LIMITS_AND_ESTIMATES: Final = 3


def compact_properties(count: int, *, link_order: int) -> h5p.PropGCID:
    """Return the properties of a new group with room for ``count`` links in its header.

    ``link_order``: which orders of creation it keeps.
    """
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(2**12, False)
    access.set_file_image(_image(count))
    properties = h5g.open(h5f.open(b"compact", h5f.ACC_RDONLY, access), b"/").get_create_plist()
    properties.set_link_creation_order(link_order)
    return properties


def _image(count: int) -> bytes:
    """Return a file whose root group is as it is wanted, and empty."""
    link_info = struct.pack("<BBQQ", 0, 0, _UNDEFINED, _UNDEFINED)
    group_info = struct.pack(
        "<BBHHHH", 0, _HAS_LIMITS_AND_ESTIMATES, _MOST_IN_HEADER, _LEAST_OUTSIDE, count, _NAME_BYTES
    )
    messages = b"".join(
        struct.pack("<BHB", kind, len(data), 0) + data
        for kind, data in ((_LINK_INFO, link_info), (_GROUP_INFO, group_info))
    )
    header = b"OHDR" + bytes([2, 0, len(messages)]) + messages
    header += checksum(header)
    size = _SUPERBLOCK_BYTES + len(header)
    superblock = _SIGNATURE + struct.pack(
        "<BBBBQQQQ", 2, 8, 8, 0, 0, _UNDEFINED, size, _SUPERBLOCK_BYTES
    )
    return superblock + checksum(superblock) + header

"""What one object header says plainly in its first bytes, for one dataset at a time.

A dataset of variable-length sequences is two files in the mount, and to open a dataset only to know
whether it is one takes ten times as long (39 us against 4). The scan (``headers.scan``) reads many
headers in lock-step, and takes 1.3 ms for a single one, so that it is no substitute. This module
looks at the one message that tells, and says "don't know" for whatever is not in its plainest form.

Format: HDF5 File Format Specification 3.0, IV.A.1 (object headers) and IV.A.2.d (datatype message).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

HEAD_BYTES = 512
"""How much of a header is looked at; the datatype message is among the first."""

LONG_HEAD_BYTES = 2**17
"""Enough for the layout message, too, where that comes behind a datatype of up to 64 KiB."""

_DATATYPE_MESSAGE = 0x0003
_LAYOUT_MESSAGE = 0x0008
_SHARED = 0x02
_CLASS_ARRAY = 10
_CLASS_SEQUENCE = 9


class Peeked(Enum):
    """What the header says of the dataset's elements."""

    SEQUENCE = "variable-length sequence"
    OTHER = "something else"
    UNKNOWN = "unknown"


def peek_at_datatype(head: bytes) -> Peeked:
    """Return whether a dataset's elements are variable-length sequences.

    ``head`` is the start of its object header.
    """
    message = _find_datatype(head)
    if message is None or len(message) < 2:
        return Peeked.UNKNOWN
    type_class, kind = message[0] & 0x0F, message[1] & 0x0F
    if type_class == _CLASS_ARRAY:  # perhaps of sequences
        return Peeked.UNKNOWN
    is_sequence = type_class == _CLASS_SEQUENCE and kind == 0
    return Peeked.SEQUENCE if is_sequence else Peeked.OTHER


def read_edges_are_whole(read: Callable[[int], bytes]) -> bool:
    """Return what ``edges_are_whole`` says of a header; False where it says None.

    ``read(n)`` returns the first ``n`` bytes of the header.
    """
    for size in (HEAD_BYTES, LONG_HEAD_BYTES):
        are_whole = edges_are_whole(read(size))
        if are_whole is not None:
            return are_whole
    return False


def edges_are_whole(head: bytes) -> bool | None:
    """Whether chunks that stick out of the array are stored filtered, as all others are.

    The layout message says so. (Its version is not the header's: the library writes a new layout
    into an old header, too.) None when the message is not plainly in ``head``.
    """
    layout = _find_message_of(head, _LAYOUT_MESSAGE, 3)
    if layout is None or len(layout) < 3:
        return None
    version, layout_class, flags = layout
    return version < 4 or (layout_class == 2 and not flags & 1)


def _find_datatype(head: bytes) -> bytes | None:
    return _find_message_of(head, _DATATYPE_MESSAGE, 2)


def _find_message_of(head: bytes, wanted: int, size: int) -> bytes | None:
    """Return the first ``size`` bytes of a message, None when it is not plainly there."""
    if head[:1] == b"\x01":
        return _find_message(head, wanted, size, start=16, type_bytes=2, head_bytes=8)
    if head[:5] == b"OHDR\x02" and len(head) > 5:
        flags = head[5]
        start = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0) + (1 << (flags & 3))
        head_bytes = 6 if flags & 4 else 4
        return _find_message(head, wanted, size, start=start, type_bytes=1, head_bytes=head_bytes)
    return None


def _find_message(
    head: bytes, wanted: int, wanted_bytes: int, *, start: int, type_bytes: int, head_bytes: int
) -> bytes | None:
    while start + head_bytes <= len(head):
        kind = int.from_bytes(head[start : start + type_bytes], "little")
        size_at = start + type_bytes
        size = int.from_bytes(head[size_at : size_at + 2], "little")
        body = start + head_bytes
        if kind == wanted:
            return None if head[size_at + 2] & _SHARED else head[body : body + wanted_bytes]
        start = body + size
    return None

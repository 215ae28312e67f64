"""One object header as a whole, in plain Python; None for one that is not whole and plain.

As strict as the scan of many headers (``headers.blocks``), which takes 1.3 ms for a single one.

Format: HDF5 File Format Specification 3.0, IV.A.1.a and b (object header prefix, versions 1 and 2)
and IV.A.2.q (continuation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import TypeAlias

from h5fs.store.format.by_path.little_endian import number_at
from h5fs.store.format.by_path.plain_messages import REFERENCE_COUNT, are_plain
from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.peek import HEAD_BYTES, first_block

Read: TypeAlias = Callable[[int, int], bytes]
"""Returns up to so many bytes at an HDF5 address."""

_MOST_BLOCK_BYTES = 2**17
_MOST_BLOCKS = 24
_CONTINUATION = 0x10
_NOTHING = 0x00
_PLAIN_KINDS = frozenset(
    (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x0A, 0x0B, 0x0C, 0x10, 0x11, 0x12, 0x15, 0x16)
)
"""Without external files, and without what only a superblock's extension or an old program has."""
_PLAIN_FLAGS = 0x01 | 0x04
"""A message that does not change, and one that is not to be shared: no others are usual."""
_KNOWN_FLAGS = 0x3F
_CHECKSUM_BYTES = 4
_MESSAGE_V1 = Struct("<HHB3x")
_MESSAGE_V2 = Struct("<BHB")

_Span: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class WholeHeader:
    """``messages``: the bodies by kind, in their order.

    ``checked``: the blocks that have a checksum, which is their end. It is not looked at here.
    """

    messages: dict[int, list[bytes]] = field(default_factory=dict)
    checked: list[bytes] = field(default_factory=list)

    def only(self, kind: int) -> bytes | None:
        """Return the body of the one message of a kind; None for none, and for several."""
        bodies = self.messages.get(kind, ())
        return bodies[0] if len(bodies) == 1 else None


def read_header(read: Read, address: int, layout: FileLayout) -> WholeHeader | None:
    """Return the header at an HDF5 address; None where anything in it is not plain."""
    try:
        return _read_header(read, address, layout)
    except IndexError:  # it ends within a number
        return None


def _read_header(read: Read, address: int, layout: FileLayout) -> WholeHeader | None:
    head = read(address, HEAD_BYTES)
    block = first_block(head)
    if block is None:
        return None
    is_v1 = block.type_bytes == 2
    end = block.stop if is_v1 else block.stop + _CHECKSUM_BYTES
    if end > _MOST_BLOCK_BYTES or (not is_v1 and head[5] & ~_KNOWN_FLAGS):
        return None
    data = head[:end] if end <= len(head) else read(address, end)
    spans = [(address, end)]
    header, count = WholeHeader(), 0
    start, size = block.start, end
    while True:
        if len(data) < size or (not is_v1 and start == 4 and data[:4] != b"OCHK"):
            return None
        stop = size if is_v1 else size - _CHECKSUM_BYTES
        walked = _walk(header.messages, data, (start, stop), block.head_bytes)
        if walked is None:
            return None
        count += walked
        if not is_v1:
            header.checked.append(data)
        continuations = header.messages.get(_CONTINUATION, ())
        if len(spans) > len(continuations):
            break
        span = _continuation(continuations[len(spans) - 1], layout)
        if span is None or len(spans) == _MOST_BLOCKS or _overlaps(span, spans):
            return None
        spans.append(span)
        data, size, start = read(*span), span[1], 0 if is_v1 else 4
    if is_v1 and (
        count != int.from_bytes(head[2:4], "little") or REFERENCE_COUNT in header.messages
    ):
        return None
    return header if are_plain(header.messages, layout) else None


def _walk(
    messages: dict[int, list[bytes]], data: bytes, span: _Span, head_bytes: int
) -> int | None:
    """Take in the messages of a block, and return how many; None where one is not plain."""
    is_v1 = head_bytes == 8
    unpack = (_MESSAGE_V1 if is_v1 else _MESSAGE_V2).unpack_from
    at, stop = span
    count = 0
    while at + head_bytes <= stop:
        kind, size, flags = unpack(data, at)
        at += head_bytes
        if at + size > stop or (is_v1 and size & 7):
            return None
        if kind not in _PLAIN_KINDS or flags & ~_PLAIN_FLAGS:
            return None
        messages.setdefault(kind, []).append(data[at : at + size])
        at += size
        count += 1
    # Version 2 may leave a gap, but where there is a message of nothing.
    return None if at != stop and (is_v1 or _NOTHING in messages) else count


def _continuation(body: bytes, layout: FileLayout) -> _Span | None:
    addresses, lengths = layout.size_of_addresses, layout.size_of_lengths
    if len(body) < addresses + lengths:
        return None
    size = number_at(body, addresses, lengths)
    return (number_at(body, 0, addresses), size) if 8 <= size <= _MOST_BLOCK_BYTES else None


def _overlaps(span: _Span, others: list[_Span]) -> bool:
    start, size = span
    return any(start < at + length and at < start + size for at, length in others)


def is_undefined(address: int, layout: FileLayout) -> bool:
    """Whether an address is that of nothing: all of its bits are set."""
    return address == (1 << 8 * layout.size_of_addresses) - 1


def has_none_of(messages: Mapping[int, object], *kinds: int) -> bool:
    """Whether a header has no message of these kinds."""
    return not any(kind in messages for kind in kinds)

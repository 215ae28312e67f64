"""What one object header says plainly, for one dataset at a time.

A dataset of variable-length sequences is two files in the mount, and to open a dataset only to know
whether it is one takes ten times as long (39 us against 4). The scan (``headers.scan``) reads many
headers in lock-step, and takes 1.3 ms for a single one, so that it is no substitute. This module
looks at the one message that tells, and says "don't know" for whatever is not in its plainest form.

What lies behind a block of messages in the file belongs to other objects, and may look like a
message: so a block is walked to its own end, and no further.

Format: HDF5 File Format Specification 3.0, IV.A.1 (object headers), IV.A.2.d (datatype message),
IV.A.2.i (data layout) and IV.A.2.q (continuation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from h5fs.store.format.file_layout import FileLayout

HEAD_BYTES = 512
"""How much of a header is looked at first; the datatype message is among the first."""

_MOST_BLOCK_BYTES = 2**17  # a datatype of up to 64 KiB may come before the layout message
_MOST_BLOCKS = 24

_DATATYPE_MESSAGE = 0x0003
_LAYOUT_MESSAGE = 0x0008
_CONTINUATION_MESSAGE = 0x0010
_SHARED = 0x02
_CLASS_ARRAY = 10
_CLASS_SEQUENCE = 9


class Peeked(Enum):
    """What the header says of the dataset's elements."""

    SEQUENCE = "variable-length sequence"
    OTHER = "something else"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class _Message:
    """A message; ``body`` is cut off where what was read is."""

    kind: int
    is_shared: bool
    body: bytes


@dataclass(frozen=True)
class HeaderBlock:
    """Messages of a header, from ``start`` to ``stop`` in ``data``, which may end before that.

    ``type_bytes``: how long the number of a message's kind is; ``head_bytes``: its whole head.
    """

    data: bytes
    start: int
    stop: int
    type_bytes: int
    head_bytes: int

    @property
    def is_cut_off(self) -> bool:
        return self.stop > len(self.data)

    def messages(self) -> Iterator[_Message]:
        at, data = self.start, self.data
        while at + self.head_bytes <= min(self.stop, len(data)):
            size_at = at + self.type_bytes
            body = at + self.head_bytes
            at = body + int.from_bytes(data[size_at : size_at + 2], "little")
            yield _Message(
                int.from_bytes(data[size_at - self.type_bytes : size_at], "little"),
                bool(data[size_at + 2] & _SHARED),
                data[body : min(at, self.stop)],
            )


def peek_at_datatype(head: bytes) -> Peeked:
    """Return whether a dataset's elements are variable-length sequences.

    ``head`` is the start of its object header.
    """
    block = first_block(head)
    messages = () if block is None else block.messages()
    message = next((each for each in messages if each.kind == _DATATYPE_MESSAGE), None)
    if message is None or message.is_shared or len(message.body) < 2:
        return Peeked.UNKNOWN
    type_class, kind = message.body[0] & 0x0F, message.body[1] & 0x0F
    if type_class == _CLASS_ARRAY:  # perhaps of sequences
        return Peeked.UNKNOWN
    is_sequence = type_class == _CLASS_SEQUENCE and kind == 0
    return Peeked.SEQUENCE if is_sequence else Peeked.OTHER


def read_edges_are_whole(
    read: Callable[[int, int], bytes], address: int, layout: FileLayout | None
) -> bool:
    """Whether chunks that stick out of the array are stored filtered, as all others are.

    The layout message of the dataset's header says so; False where none is plainly there.
    ``read(address, n)`` returns up to ``n`` bytes at an HDF5 address. Without ``layout`` only the
    header's first block is looked at.
    """
    for block in _read_blocks(read, address, layout):
        for message in block.messages():
            if message.kind == _LAYOUT_MESSAGE:
                return not message.is_shared and _says_edges_are_whole(message.body)
    return False


def _says_edges_are_whole(body: bytes) -> bool:
    # The message's version is not the header's: the library writes a new layout into an old header.
    if len(body) < 3:
        return False
    version, layout_class, flags = body[:3]
    return version < 4 or (layout_class == 2 and not flags & 1)


def _read_blocks(
    read: Callable[[int, int], bytes], address: int, layout: FileLayout | None
) -> Iterator[HeaderBlock]:
    """Yield the blocks of a header; the first one is yielded twice where it is longer than most."""
    block = first_block(read(address, HEAD_BYTES))
    if block is None:
        return
    yield block
    if block.is_cut_off:
        block = first_block(read(address, min(block.stop, _MOST_BLOCK_BYTES)))
        if block is None or block.is_cut_off:
            return
        yield block
    if layout is None:
        return
    blocks = [block]
    for block in blocks:  # grows meanwhile
        for message in block.messages():
            if message.kind == _CONTINUATION_MESSAGE and len(blocks) < _MOST_BLOCKS:
                found = _read_continuation(read, block, message, layout)
                if found is None:
                    return
                blocks.append(found)
                yield found


def first_block(head: bytes) -> HeaderBlock | None:
    """Return the block that a header begins with, None for what is no header."""
    if head[:1] == b"\x01" and len(head) >= 16:
        return HeaderBlock(head, 16, 16 + int.from_bytes(head[8:12], "little"), 2, 8)
    if head[:5] == b"OHDR\x02" and len(head) > 5:
        flags = head[5]
        size_at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        start = size_at + (1 << (flags & 3))
        stop = start + int.from_bytes(head[size_at:start], "little")
        return HeaderBlock(head, start, stop, 1, 6 if flags & 4 else 4)
    return None


def _read_continuation(
    read: Callable[[int, int], bytes], block: HeaderBlock, message: _Message, layout: FileLayout
) -> HeaderBlock | None:
    """Return the block that a message of ``block`` leads to; None where it is not plainly there."""
    addresses, lengths = layout.size_of_addresses, layout.size_of_lengths
    if message.is_shared or len(message.body) < addresses + lengths:
        return None
    address = int.from_bytes(message.body[:addresses], "little")
    size = int.from_bytes(message.body[addresses : addresses + lengths], "little")
    if size > _MOST_BLOCK_BYTES:
        return None
    data = read(address, size)
    if len(data) < size:
        return None
    if block.type_bytes == 2:
        return replace(block, data=data, start=0, stop=size)
    # Of version 2: a signature before the messages, and a checksum behind them.
    return replace(block, data=data, start=4, stop=size - 4) if data[:4] == b"OCHK" else None

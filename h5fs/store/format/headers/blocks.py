"""The messages of many object headers, walked in lock-step by numpy.

Reads the headers and their continuation blocks past the HDF5 library, and trusts none of it: a
header that is not whole and plain is marked unreadable here, and the library has to be asked.
Pure but for what it reads through the arena; keeps nothing between calls.

Format: HDF5 File Format Specification 3.0, IV.A.1.a and b (object header prefix, versions 1 and 2)
and IV.A.2.q (continuation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h5fs.store.format.file_layout import FileLayout
from h5fs.store.format.headers.arena import Arena, Bools, Ints
from h5fs.store.format.lookup3 import checksum_blocks

HEADERS_AT_ONCE = 4096

_HEAD_BYTES = 512
"""How much of a header is read at first; a longer header is then read again, as a whole."""
_BLOCK_BYTES_MAX = 128 << 10
_PASSES_MAX = 24
_MESSAGES_MAX = 96
"""Of one block. To walk one message further costs about 30 us, however few headers have one."""

_CONTINUATION = 0x10
_SHARED = 0x02
_TRACKS_ORDER = 0x04
_OHDR = int.from_bytes(b"OHDR", "little")
_OCHK = int.from_bytes(b"OCHK", "little")
_MASK_4 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Messages:
    """All messages of all headers. ``at``: where the body is in the arena, of ``size`` bytes."""

    row: Ints
    kind: Ints
    flags: Ints
    at: Ints
    size: Ints

    def select(self, which: Ints | Bools) -> Messages:
        """Return some of them."""
        return Messages(
            self.row[which], self.kind[which], self.flags[which], self.at[which], self.size[which]
        )


@dataclass(frozen=True, slots=True)
class Headers:
    """A batch of headers; the columns have one value for each header, in the order asked for.

    ``link_count`` is what a version 1 prefix says, 1 for version 2. Times are those of a version 2
    prefix, seconds since the epoch, else 0. ``messages`` has none of headers that are not readable.
    ``tracks_order``: the two bytes before a message are its place in the order in which attributes
    were created.
    """

    arena: Arena
    is_readable: Bools
    is_v2: Bools
    link_count: Ints
    atime: Ints
    mtime: Ints
    ctime: Ints
    tracks_order: Bools
    messages: Messages


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Blocks of messages of headers, which ``row`` numbers.

    A block begins at ``at`` in the arena and ends at ``end``; its messages are from ``start`` to
    ``stop``.
    """

    row: Ints
    offset: Ints  # in the file
    at: Ints
    start: Ints
    stop: Ints
    end: Ints

    def select(self, which: Bools) -> _Blocks:
        return _Blocks(
            self.row[which],
            self.offset[which],
            self.at[which],
            self.start[which],
            self.stop[which],
            self.end[which],
        )


@dataclass(frozen=True, slots=True)
class _Prefixes:
    """What headers begin with. ``is_bad`` marks those in which anything at all is wrong."""

    is_bad: Bools
    is_v2: Bools
    flags: Ints  # of version 2
    message_count: Ints  # of version 1
    link_count: Ints
    times: tuple[Ints, Ints, Ints]
    chunk: _Blocks


def walk_headers(arena: Arena, layout: FileLayout, offset: Ints) -> Headers:
    """Read the headers at those offsets in the file, and list their messages."""
    prefixes = _read_prefixes(arena, offset)
    is_bad = prefixes.is_bad
    blocks = prefixes.chunk.select(~is_bad[prefixes.chunk.row])
    walked: list[_Blocks] = []
    found: list[Messages] = []
    for _ in range(_PASSES_MAX):
        blocks = _without_bad_checksums(arena, prefixes, blocks)
        messages = _walk(arena, prefixes, blocks)
        walked.append(blocks)
        found.append(messages)
        blocks = _read_continuations(arena, layout, prefixes, messages)
        if not blocks.row.size:
            break
    is_bad[blocks.row] = True
    if len(walked) > 1:
        _mark_overlaps(is_bad, walked)
    messages = _join(found)
    counts = np.bincount(messages.row, minlength=len(offset))
    is_bad |= ~prefixes.is_v2 & (counts != prefixes.message_count)
    atime, mtime, ctime = prefixes.times
    return Headers(
        arena=arena,
        is_readable=~is_bad,
        is_v2=prefixes.is_v2,
        link_count=prefixes.link_count,
        atime=atime,
        mtime=mtime,
        ctime=ctime,
        tracks_order=prefixes.is_v2 & (prefixes.flags & _TRACKS_ORDER != 0),
        messages=messages.select(~is_bad[messages.row]) if is_bad.any() else messages,
    )


def _read_prefixes(arena: Arena, offset: Ints) -> _Prefixes:
    at, end = arena.read(offset, np.full_like(offset, _HEAD_BYTES))
    is_bad = end - at < 16
    at[is_bad] = 0  # may lie behind the arena's end
    word, next_word = arena.word(at), arena.word(at + 8)
    is_v2 = (word & _MASK_4 == _OHDR) & (word >> 32 & 0xFF == 2)
    is_bad |= ~is_v2 & (word & 0xFF != 1)
    flags = np.where(is_v2, word >> 40 & 0xFF, 0)
    start, size, times, is_strange = _read_v2_prefix(arena, at, flags)
    is_bad |= is_v2 & is_strange
    start = np.where(is_v2, start, at + 16)
    size = np.where(is_v2, size, next_word & _MASK_4)
    is_bad |= (size < 0) | (size > _BLOCK_BYTES_MAX)
    size[is_bad] = 0
    stop = start + size
    chunk = _Blocks(np.arange(len(offset)), offset, at, start, stop, stop + 4 * is_v2)
    return _Prefixes(
        is_bad=is_bad,
        is_v2=is_v2,
        flags=flags,
        message_count=word >> 16 & 0xFFFF,
        link_count=np.where(is_v2, 1, word >> 32 & _MASK_4),
        times=times,
        chunk=_read_long_ones(arena, chunk, is_bad, end),
    )


def _read_v2_prefix(
    arena: Arena, at: Ints, flags: Ints
) -> tuple[Ints, Ints, tuple[Ints, Ints, Ints], Bools]:
    """Return where messages start, how many bytes they take, the times, and which are bad."""
    has_times = flags & 0x20 != 0
    has_limits = flags & 0x10 != 0
    access, change = arena.word(at + 6), arena.word(at + 14)
    times = (access & _MASK_4, access >> 32 & _MASK_4, change & _MASK_4)
    limits_at = at + 6 + 16 * has_times
    limits = arena.word(limits_at)
    is_strange = (flags & ~0x3F != 0) | (has_limits & (limits & 0xFFFF < limits >> 16 & 0xFFFF))
    size_at = limits_at + 4 * has_limits
    width = flags & 3
    size = arena.word(size_at)
    for power, mask in enumerate((0xFF, 0xFFFF, _MASK_4)):
        size = np.where(width == power, size & mask, size)
    return (
        size_at + (np.int64(1) << width),
        size,
        (times[0] * has_times, times[1] * has_times, times[2] * has_times),
        is_strange,
    )


def _read_long_ones(arena: Arena, chunk: _Blocks, is_bad: Bools, end: Ints) -> _Blocks:
    """Read blocks again that are longer than what was read of them."""
    again = np.flatnonzero(~is_bad & (chunk.end > end))
    if not again.size:
        return chunk
    size = chunk.end[again] - chunk.at[again]
    at, end = arena.read(chunk.offset[again], size)
    moved = at - chunk.at[again]
    for places in (chunk.at, chunk.start, chunk.stop, chunk.end):
        places[again] += moved
    is_bad[again[end < chunk.end[again]]] = True
    return chunk


def _without_bad_checksums(arena: Arena, prefixes: _Prefixes, blocks: _Blocks) -> _Blocks:
    has_checksum = prefixes.is_v2[blocks.row]
    if not has_checksum.any():
        return blocks
    some = blocks.select(has_checksum)
    is_wrong = np.zeros(len(blocks.row), np.bool_)
    is_wrong[has_checksum] = checksum_blocks(arena.data, some.at, some.stop - some.at) != (
        arena.word(some.stop) & _MASK_4
    )
    prefixes.is_bad[blocks.row[is_wrong]] = True
    return blocks.select(~is_wrong)


def _walk(arena: Arena, prefixes: _Prefixes, blocks: _Blocks) -> Messages:
    """Return all messages in the blocks, those of one kind of header at a time."""
    is_v2 = prefixes.is_v2[blocks.row]
    has_order = is_v2 & (prefixes.flags[blocks.row] & _TRACKS_ORDER != 0)
    found: list[Messages] = []
    for is_form, head_bytes in ((~is_v2, 8), (is_v2 & ~has_order, 4), (has_order, 6)):
        if is_form.any():
            found += _walk_form(arena, prefixes.is_bad, blocks.select(is_form), head_bytes)
    return _join(found)


def _walk_form(arena: Arena, is_bad: Bools, blocks: _Blocks, head_bytes: int) -> list[Messages]:
    is_v1 = head_bytes == 8
    row, at, stop = blocks.row, blocks.start, blocks.stop
    found: list[Messages] = []
    for _ in range(_MESSAGES_MAX + 1):
        goes_on = at + head_bytes <= stop
        if not goes_on.all():
            if is_v1:  # version 2 may leave a gap
                is_bad[row[~goes_on & (at != stop)]] = True
            row, at, stop = row[goes_on], at[goes_on], stop[goes_on]
        if not row.size:
            return found
        word = arena.word(at)
        size = word >> (16 if is_v1 else 8) & 0xFFFF
        at = at + head_bytes
        is_over = at + size > stop
        if is_v1:
            is_over |= size & 7 != 0
        if is_over.any():
            is_bad[row[is_over]] = True
            size = np.where(is_over, 0, size)
            stop = np.where(is_over, at, stop)  # the row's last message
        kind = word & (0xFFFF if is_v1 else 0xFF)
        found.append(Messages(row, kind, word >> (32 if is_v1 else 24) & 0xFF, at, size))
        at = at + size
    is_bad[row] = True
    return found


def _join(parts: list[Messages]) -> Messages:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.empty(0, np.int64)
        return Messages(none, none, none, none, none)
    return Messages(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.flags for part in parts]),
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.size for part in parts]),
    )


def _read_continuations(
    arena: Arena, layout: FileLayout, prefixes: _Prefixes, messages: Messages
) -> _Blocks:
    """Return the blocks that continuation messages lead to, of headers that are good so far."""
    is_bad = prefixes.is_bad
    some = messages.select(messages.kind == _CONTINUATION)
    some = some.select(~is_bad[some.row])
    addresses, lengths = layout.size_of_addresses, layout.size_of_lengths
    address = arena.integer(some.at, addresses)
    length = arena.integer(some.at + addresses, lengths)
    is_v2 = prefixes.is_v2[some.row]
    is_good = (some.size >= addresses + lengths) & (some.flags & _SHARED == 0)
    is_good &= (address >= 0) & (length >= 8) & (length <= _BLOCK_BYTES_MAX)
    is_good &= address <= arena.file_size_bytes - layout.base_offset - length
    is_bad[some.row[~is_good]] = True
    row, is_v2, length = some.row[is_good], is_v2[is_good], length[is_good]
    offset = address[is_good] + layout.base_offset
    if not row.size:
        return _Blocks(row, offset, offset, offset, offset, offset)
    at, end = arena.read(offset, length)
    is_there = end - at >= length
    at[~is_there] = 0
    is_there &= ~is_v2 | (arena.word(at) & _MASK_4 == _OCHK)
    is_bad[row[~is_there]] = True
    blocks = _Blocks(row, offset, at, at + 4 * is_v2, at + length - 4 * is_v2, at + length)
    return blocks.select(~is_bad[row])


def _mark_overlaps(is_bad: Bools, walked: list[_Blocks]) -> None:
    """Mark headers that have a block twice, or blocks that overlap: the walk went in circles."""
    row = np.concatenate([blocks.row for blocks in walked])
    start = np.concatenate([blocks.offset for blocks in walked])
    stop = np.concatenate([blocks.offset + blocks.end - blocks.at for blocks in walked])
    order = np.lexsort((start, row))
    row, start, stop = row[order], start[order], stop[order]
    overlaps = (row[1:] == row[:-1]) & (start[1:] < stop[:-1])
    is_bad[row[1:][overlaps]] = True

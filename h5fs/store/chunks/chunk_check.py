"""Whether a chunk is stored whole, for chunks that the HDF5 library alone can read.

Where h5fs has the filters, but the library has to convert the elements, the chunk is decoded here
first: of one that is too short the library makes up the rest. Other filters:

The library does not tell these filters where a chunk ends, or they do not look (HDF5 2.0,
hdf5plugin 7.1): of a chunk that is cut off they decode what lies behind it in memory. What a chunk
must have follows from its own first bytes and from the filter's options; so it is looked at before
the library is asked. Zfp, SZ, SPERR and FCIDECOMP are not among them: nothing but undoing them
tells where their data end. The bytes may be hostile.

Sources: H5Zscaleoffset.c, H5Znbit.c and H5Zszip.c of the HDF5 library; "bitshuffle.c" of
https://github.com/kiyo-masui/bitshuffle; H5Zlz4.c of the HDF5 plugins; RFC 8878 for zstd.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from typing import Final

from h5fs.errors import UnreadableError
from h5fs.model.objects import Filter
from h5fs.store.chunks.decodable import (
    BITSHUFFLE,
    FLETCHER32,
    LZ4,
    NBIT,
    SCALE_OFFSET,
    SHUFFLE,
    SZIP,
    ZSTD,
    can_decode,
)
from h5fs.store.chunks.filters import LongChunkError, Pipeline, ShortChunkError
from h5fs.store.chunks.geometry import Box
from h5fs.store.chunks.scale_offset import UnusualChunkError
from h5fs.store.chunks.scatter import bytes_in_array

Raw = bytes | memoryview
_Lengths = tuple[int, int | None]
"""How many bytes a chunk must have, and into how many it says that it decodes."""

_SCALE_OFFSET_HEADER_BYTES: Final = 21
_MOST_ADDED_BYTES: Final = {
    SHUFFLE: 0,
    FLETCHER32: 4,
    SCALE_OFFSET: _SCALE_OFFSET_HEADER_BYTES + 1,
    NBIT: 1,
}
"""By how much a filter makes a chunk longer, of those of which it is known."""
# What the options of scale-offset and n-bit are, by their places.
_COUNT, _ITEM_BYTES = 2, 4
_NBIT_IDLE, _NBIT_TYPE_AT = 1, 3
_ATOMIC, _ARRAY, _COMPOUND, _AS_IT_IS = 1, 2, 3, 4

_BITSHUFFLE_ITEM_BYTES, _BITSHUFFLE_BLOCK, _BITSHUFFLE_COMPRESSOR = 2, 3, 4
_BITSHUFFLE_COMPRESSORS: Final = (2, 3)  # LZ4 and zstd; with any other number it only shuffles
_BITSHUFFLE_ITEMS: Final = 8  # a block has a multiple of these; what is over is stored as it is
_BITSHUFFLE_BLOCK_BYTES: Final = 8192
_BITSHUFFLE_LEAST_ITEMS: Final = 128

_ZSTD_MAGIC: Final = 0xFD2FB528
_ZSTD_REPEATED: Final = 1  # a block of one byte, many times


class ChunkCheck:
    """Finds out which chunks the library would make up a part of, before it is asked to read them.

    ``item_bytes``: an element's in the file. One thread at a time may use it.
    """

    def __init__(
        self, filters: tuple[Filter, ...], chunk_shape: tuple[int, ...], item_bytes: int
    ) -> None:
        self._filters = filters
        self._chunk_shape = chunk_shape
        self._item_bytes = item_bytes
        self._chunk_bytes = prod(chunk_shape) * item_bytes
        self._pipeline: Pipeline | None = None
        if can_decode(filters, item_bytes):
            self._pipeline = Pipeline(filters, item_bytes, self._chunk_bytes)
        self.tells = self._pipeline is not None or any(s.code in _MEASURES for s in filters)

    def check(self, box: Box, filter_mask: int, raw: Raw) -> None:
        """Raise ``UnreadableError`` where a chunk has fewer bytes than it must have, or is damaged.

        ``box``: what of it is within the array. Bit i of ``filter_mask``: filter i was skipped when
        the chunk was written.
        """
        # A chunk that sticks out of the array may be stored without its filters.
        is_perhaps_plain = box.count != self._chunk_shape and len(raw) == self._chunk_bytes
        if is_perhaps_plain:
            return
        if self._pipeline is None:
            self.check_end(box, filter_mask, raw)
            return
        try:
            self._pipeline.decode(raw, filter_mask)
        except (LongChunkError, UnusualChunkError):
            # The library drops bytes that are too many, and knows more of what is unusual.
            self.check_end(box, filter_mask, raw)
        except ShortChunkError as error:
            if error.size_bytes < bytes_in_array(self._chunk_shape, box.count, self._item_bytes):
                raise UnreadableError(f"chunk {box.start} is damaged: {error}") from None

    def check_end(self, box: Box, filter_mask: int, raw: Raw) -> None:
        """Raise ``UnreadableError`` where a chunk is cut off; look at nothing but numbers in it."""
        undone = [step for index, step in enumerate(self._filters) if not filter_mask >> index & 1]
        measure = _MEASURES.get(undone[-1].code) if undone else None
        if measure is None:
            return
        try:
            stored_bytes, decoded_bytes = measure(raw, undone[-1].options, self._chunk_bytes)
        except (IndexError, struct.error, RecursionError):
            raise UnreadableError(
                f"chunk {box.start} is cut off, or its filter's options"
            ) from None
        if len(raw) < stored_bytes:
            raise UnreadableError(f"chunk {box.start} is cut off after {len(raw)} bytes")
        if undone[-1].code == SZIP and decoded_bytes is not None:
            self._check_room(box, decoded_bytes, undone[:-1])
        needed_bytes = bytes_in_array(self._chunk_shape, box.count, self._item_bytes)
        # Where another filter is undone after it, what it gives back has not that filter's size.
        if len(undone) == 1 and decoded_bytes is not None and decoded_bytes < needed_bytes:
            raise UnreadableError(
                f"chunk {box.start} ends after {decoded_bytes} of {needed_bytes} bytes"
            )

    def _check_room(self, box: Box, decoded_bytes: int, before: list[Filter]) -> None:
        """Raise ``UnreadableError`` where the last filter gives back more than it can have got.

        Of that the library would take bytes of elements from wrong places. ``before``: the filters
        that were applied before the last one.
        """
        if any(step.code not in _MOST_ADDED_BYTES for step in before):
            return
        most = self._chunk_bytes + sum(_MOST_ADDED_BYTES[step.code] for step in before)
        if decoded_bytes > most:
            raise UnreadableError(f"chunk {box.start} says {decoded_bytes} bytes, not {most}")


def _measure_scale_offset(raw: Raw, options: tuple[int, ...], _: int) -> _Lengths:
    (bits,) = struct.unpack_from("<I", raw)
    count, item_bytes = options[_COUNT], options[_ITEM_BYTES]
    if options[1] >= 8 * item_bytes and options[0] == 2:  # of integers: it does nothing
        return count * item_bytes, None
    codes_bytes = -(-count * min(bits, 8 * item_bytes) // 8)
    return _SCALE_OFFSET_HEADER_BYTES + codes_bytes, count * item_bytes


def _measure_nbit(raw: Raw, options: tuple[int, ...], _: int) -> _Lengths:
    if options[_NBIT_IDLE]:
        return 0, len(raw)
    bits, _ = _bits_of(options, _NBIT_TYPE_AT)
    return -(-options[_COUNT] * bits // 8), options[_COUNT] * options[_NBIT_TYPE_AT + 1]


def _bits_of(options: tuple[int, ...], at: int) -> tuple[int, int]:
    """Return how many bits n-bit stores of a type that is described from ``at`` on, and where the
    description ends.
    """
    kind, size_bytes = options[at : at + 2]
    at += 2
    if kind == _ATOMIC:
        return options[at + 1], at + 3  # the byte order, the precision, the offset
    if kind == _ARRAY:
        _, base_bytes = options[at : at + 2]
        bits, end = _bits_of(options, at)
        return bits * (size_bytes // max(base_bytes, 1)), end
    if kind == _COMPOUND:
        total, member_count, at = 0, options[at], at + 1
        for _ in range(member_count):
            bits, at = _bits_of(options, at + 1)  # behind the member's offset
            total += bits
        return total, at
    return 8 * size_bytes, at


def _measure_szip(raw: Raw, _options: tuple[int, ...], _: int) -> _Lengths:
    """Look at the header; where the rest ends nothing but undoing it tells."""
    return 4, struct.unpack_from("<I", raw)[0]


def _measure_bitshuffle(raw: Raw, options: tuple[int, ...], chunk_bytes: int) -> _Lengths:
    item_bytes = max(options[_BITSHUFFLE_ITEM_BYTES], 1)
    given = options[_BITSHUFFLE_COMPRESSOR : _BITSHUFFLE_COMPRESSOR + 1]
    if not given or given[0] not in _BITSHUFFLE_COMPRESSORS:
        # Each block is shuffled by itself: of the last one nothing is right if it is not whole.
        block_bytes = _block_items(options, item_bytes) * item_bytes
        is_whole = len(raw) >= chunk_bytes
        return 0, len(raw) if is_whole else len(raw) // block_bytes * block_bytes
    decoded_bytes, block_bytes = struct.unpack_from(">QI", raw)
    count = decoded_bytes // item_bytes
    items = block_bytes // item_bytes or _block_items((), item_bytes)
    blocks = count // items + (count % items >= _BITSHUFFLE_ITEMS)
    end = _end_of_blocks(raw, 12, blocks)
    return end + decoded_bytes - count // _BITSHUFFLE_ITEMS * _BITSHUFFLE_ITEMS * item_bytes, (
        decoded_bytes
    )


def _block_items(options: tuple[int, ...], item_bytes: int) -> int:
    """Return how many elements a block has, by the filter's options or its own choice."""
    if len(options) > _BITSHUFFLE_BLOCK and options[_BITSHUFFLE_BLOCK]:
        return options[_BITSHUFFLE_BLOCK]
    items = _BITSHUFFLE_BLOCK_BYTES // item_bytes
    return max(items // _BITSHUFFLE_ITEMS * _BITSHUFFLE_ITEMS, _BITSHUFFLE_LEAST_ITEMS)


def _measure_lz4(raw: Raw, _options: tuple[int, ...], _: int) -> _Lengths:
    decoded_bytes, block_bytes = struct.unpack_from(">QI", raw)
    return _end_of_blocks(raw, 12, -(-decoded_bytes // max(block_bytes, 1))), decoded_bytes


def _end_of_blocks(raw: Raw, at: int, count: int) -> int:
    """Return where blocks end, each with its size before it, or what begins behind the chunk."""
    length = len(raw)
    for _ in range(count):
        if at >= length:
            break
        (size,) = struct.unpack_from(">I", raw, at)
        at += 4 + size
    else:
        return at
    return max(at, length + 1)


def _measure_zstd(raw: Raw, _options: tuple[int, ...], _: int) -> _Lengths:
    """Go through the blocks of the first frame; what is no frame is left to the library."""
    if struct.unpack_from("<I", raw)[0] != _ZSTD_MAGIC:
        return 0, None
    descriptor = raw[4]
    is_single = descriptor >> 5 & 1
    size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
    at = 5 + (1 - is_single) + (0, 1, 2, 4)[descriptor & 3]
    decoded_bytes = int.from_bytes(raw[at : at + size_bytes], "little") + 256 * (size_bytes == 2)
    at += size_bytes
    is_last = False
    while not is_last:
        header = raw[at] | raw[at + 1] << 8 | raw[at + 2] << 16
        is_last = bool(header & 1)
        at += 3 + (1 if header >> 1 & 3 == _ZSTD_REPEATED else header >> 3)
    return at + 4 * (descriptor >> 2 & 1), decoded_bytes if size_bytes else None


_MEASURES: Final[dict[int, Callable[[Raw, tuple[int, ...], int], _Lengths]]] = {
    SCALE_OFFSET: _measure_scale_offset,
    NBIT: _measure_nbit,
    SZIP: _measure_szip,
    BITSHUFFLE: _measure_bitshuffle,
    LZ4: _measure_lz4,
    ZSTD: _measure_zstd,
}

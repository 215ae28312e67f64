"""Chunks as the file holds them, decoded without the HDF5 library.

Owns the filters that are faster here than in the library; ``can_decode`` (``decodable``) tells
whether all filters of a pipeline are among them. Does no I/O, keeps nothing of a file. The bytes
may be hostile: a chunk decodes to the size that is known beforehand or is an ``UnreadableError``,
and memory is bounded by that size. One thread at a time may use a ``Pipeline``.

Sources: "Filter Pipeline Message" of the HDF5 File Format Specification, version 3; for what the
filters do, H5Zdeflate.c, H5Zshuffle.c, H5Zfletcher32.c, H5checksum.c of the HDF5 library, and
https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md for the others.

Other filters are left to the library, which is as fast (measured: 0.9 to 1.2 times) or the only
way: szip, bitshuffle, blosc2, n-bit, scale-offset of floats; and pipelines of two compressors,
since the size between the two is not known. N-bit is undone here where it does nothing, since the
library (2.0) then takes the size of a buffer for that of the chunk.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from h5fs.errors import UnreadableError
from h5fs.model.objects import Filter
from h5fs.store.chunks.decodable import (
    BLOSC,
    DEFLATE,
    FLETCHER32,
    LZ4,
    LZF,
    NBIT,
    SCALE_OFFSET,
    SHUFFLE,
    ZSTD,
    can_decode,
)
from h5fs.store.chunks.packages import deflate, imagecodecs
from h5fs.store.chunks.scale_offset import Unpacker, read_packing
from h5fs.store.chunks.shuffle import ROOM_BYTES, unshuffle

Array = np.ndarray[Any, np.dtype[np.uint8]]
_TOO_LONG: Final = ("not large enough", "too small")
"""What LZF and zstd say of a chunk that decodes to more than there is room for."""
_Decompress = Callable[[Array, Array], Array]

_CHECKSUM_BYTES = 4
_CHECKSUM_ROW_WORDS = 1024  # the fastest of 256 to 4096; row sums fit 32 bits
_MODULUS = 0xFFFF

_MAX_LIBDEFLATE_BYTES = 2**31 - 1  # deflate 0.9 takes a size of 32 bits, and drops what is above
# Asked at import, which loads the library: a confined worker could not load it any more.
_HAS_DEFLATE_INTO: Final = imagecodecs is not None and imagecodecs.DEFLATE.available
_LIBDEFLATE_ERRORS = tuple(
    error
    for package in (deflate, imagecodecs)
    if (error := getattr(package, "DeflateError", None)) is not None
)


class LongChunkError(UnreadableError):
    """A chunk decodes to more bytes than a chunk has; the HDF5 library drops the rest."""


class ShortChunkError(UnreadableError):
    """A chunk decodes to ``size_bytes`` only, fewer than a chunk has."""

    def __init__(self, size_bytes: int, expected_bytes: int) -> None:
        super().__init__(f"the chunk ends after {size_bytes} of {expected_bytes} bytes")
        self.size_bytes = size_bytes


class Pipeline:
    """Decodes the chunks of one dataset.

    It keeps up to two buffers of a chunk's size for what lies between two filters, and one for what
    is stored: memory that is new costs as much to touch as to decode into.
    """

    def __init__(self, filters: tuple[Filter, ...], item_bytes: int, chunk_bytes: int) -> None:
        """Raises ``UnreadableError`` when ``can_decode`` says no."""
        if not can_decode(filters, item_bytes):
            raise UnreadableError(f"no decoder for the filters {[step.code for step in filters]}")
        self.key = filters, item_bytes, chunk_bytes
        # N-bit is among them only where it does nothing.
        self._codes = tuple(step.code for step in filters)
        self._unpacker = _unpacker_of(filters[0], item_bytes) if filters else None
        self._item_bytes = item_bytes
        self._chunk_bytes = chunk_bytes
        self._buffers: list[Array] = []
        self._stored = np.empty(0, np.uint8)

    @property
    def max_stored_bytes(self) -> int:
        """The most bytes that an undamaged chunk can take in the file."""
        return 2 * self._chunk_bytes + 2**16

    def stored_room(self, size_bytes: int) -> Array:
        """Return memory for a chunk of that size as it is stored, until the next one is read."""
        if len(self._stored) < size_bytes:
            self._stored = np.empty(size_bytes, np.uint8)
        return self._stored

    def decode(
        self, raw: bytes | bytearray | memoryview, filter_mask: int = 0, out: Array | None = None
    ) -> Array:
        """Return a chunk's elements as they lie in memory, exactly ``chunk_bytes`` bytes.

        Bit i of ``filter_mask``: filter i was skipped when the chunk was written. ``out``: a
        contiguous array of ``chunk_bytes`` that gets the elements, and is returned; after an error
        it may hold anything. Without ``out``, the result may be a view of ``raw`` or of a buffer
        that the next call overwrites.

        Raises ``UnreadableError`` when the chunk is damaged, ``ShortChunkError`` when it is too
        short, ``LongChunkError`` when it is too long,
        ``UnusualChunkError`` when only the library knows what it means.
        """
        data: Array = np.frombuffer(raw, np.uint8)
        if len(data) > self.max_stored_bytes:
            raise UnreadableError(f"{len(data)} bytes stored for {self._chunk_bytes}")
        pending = [code for index, code in enumerate(self._codes) if not filter_mask >> index & 1]
        while pending:
            code = pending.pop()
            data = self._undo(code, data, pending, out if not pending else None)
        _check_size(len(data), self._chunk_bytes)
        if out is None or data is out:
            return data
        out[:] = data
        return out

    def _undo(self, code: int, data: Array, pending: list[int], out: Array | None) -> Array:
        """Undo one filter; ``pending``: the filters that were applied before it."""
        if code == NBIT:
            return data
        if code == FLETCHER32:
            return _verify_fletcher32(data)
        if code == SHUFFLE:
            if self._item_bytes == 1 or len(data) < 2 * self._item_bytes:
                return data  # HDF5 does not shuffle elements of one byte
            if out is None or len(out) != len(data):
                out = self._buffer(len(data), data)
            unshuffle(data, self._item_bytes, out, self._frame)
            return out
        if code == SCALE_OFFSET:
            assert self._unpacker is not None
            out = self._buffer(self._chunk_bytes, data) if out is None else out
            self._unpacker.unpack(data, out)
            return out
        size_bytes = self._chunk_bytes + _CHECKSUM_BYTES * pending.count(FLETCHER32)
        out = self._buffer(size_bytes, data) if out is None else out
        try:
            data = DECOMPRESSORS[code](data, out)
            _check_size(len(data), size_bytes)
        except ShortChunkError as error:
            checksum_bytes = size_bytes - self._chunk_bytes
            raise ShortChunkError(error.size_bytes - checksum_bytes, self._chunk_bytes) from None
        return data

    def _buffer(self, size_bytes: int, source: Array) -> Array:
        """Return memory that ``source`` does not lie in, with room in front of it."""
        free = [b for b in self._buffers if not np.may_share_memory(b, source)]
        for buffer in free:
            if len(buffer) >= ROOM_BYTES + size_bytes:
                return buffer[ROOM_BYTES : ROOM_BYTES + size_bytes]
        # At most two buffers are kept: one that is too small is dropped.
        self._buffers = [b for b in self._buffers if np.may_share_memory(b, source)]
        self._buffers.append(np.empty(ROOM_BYTES + size_bytes, np.uint8))
        return self._buffers[-1][ROOM_BYTES:]

    def _frame(self, data: Array) -> Array:
        """Return room and what follows it: ``data``, a copy unless they are in a buffer already."""
        for buffer in self._buffers:
            if data.base is buffer:  # data in a buffer always begin behind the room
                return buffer[: ROOM_BYTES + len(data)]
        framed = np.empty(ROOM_BYTES + len(data), np.uint8)
        framed[ROOM_BYTES:] = data
        return framed


def _unpacker_of(step: Filter, item_bytes: int) -> Unpacker | None:
    if step.code != SCALE_OFFSET:
        return None
    packing = read_packing(step.options, item_bytes)
    return None if packing is None else Unpacker(packing)


def _check_size(size_bytes: int, expected_bytes: int) -> None:
    if size_bytes < expected_bytes:
        raise ShortChunkError(size_bytes, expected_bytes)
    if size_bytes > expected_bytes:
        raise LongChunkError(f"the chunk is longer than {expected_bytes} bytes")


def _decode_deflate(data: Array, out: Array) -> Array:
    """Undo deflate: a zlib stream (RFC 1950), checksum verified; what follows it is ignored."""
    if len(out) <= _MAX_LIBDEFLATE_BYTES:
        try:
            if _HAS_DEFLATE_INTO:
                found: Array = imagecodecs.deflate_decode(data, out=out)
                return found
            if deflate is not None:  # the same library, but this package allocates the result
                return np.frombuffer(deflate.zlib_decompress(data, len(out)), np.uint8)
        except _LIBDEFLATE_ERRORS:
            pass  # libdeflate does not tell damage from a chunk that is too long: zlib does
    return np.frombuffer(_inflate_with_zlib(data, len(out)), np.uint8)


def _inflate_with_zlib(data: Array, size_bytes: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        # One byte of room too much: with none left, zlib would stop before the checksum.
        found = stream.decompress(data.data, size_bytes + 1)
    except zlib.error as error:
        raise UnreadableError(f"deflate: {error}") from None
    if len(found) > size_bytes:
        raise LongChunkError(f"deflate: more than {size_bytes} bytes")
    if not stream.eof:
        raise UnreadableError("deflate: the stream is cut off")
    return found


def _verify_fletcher32(data: Array) -> Array:
    """Return the data without the checksum at their end. Raises ``UnreadableError``.

    Before release 1.6.3, the library wrote the bytes of both halves in the other order on
    little-endian machines; like the library, this accepts either.
    """
    if len(data) <= _CHECKSUM_BYTES:
        raise UnreadableError("fletcher32: no room for a checksum")
    content = data[:-_CHECKSUM_BYTES]
    swapped = _fletcher32_swapped(content)
    computed = (swapped & 0x00FF00FF) << 8 | swapped >> 8 & 0x00FF00FF
    stored = int.from_bytes(data[-_CHECKSUM_BYTES:].tobytes(), "little")
    if stored not in (computed, swapped):
        raise UnreadableError(f"fletcher32: computed {computed:08x}, stored {stored:08x}")
    return content


def _fletcher32_swapped(data: Array) -> int:
    """Return the Fletcher checksum of little-endian 16-bit words.

    HDF5's words are big-endian. Swapping the bytes of a word multiplies it by 256 modulo 65535
    (256 * 256 is 1), so sums of swapped words are the swapped sums. The second sum counts each
    word as often as there are words from it to the end: here by rows, then within a row.
    """
    width = _CHECKSUM_ROW_WORDS
    row_count = len(data) // (2 * width)
    rows = data[: row_count * 2 * width].view("<u2").reshape(row_count, width)
    # Reduced modulo 65535, so that products with the numbers of 2**21 rows (4 GiB) fit 64 bits.
    row_sums = rows.sum(axis=1, dtype=np.uint32).astype(np.uint64) % _MODULUS
    column_sums = rows.sum(axis=0, dtype=np.uint64)
    first = int(column_sums.sum())
    second = width * int(row_sums @ np.arange(row_count, dtype=np.uint64)[::-1])
    second += int(column_sums @ np.arange(width, 0, -1, dtype=np.uint64))
    rest = data[row_count * 2 * width :].tobytes()
    if rest:
        words = np.frombuffer(rest + bytes(len(rest) % 2), "<u2").astype(np.uint64)
        weights = np.arange(len(words), 0, -1, dtype=np.uint64)
        second += len(words) * first + int(words @ weights)
        first += int(words.sum())
    return _fold(second) << 16 | _fold(first)


def _fold(total: int) -> int:
    """Return a sum as HDF5 reduces it: carries are added again, so only 0 becomes 0."""
    return total and (total % _MODULUS or _MODULUS)


def _decode_lzf(data: Array, out: Array) -> Array:
    """Undo lzf: one block of LibLZF, nothing around it (lzf_filter.c of h5py)."""
    found: Array = imagecodecs.lzf_decode(data, out=out)
    return found


def _decode_lz4(data: Array, out: Array) -> Array:
    """Undo lz4: 8 bytes for the size, 4 for the size of a block, then blocks.

    Each block begins with its stored size in 4 bytes; where that is its full size, the block is not
    compressed. All numbers are big-endian (H5Zlz4.c of the HDF5 plugins).
    """
    if len(data) < 12:
        raise UnreadableError("lz4: no header")
    _check_size(int.from_bytes(data[:8].tobytes(), "big"), len(out))
    found: Array = imagecodecs.lz4h5_decode(data, out=out)
    return found


def _decode_zstd(data: Array, out: Array) -> Array:
    """Undo zstd: frames as of RFC 8878."""
    found: Array = imagecodecs.zstd_decode(data, out=out)
    return found


def _decode_blosc(data: Array, out: Array) -> Array:
    """Undo blosc: one buffer of Blosc 1 (README_CHUNK_FORMAT.rst of c-blosc).

    The header is checked here, because c-blosc believes the sizes in it.
    """
    if len(data) < 16:
        raise UnreadableError("blosc: no header")
    size_bytes, block_bytes, stored_bytes = struct.unpack_from("<III", data.data, 4)
    _check_size(size_bytes, len(out))
    if not 16 <= stored_bytes <= len(data) or not 0 < block_bytes <= size_bytes:
        raise UnreadableError("blosc: sizes in the header contradict each other")
    found: Array = imagecodecs.blosc_decode(data[:stored_bytes], out=out, numthreads=1)
    return found


def _find_decompressors() -> dict[int, _Decompress]:
    """Return the decompressors whose libraries are installed; Python has one for deflate.

    ``imagecodecs`` loads each library when it is first asked about: so it is asked here, at import,
    because a confined worker could not load libraries any more.
    """
    every = {
        LZF: ("LZF", _decode_lzf),
        LZ4: ("LZ4H5", _decode_lz4),
        ZSTD: ("ZSTD", _decode_zstd),
        BLOSC: ("BLOSC", _decode_blosc),
    }
    return {DEFLATE: _decode_deflate} | {
        code: _catching(name, decode)
        for code, (name, decode) in every.items()
        if imagecodecs is not None and getattr(imagecodecs, name).available
    }


def _catching(name: str, decode: _Decompress) -> _Decompress:
    """Return a decompressor that raises ``UnreadableError`` instead of its library's errors."""

    def decode_or_refuse(data: Array, out: Array) -> Array:
        try:
            return decode(data, out)
        except (RuntimeError, ValueError, OverflowError) as error:
            is_long = any(words in str(error) for words in _TOO_LONG)
            kind = LongChunkError if is_long else UnreadableError
            raise kind(f"{name.lower()}: {error}") from None

    return decode_or_refuse


DECOMPRESSORS: Final = _find_decompressors()

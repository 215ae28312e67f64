"""PNG files without compression, whose size follows from their dimensions alone.

Format: PNG (ISO/IEC 15948), and stored blocks of RFC 1951 in a zlib stream of RFC 1950. Image
libraries compress, or promise no size; `stat` needs one before there is a picture. Pictures of one
channel have a palette, and so the same size whatever colours they show, transparent ones too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 3, 3: 2, 4: 6}  # palette, RGB, RGBA
_CHUNK_BYTES = 12  # length, name and checksum of a chunk
_HEADER_BYTES = 13
_PALETTE_BYTES = 2 * _CHUNK_BYTES + 256 * 3 + 256
_PADDING = b"paDd"  # a chunk that readers pass over
_MOST_STORED = 65_535


def png_size(width: int, height: int, channels: int) -> int:
    """Return the size of the file of a picture with 8 bits for each channel."""
    raw = height * (1 + width * channels)
    stream = 2 + raw + 5 * -(-raw // _MOST_STORED) + 4
    palette_bytes = _PALETTE_BYTES if channels == 1 else 0
    return len(_SIGNATURE) + 3 * _CHUNK_BYTES + _HEADER_BYTES + palette_bytes + stream


def padded_size(sizes: Collection[int]) -> int:
    """Return a size to which files of all these sizes can be padded."""
    size = max(sizes)
    return size if len(set(sizes)) == 1 else size + _CHUNK_BYTES


def encode_png(pixels: Pixels, palette: Pixels | None = None, size_bytes: int = 0) -> bytes:
    """Return the file of a picture: ``pixels`` of shape (height, width, channels).

    ``palette``: 256 colours of four channels, for a picture of one. ``size_bytes``: of the file,
    by ``padded_size``; 0: without padding.
    """
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # filter 0 before each row
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0))
    ]
    if channels == 1 and palette is not None:
        chunks += [(b"PLTE", palette[:, :3].tobytes()), (b"tRNS", palette[:, 3].tobytes())]
    missing = size_bytes - png_size(width, height, channels)
    if missing > 0:
        chunks.append((_PADDING, bytes(missing - _CHUNK_BYTES)))
    chunks += [(b"IDAT", _store(rows.tobytes())), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def _store(raw: bytes) -> bytes:
    pieces: list[Any] = [b"\x78\x01"]
    for start in range(0, len(raw), _MOST_STORED):
        piece = raw[start : start + _MOST_STORED]
        is_last = start + len(piece) == len(raw)
        pieces += [struct.pack("<BHH", is_last, len(piece), len(piece) ^ 0xFFFF), piece]
    return b"".join((*pieces, struct.pack(">I", zlib.adler32(raw))))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

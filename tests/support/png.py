"""PNG files as pixels, read by the standard alone, and checked."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_CHANNELS = {3: 1, 2: 3, 6: 4}


def decode_png(file: bytes) -> npt.NDArray[np.uint8]:
    """Return the RGBA pixels of a file with filter 0, checking every checksum."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks, name = 8, {b"PLTE": b"", b"tRNS": b"", b"IDAT": b""}, b""
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        name, body = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", file, at + 8 + length)[0] == zlib.crc32(name + body)
        chunks[name] = chunks.get(name, b"") + body
        at += 12 + length
    assert name == b"IEND"
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    pixels = rows[:, 1:].reshape(height, width, _CHANNELS[colour_type])
    if colour_type == 3:
        colours = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
        alphas = np.frombuffer(chunks[b"tRNS"], np.uint8)
        pixels = np.concatenate([colours, alphas[:, None]], axis=1)[pixels[:, :, 0]]
    elif colour_type == 2:
        pixels = np.concatenate([pixels, np.full_like(pixels[:, :, :1], 255)], axis=2)
    return pixels

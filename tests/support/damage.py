"""HDF5 files with one damaged or unusual object, made with h5py and a few changed bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5o, h5p, h5s, h5t, h5z

MISSING_FILTER = 499  # of the numbers for testing: nobody has such a plugin


def add_with_missing_filter(file: h5py.File, name: str, *, is_optional: bool = False) -> None:
    """Add a chunked dataset whose chunk went through a filter that is installed nowhere."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((8,))
    # Optional, or HDF5 would not create it; the chunk's mask says that it was applied.
    creation.set_filter(MISSING_FILTER, h5z.FLAG_OPTIONAL, (1, 2))
    made = h5d.create(file.id, name.encode(), h5t.STD_I32LE, h5s.create_simple((8,)), creation)
    content = np.arange(8, dtype="<i4").tobytes()
    made.write_direct_chunk((0,), content, filter_mask=1 if is_optional else 0)


def add_quad_float(file: h5py.File, name: str) -> None:
    """Add a dataset of a type that no numpy dtype holds."""
    quad = h5t.IEEE_F64LE.copy()
    quad.set_size(16)
    quad.set_precision(128)
    quad.set_fields(127, 112, 15, 0, 112)
    quad.set_ebias(16383)
    h5d.create(file.id, name.encode(), quad, h5s.create_simple((2,)))


def flip_bytes(file: Path, offset: int, size: int) -> None:
    """Invert some bytes of a file."""
    with file.open("r+b") as opened:
        opened.seek(offset)
        content = opened.read(size)
        opened.seek(offset)
        opened.write(bytes(byte ^ 0xFF for byte in content))


def damage_chunk(file: Path, name: str, index: int) -> None:
    """Damage one chunk's bytes, so that its checksum is wrong."""
    with h5py.File(file) as opened:
        chunk = opened[name].id.get_chunk_info(index)
    flip_bytes(file, chunk.byte_offset + 4, 4)


def damage_header(file: Path, name: str) -> None:
    """Damage the start of an object's header."""
    with h5py.File(file) as opened:
        address = h5o.get_info(opened[name].id).addr
    flip_bytes(file, address, 16)


def damage_group_heap(file: Path, link_name: bytes) -> None:
    """Damage the heap that holds the link names of an old group, known by one of them."""
    content = file.read_bytes()
    place = content.index(link_name + b"\0")
    heap = content.rfind(b"HEAP", 0, place)
    if heap < 0:  # its data lies before its header
        heap = content.index(b"HEAP", place)
    flip_bytes(file, heap, 4)


def lose_fill_value(file: Path, text: bytes) -> None:
    """Let a variable-length fill value point beyond the end of the file."""
    content = bytearray(file.read_bytes())
    heap = content.rfind(b"GCOL", 0, content.index(text))
    pointer = struct.pack("<IQI", len(text), heap, 1)  # the first that was put there
    assert pointer in content
    lost = struct.pack("<IQI", len(text), len(content) + 2**20, 1)
    file.write_bytes(content.replace(pointer, lost))

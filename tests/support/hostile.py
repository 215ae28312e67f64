"""HDF5 files made to crash, hang or fill the memory of whoever reads them.

Made with h5py's low-level calls, and with changed bytes where HDF5 would not write such a thing.
Each recipe is the same in every run.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5p, h5s, h5t

NEIGHBOUR = np.arange(1000, dtype="<i4")
_MEBIBYTE = 2**20


def write_neighbours(file: h5py.File) -> None:
    """Add what must stay readable: a dataset, one in a group, text, and attributes."""
    file["before"] = NEIGHBOUR
    file["z/after"] = NEIGHBOUR
    file.create_dataset("z/packed", data=NEIGHBOUR, compression="gzip")
    file.create_dataset("z/text", data=["first", "second"], dtype=h5py.string_dtype())
    file.attrs["title"] = "here"


# Virtual datasets


def add_virtual(file: h5py.File, name: str, source_file: str, source: str, size: int = 6) -> None:
    """Add a virtual dataset of int32; source file ``.`` is the file itself."""
    layout = h5py.VirtualLayout((size,), "<i4")
    layout[:] = h5py.VirtualSource(source_file, source, (size,))
    file.create_virtual_dataset(name, layout, fillvalue=-1)


def add_virtual_ring(file: h5py.File, *names: str) -> None:
    """Add virtual datasets, each with the next as its source, the last with the first."""
    for name, source in zip(names, names[1:] + names[:1], strict=True):
        add_virtual(file, name, ".", source)


def add_virtual_chain(file: h5py.File, name: str, length: int) -> None:
    """Add virtual datasets ``name0`` of ``name1`` of ... of a real one."""
    for index in range(length):
        add_virtual(file, f"{name}{index}", ".", f"{name}{index + 1}")
    file[f"{name}{length}"] = np.arange(6, dtype="<i4")


# Groups and links


def add_deep_groups(file: h5py.File, name: bytes, depth: int) -> None:
    """Add a group in a group in a group, all of one name."""
    group = file.id
    for _ in range(depth):
        group = h5g.create(group, name)


def add_doubling_groups(file: h5py.File, name: str, levels: int) -> None:
    """Add groups that each hold the next one twice: 2**levels paths, no circle."""
    below = file.create_group(f"{name} bottom")
    for level in range(levels):
        group = file.create_group(f"{name} {level}")
        group["left"] = below
        group["right"] = below
        below = group
    file[name] = below


def add_soft_chain(file: h5py.File, name: str, length: int) -> None:
    """Add soft links that each lead to the next, the last to a dataset."""
    for index in range(length):
        file[f"{name}{index}"] = h5py.SoftLink(f"/{name}{index + 1}")
    file[f"{name}{length}"] = NEIGHBOUR


def add_link_circles(file: h5py.File) -> None:
    """Add hard, soft and external links that lead back to where they came from."""
    group = file.create_group("circle/a/b")
    group["up"] = file["circle/a"]
    group["self"] = group
    group["root"] = file["/"]
    file["circle/soft"] = h5py.SoftLink("/circle/soft too")
    file["circle/soft too"] = h5py.SoftLink("/circle/soft")
    file["circle/above"] = h5py.SoftLink("/circle")
    file["circle/through itself"] = h5py.SoftLink("/circle/through itself/a")
    own = Path(file.filename).name
    file["circle/external"] = h5py.ExternalLink(own, "/circle/external")
    file["circle/again"] = h5py.ExternalLink(own, "/circle/again/a")
    file["circle/file"] = h5py.ExternalLink(own, "/")


# Chunks


def _gzip_zeros(size: int) -> bytes:
    """Return the zlib stream of that many zeros, a multiple of a MiB, without making them.

    One full-flushed block of deflate is the same wherever it stands, so it is made once.
    """
    packer = zlib.compressobj(9)
    block = bytes(_MEBIBYTE)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    other = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.flush(zlib.Z_FINISH)[:-4]
    adler32 = (size % 65521) << 16 | 1
    return first + other * (size // _MEBIBYTE - 1) + end + adler32.to_bytes(4, "big")


def add_chunk_bomb(
    file: h5py.File, name: str, chunk_bytes: int, *, inflated_bytes: int | None = None
) -> None:
    """Add a dataset of one gzip chunk, of zeros, that is a thousandth of its size in the file.

    With ``inflated_bytes`` the stream holds that many, whatever the chunk says.
    """
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((chunk_bytes,))
    creation.set_deflate(9)
    space = h5s.create_simple((chunk_bytes,))
    made = h5d.create(file.id, name.encode(), h5t.STD_U8LE, space, creation)
    made.write_direct_chunk((0,), _gzip_zeros(inflated_bytes or chunk_bytes))


# Sizes


def add_never_written(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    *,
    type_id: h5t.TypeID = h5t.STD_U8LE,
    chunks: tuple[int, ...] | None = None,
) -> None:
    """Add a dataset of any size that has no storage."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_alloc_time(h5d.ALLOC_TIME_LATE)
    if chunks:
        creation.set_chunk(chunks)
    h5d.create(file.id, name.encode(), type_id, h5s.create_simple(shape), creation)


def text_type() -> h5t.TypeID:
    """Return the type of variable-length UTF-8 text."""
    return h5t.py_create(h5py.string_dtype(), logical=True)


def sequence_type() -> h5t.TypeID:
    """Return the type of variable-length sequences of int32."""
    return h5t.vlen_create(h5t.STD_I32LE)


def string_type(size: int) -> h5t.TypeID:
    """Return a type of fixed-length strings."""
    made = h5t.C_S1.copy()
    made.set_size(size)
    return made


def deep_compound_type(depth: int) -> h5t.TypeID:
    """Return a compound in a compound in a compound."""
    made = h5t.STD_I32LE
    for _ in range(depth):
        outer = h5t.create(h5t.COMPOUND, made.get_size())
        outer.insert(b"m", 0, made)
        made = outer
    return made


def deep_sequence_type(depth: int) -> h5t.TypeID:
    """Return the type of sequences of sequences of sequences."""
    made = h5t.STD_I32LE
    for _ in range(depth):
        made = h5t.vlen_create(made)
    return made


# Attributes


def add_many_attributes(file: h5py.File, name: str, count: int) -> None:
    """Add a dataset with so many attributes, in dense storage, that have no value yet.

    20 us each: 200,000 take 4 s, a million 25 s. The file must be of libver ``latest``.
    """
    dataset = file.create_dataset(name, data=NEIGHBOUR)
    space = h5s.create(h5s.SCALAR)
    for index in range(count):
        h5a.create(dataset.id, b"%x" % index, h5t.STD_U8LE, space)


# Heaps


def loop_free_space(heap: bytearray) -> None:
    """Make the heap's first object free space of no size: HDF5 never gets past it."""
    heap[16:18] = bytes(2)
    heap[24:32] = bytes(8)


def loop_wrapped_size(heap: bytearray) -> None:
    """Give the first object a size that, with its header and rounded up, wraps around to 0."""
    heap[24:32] = (2**64 - 16).to_bytes(8, "little")


HEAP_LOOPS: list[Callable[[bytearray], None]] = [loop_free_space, loop_wrapped_size]


def damage_heap(file: Path, marker: bytes, change: Callable[[bytearray], None]) -> None:
    """Change the global heap collection that holds ``marker``, and no other.

    A collection is ``GCOL``, version and reserved bytes (8 together), its size (8), then objects:
    index (2), reference count (2), reserved (4), size (8), content padded to 8 (HDF5 file format,
    III.E).
    """
    content = bytearray(file.read_bytes())
    place = content.rindex(b"GCOL", 0, content.index(marker))
    size = int.from_bytes(content[place + 8 : place + 16], "little")
    heap = content[place : place + size]
    assert marker in heap
    change(heap)
    content[place : place + size] = heap
    file.write_bytes(content)


def write_looping_heap(
    file: Path, change: Callable[[bytearray], None], *, is_attribute: bool = False
) -> None:
    """Write a file whose dataset ``loop`` has text, or a text attribute, that hangs HDF5."""
    marker = b"text in a heap that loops " + b"x" * 3000  # fills a collection, so that it is alone
    with h5py.File(file, "w") as opened:
        if is_attribute:
            looping = opened.create_dataset("loop", data=NEIGHBOUR)
            looping.attrs["text"] = marker.decode()
        else:
            opened.create_dataset("loop", data=[marker, b"second"], dtype=h5py.string_dtype())
    with h5py.File(file, "r+") as opened:
        write_neighbours(opened)
        opened["z/padding"] = np.zeros(10)
    damage_heap(file, marker, change)


# Data outside of the file


def add_external_raw(file: h5py.File, name: str, raw_file: str, size: int = 6) -> None:
    """Add a dataset of int32 whose bytes are another file's."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_external(os.fsencode(raw_file), 0, 4 * size)
    h5d.create(file.id, name.encode(), h5t.STD_I32LE, h5s.create_simple((size,)), creation)


def make_traps(folder: Path) -> dict[str, str]:
    """Make what data outside of a file must not be read from; return names to write in the file.

    ``folder/inside`` is for the HDF5 file.
    """
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir()
    outside.mkdir()
    with h5py.File(outside / "secret.h5", "w") as opened:
        opened["d"] = np.arange(6, dtype="<i4")
    os.mkfifo(inside / "fifo")
    (inside / "door").symlink_to("../outside/secret.h5")
    (inside / "door folder").symlink_to("../outside")
    (inside / "ring").symlink_to("ring")
    (inside / "zero").symlink_to("/dev/zero")
    (inside / "folder").mkdir()
    return {
        "passwd": "/etc/passwd",
        "passwd by steps": "../" * 40 + "etc/passwd",
        "environment": "/proc/self/environ",
        "memory": "/proc/self/mem",
        "terminal": "/dev/tty",
        "zeros": "/dev/zero",
        "zeros by link": "zero",
        "fifo": "fifo",
        "door": "door",
        "through a door": "door folder/secret.h5",
        "folder": "folder",
    }

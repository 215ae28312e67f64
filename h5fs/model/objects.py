"""What the rooms tell each other about an HDF5 file: links, objects, attributes, selections.

Plain frozen values only. An object is known by its file and its id in it; the path that led to it
is kept to open it again.
"""

from __future__ import annotations

from enum import Enum
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from h5fs.model.datatypes import Datatype, count_values
from h5fs.model.members import FastEnum


class ObjectKind(FastEnum):
    """The object classes of HDF5; UNREADABLE is one whose header cannot be read."""

    GROUP = "group"
    DATASET = "dataset"
    DATATYPE = "datatype"
    UNREADABLE = "unreadable"


class LinkKind(FastEnum):
    """The link classes of HDF5."""

    HARD = "hard"
    SOFT = "soft"
    EXTERNAL = "external"
    USER_DEFINED = "user-defined"


class ObjectRef(Struct, frozen=True, eq=False):
    """Names one object: ``file`` is its file's number, 0 the mounted one; ``id`` its own in there.

    An id is what the store makes of it: from 0 to 2**63, and the same in every mount, since inode
    numbers come of it: those of an object's files are ``id`` and the three after it, so that the
    ids of two objects are 4 apart at least. 0 stands for objects that cannot be read.

    ``path`` is an HDF5 path of hard links from that file's root, by which to open it; it takes no
    part in equality, since several hard links lead to one object.
    """

    file: int
    id: int
    path: bytes

    # Each small change compares and hashes some dozens.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectRef):
            return NotImplemented
        return self.id == other.id and self.file == other.file

    def __ne__(self, other: object) -> bool:  # Struct brings one of its own
        if not isinstance(other, ObjectRef):
            return NotImplemented
        return self.id != other.id or self.file != other.file

    def __hash__(self) -> int:
        return (self.id >> 2) + self.file  # the lowest bits of ids are all alike


class ObjectInfo(Struct, frozen=True):
    """What one look at an object's header says; no data is read for it.

    ``hard_link_count`` is HDF5's reference count; times are seconds since the epoch, 0 where the
    header keeps none. ``holds_sequences``: a dataset whose elements are variable-length sequences,
    which is two files in the mount.

    ``dataset`` is set where a look at the header told all of it but what differs between datasets
    alike: ``storage_size_bytes``, and ``file_offset``, where contiguous data lie (-1: nowhere).
    ``array`` is set where that look told shape and type. Where ``array.is_scanned``, the type has
    parts of variable length: then its dtype is ``U1`` for text, else ``V1``.
    """

    ref: ObjectRef
    kind: ObjectKind
    attribute_count: int = 0
    hard_link_count: int = 1
    mtime: int = 0
    ctime: int = 0
    atime: int = 0
    holds_sequences: bool = False
    dataset: DatasetInfo | None = None
    storage_size_bytes: int = 0
    file_offset: int = -1
    array: DatasetInfo | None = None


class Link(Struct, frozen=True):
    """One link of a group. Just the fields of its kind are set.

    ``target``: the object of a hard link. ``soft_target``: the path as stored. ``external_file``
    and ``external_path``: both as stored.
    """

    name: bytes
    kind: LinkKind
    target: ObjectInfo | None = None
    soft_target: bytes = b""
    external_file: bytes = b""
    external_path: bytes = b""


class Layout(Enum):
    """Storage layouts of HDF5 datasets."""

    COMPACT = "compact"
    CONTIGUOUS = "contiguous"
    CHUNKED = "chunked"
    VIRTUAL = "virtual"


class Contiguous(Struct, frozen=True, tag=True, tag_field="class"):
    """Elements lie in the file as the ``.npy`` file has them, from byte ``file_offset`` on."""

    file_offset: int


class Filter(Struct, frozen=True):
    """One filter of a chunk's pipeline, by its registered number, with its options."""

    code: int
    options: tuple[int, ...]


class Chunked(Struct, frozen=True, tag=True, tag_field="class"):
    """Elements lie in chunks of ``chunk_shape``; the last ones of a dimension may stick out.

    ``filters`` is None where only the HDF5 library can decode a chunk; else a decoded chunk holds
    elements as the ``.npy`` file has them. ``fill_value`` is one such element, for chunks that were
    never written.
    """

    chunk_shape: tuple[int, ...]
    filters: tuple[Filter, ...] | None
    fill_value: bytes


class VirtualSource(Struct, frozen=True):
    """A dataset that has elements of a virtual one, of the same type.

    What its chunks take in the file may be told of another source, which is like it.
    """

    ref: ObjectRef
    dataset: DatasetInfo


class Virtual(Struct, frozen=True, tag=True, tag_field="class"):
    """Elements lie in other datasets, run by run.

    ``runs`` are rows of three ``<i8``: at which byte of the array's data a run begins, which of the
    ``sources`` has it, and from which byte of its data on. Each ends where the next one begins.
    """

    sources: tuple[VirtualSource, ...]
    runs: bytes


class ChunkIndex(Struct, frozen=True):
    """How many bytes each chunk of a dataset takes in the file, 0 for one that was never written.

    ``sizes`` are ``<u8``, in row-major order of the grid of chunks; None when the library does not
    say them rightly, so that it has to look up each chunk. ``offsets`` are where they lie in the
    file, in the same form; None where nobody needs to know, since all of the file is here.
    """

    sizes: bytes | None
    offsets: bytes | None = None


class Enumeration(Struct, frozen=True, array_like=True):
    """The names of an enumeration's values; ``path`` names the fields that lead to it."""

    path: tuple[bytes, ...]
    members: tuple[tuple[bytes, int], ...]


class TextWidth(Struct, frozen=True, array_like=True):
    """How long variable-length text gets as a quoted field of a table, the quotes excluded.

    ``text_bytes``: how long the text itself is. ``path`` names the fields that lead to it.
    """

    path: tuple[bytes, ...]
    size_bytes: int
    text_bytes: int = 0


class DatasetInfo(Struct, frozen=True):
    """How a dataset looks as ``.npy`` files.

    ``shape`` is None for a null dataspace. ``dtype`` is one element's: a subarray dtype for HDF5
    array types, whose dimensions trail the shape of the file's array; without numpy metadata.

    ``value_count`` is None but for a dataset of variable-length sequences: the number of values in
    all of them, of ``dtype`` each; an element of the dataset then holds ``sequences_per_element``
    sequences, more than 1 for HDF5 array types.

    ``storage_size_bytes`` is what the file has allocated for the data. ``data`` says where elements
    can be read without the HDF5 library, None when they cannot. ``is_scanned``: finding out took a
    look at every element. ``enumerations`` and ``text_widths``: what tables need beside the dtype.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]
    storage_size_bytes: int
    value_count: int | None = None
    sequences_per_element: int = 1
    data: Contiguous | Chunked | Virtual | None = None
    is_scanned: bool = False
    enumerations: tuple[Enumeration, ...] = ()
    text_widths: tuple[TextWidth, ...] = ()

    @property
    def data_bytes(self) -> int:
        """How many bytes all elements of an array take in its ``.npy`` file."""
        return 0 if self.shape is None else prod(self.shape) * self.dtype.itemsize


class StorageInfo(Struct, frozen=True):
    """How a dataset is stored.

    ``shape`` and ``maxshape`` are None for a null dataspace; a dimension without limit is None in
    ``maxshape``. ``filters`` are named as the file names them, with their options. ``fill_value``
    is one element as the ``.npy`` file holds it; None where it is undefined or of variable length.
    ``array``: shape and type, as in ``ObjectInfo``.
    """

    layout: Layout
    shape: tuple[int, ...] | None
    maxshape: tuple[int | None, ...] | None
    chunk_shape: tuple[int, ...] | None
    filters: tuple[str, ...]
    fill_value: bytes | None
    storage_size_bytes: int
    array: DatasetInfo | None = None


class Hyperslab(Struct, frozen=True):
    """A box of elements: ``count[i]`` of them from ``start[i]`` on, along each dimension."""

    start: tuple[int, ...]
    count: tuple[int, ...]


Element = Any
"""One element as plain values, by its datatype:

- integer, bitfield, float, complex, enum, opaque, time, fixed-length string: ``bytes``, the bits as
  they lie in the file (``size_bytes`` of them);
- variable-length string: ``bytes`` up to the terminator, or None for a null pointer;
- compound: tuple with one Element per member; array: tuple of all its elements, row-major;
- variable-length sequence: tuple of Elements;
- object reference: ``bytes``, the HDF5 path of its target, ``UnnamedTarget`` when no path leads to
  it, or None for a null reference;
- region reference: ``RegionTarget`` or None.
"""


class UnnamedTarget(Struct, frozen=True, tag=True, tag_field="class"):
    """What an object reference leads to when no path does: the address, as stored.

    The object has lost its last link, or there never was one.
    """

    address: int


class RegionTarget(Struct, frozen=True, tag=True, tag_field="class"):
    """What a region reference selects.

    ``path`` is the dataset's HDF5 path. ``blocks`` are (start, stop) pairs of corner coordinates,
    half-open, for a hyperslab selection; ``points`` are coordinates for a point selection;
    both empty: nothing selected. ``everything``: the whole extent.
    """

    path: bytes
    everything: bool = False
    blocks: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    points: tuple[tuple[int, ...], ...] = ()


class Attribute(Struct, frozen=True, tag=True, tag_field="class"):
    """One attribute: name and elements as stored, row-major.

    ``shape`` is None for a null dataspace, ``()`` for a scalar.
    """

    name: bytes
    type: Datatype
    shape: tuple[int, ...] | None
    elements: tuple[Element, ...]

    @property
    def value_count(self) -> int:
        """How many plain values the elements are."""
        return len(self.elements) * count_values(self.type)


class DomainEntry(Struct, frozen=True):
    """One name in a folder of a data service: a folder, or a domain."""

    name: bytes
    is_folder: bool
    mtime_ns: int


class UnreadableAttribute(Struct, frozen=True, tag=True, tag_field="class"):
    """An attribute that the HDF5 library cannot read, and why."""

    name: bytes
    reason: str


class Region(Struct, frozen=True, array_like=True):
    """Where the data of a reserved dataset are in the file: ``size_bytes`` from ``file_offset`` on.

    ``size_bytes`` is a whole number of pages. ``number`` names the dataset until ``finish_array``
    or ``drop_array``. ``blanks``: ranges of its bytes that are zeros, as nobody has written them.
    """

    number: int
    file_offset: int
    size_bytes: int
    blanks: tuple[tuple[int, int], ...] = ()

"""The store in two layers: what the tree asks, and what the HDF5 library answers.

Nothing here imports h5py. ``LibraryStore`` is the part that needs the HDF5 library and, as a rule,
lives in a worker process; ``Store`` adds what needs none: bytes of arrays, read on the short way.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import Protocol

from msgspec import Struct

from h5fs.datatypes import Datatype
from h5fs.link_table import LinkTable
from h5fs.objects import (
    Attribute,
    Chunked,
    ChunkIndex,
    DatasetInfo,
    Link,
    ObjectInfo,
    ObjectRef,
    StorageInfo,
    UnreadableAttribute,
)


class ArrayPart(Enum):
    """Which file of a dataset: its array, or of variable-length sequences the one or the other."""

    ELEMENTS = "elements"
    VALUES = "values"
    OFFSETS = "offsets"


class ChunkTask(Struct, frozen=True, array_like=True):
    """A chunk to decode: its number in the grid, and how many bytes it takes in the file."""

    number: int
    size: int


class ChunkFailure(Struct, frozen=True, array_like=True):
    """A chunk that cannot be decoded, and why."""

    number: int
    reason: str


class ChunkBatch(Struct, frozen=True):
    """Chunks of one dataset to decode into a segment.

    The segment begins with the band of chunks that chunk number ``first_chunk`` is in; the chunks
    land in it in the order of the array's elements, ``item_bytes`` each.
    """

    ref: ObjectRef
    shape: tuple[int, ...]
    item_bytes: int
    data: Chunked
    first_chunk: int
    tasks: tuple[ChunkTask, ...]
    segment: int


class LibraryStore(Protocol):
    """An HDF5 file, open, as the HDF5 library shows it. Takes and returns plain values only.

    Every method may raise ``UnreadableError``.
    """

    def root(self, file: int) -> ObjectInfo:
        """Return the root group of a file."""

    def describe_object(self, ref: ObjectRef) -> ObjectInfo:
        """Return what an object's header says now."""

    def list_links(self, group: ObjectRef, unsafe: frozenset[bytes]) -> LinkTable:
        """Return all links of a group. The library looks at no target of an ``unsafe`` name."""

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        """Return one link. Raises ``NotFoundError``."""

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo:
        """Return the object that a link leads to.

        Raises ``NotFoundError``, ``LinkLoopError``, ``ForbiddenError``.
        """

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]:
        """Return the group and the link that a path's last component names, not followed.

        The link is None when the path names the starting group. Raises as ``follow`` does.
        """

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        """Return how a dataset looks as ``.npy`` files.

        Reads every element once when the type has variable-length parts; else no element. Raises
        ``UnsupportedTypeError``, and ``ForbiddenError`` as ``read_elements`` does.
        """

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        """Return how a dataset is stored. Raises as ``describe_dataset`` does."""

    def read_elements(
        self, ref: ObjectRef, part: ArrayPart, start: int, stop: int
    ) -> bytes | bytearray:
        """Return elements ``[start, stop)``, counted row-major, as the ``.npy`` file holds them.

        Raises ``ForbiddenError`` when they lie where policy does not allow to read.
        """

    def index_chunks(self, ref: ObjectRef) -> ChunkIndex:
        """Return which of a dataset's chunks there are, from one walk through its index."""

    def decode_chunks(self, batch: ChunkBatch) -> tuple[ChunkFailure, ...]:
        """Decode chunks into a segment; return those that could not be."""

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        """Return an object's attributes, in the order that HDF5 iterates them."""

    def describe_datatype(self, ref: ObjectRef) -> Datatype:
        """Return a committed datatype."""


class Store(Protocol):
    """An HDF5 file as the tree sees it. Safe to call from any thread.

    The methods that ``LibraryStore`` has too are its own. Every method may raise
    ``UnreadableError``.
    """

    def root(self, file: int = 0) -> ObjectInfo: ...

    def list_links(self, group: ObjectRef) -> LinkTable: ...

    def get_link(self, group: ObjectRef, name: bytes) -> Link: ...

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo: ...

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]: ...

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo: ...

    def describe_storage(self, ref: ObjectRef) -> StorageInfo: ...

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]: ...

    def describe_datatype(self, ref: ObjectRef) -> Datatype: ...

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        """Fill ``buffer`` with a file's data from byte ``offset`` on, the ``.npy`` header excluded.

        The buffer ends where the data end, or before. Raises ``ForbiddenError`` as above.
        """

    def file_status(self, file: int) -> os.stat_result:
        """Return the ``stat`` of the file that an ``ObjectRef`` names."""

    def file_system_status(self) -> os.statvfs_result:
        """Return the ``statvfs`` of the file system that holds the mounted file."""

    def close(self) -> None:
        """Close the file and all that links led to; end what was started to read it."""

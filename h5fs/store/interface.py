"""The store in two layers: what the tree asks, and what the HDF5 library answers.

Nothing here imports h5py. ``LibraryStore`` is the part that needs the HDF5 library and, as a rule,
lives in a worker process; ``Store`` adds what needs none: bytes of arrays, read on the short way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from h5fs.model.datatypes import Datatype
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import (
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
from h5fs.store.statistics import StoreStatistics


class ArrayPart(Enum):
    """Which file of a dataset: its array, or of variable-length sequences the one or the other."""

    ELEMENTS = "elements"
    VALUES = "values"
    OFFSETS = "offsets"


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """A ``.npy`` file that is to become a dataset: an open file, and what its header says."""

    descriptor: int
    size_bytes: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran_order: bool
    data_start: int
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """Where the data of a reserved dataset lie in the file; ``size_bytes`` is of whole pages."""

    number: int
    file_offset: int
    size_bytes: int


class ChunkTask(Struct, frozen=True, array_like=True):
    """A chunk to decode: its number in the grid, and how many bytes it takes in the file."""

    number: int
    size: int


class ChunkFailure(Struct, frozen=True, array_like=True):
    """A chunk that cannot be decoded, and why."""

    number: int
    reason: str


class ChunkBatch(Struct, frozen=True):
    """Chunks of one dataset to decode into a shared buffer.

    The shared buffer begins with the band of chunks that chunk number ``first_chunk`` is in; the
    chunks land in it in the order of the array's elements, ``item_bytes`` each.
    """

    ref: ObjectRef
    shape: tuple[int, ...]
    item_bytes: int
    data: Chunked
    first_chunk: int
    tasks: tuple[ChunkTask, ...]
    shared_buffer: int


class NewArray(Struct, frozen=True):
    """An array that is written: the elements lie in a shared buffer, as a ``.npy`` file has them.

    ``shape`` and ``dtype`` are those of the ``.npy`` header; elements begin at byte ``data_start``.
    ``is_read``: a program reads the dataset of that name now, and shall go on reading what it has.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran_order: bool
    data_start: int
    shared_buffer: int
    is_read: bool = False


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
        ``UnsupportedTypeError``, and ``ForbiddenError`` as ``read_data`` does.
        """

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        """Return how a dataset is stored. Raises as ``describe_dataset`` does."""

    def read_data(
        self, ref: ObjectRef, part: ArrayPart, offset: int, size: int
    ) -> bytes | bytearray:
        """Return ``size`` bytes of a file's data from ``offset`` on, the header excluded.

        Raises ``ForbiddenError`` when they lie where policy does not allow to read.
        """

    def index_chunks(self, ref: ObjectRef) -> ChunkIndex:
        """Return which of a dataset's chunks there are, from one walk through its index."""

    def decode_chunks(self, batch: ChunkBatch) -> tuple[ChunkFailure, ...]:
        """Decode chunks into a shared buffer; return those that could not be."""

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        """Return an object's attributes, in the order that HDF5 iterates them."""

    def describe_datatype(self, ref: ObjectRef) -> Datatype:
        """Return a committed datatype."""


class WritingLibraryStore(LibraryStore, Protocol):
    """What the HDF5 library does to the mounted file. Each call is done whole or not at all.

    Every method may raise ``NoSpaceError``, and ``LostChangesError`` when the library failed: the
    file then is as it was before the call.
    """

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        """Create a group. Raises ``ExistsError``."""

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        """Commit a datatype, instead of the one that has the name. Raises ``ExistsError``."""

    def create_link(self, group: ObjectRef, link: Link) -> None:
        """Create a link; a hard one to an object of the mounted file. Raises ``ExistsError``."""

    def delete_link(self, group: ObjectRef, name: bytes, opened: tuple[int, ...]) -> None:
        """Delete a link. Raises ``NotFoundError``.

        An object that has no other goes, unless its address is among the ``opened``: programs have
        it open, and go on reading it until ``drop_nameless``.
        """

    def move_link(
        self,
        group: ObjectRef,
        name: bytes,
        new_group: ObjectRef,
        new_name: bytes,
        opened: tuple[int, ...],
    ) -> None:
        """Move a link, to the place of another if there is one, which is deleted as above.

        Raises ``NotFoundError``.
        """

    def write_array(self, group: ObjectRef, name: bytes, array: NewArray) -> ObjectInfo:
        """Make a dataset hold an array, in one step; create it if there is none.

        A dataset that is there keeps what it can: type, attributes, storage, all its names. Raises
        ``ExistsError`` when the name is another object's, ``InvalidArrayError``,
        ``UnsupportedTypeError``.
        """

    def reserve_array(
        self, group: ObjectRef, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[int, int, int] | None:
        """Make a dataset for a group, without a name, whose data somebody else will write.

        Returns its number, where its data begin in the file, and up to where whole pages go, all in
        bytes. None where such datasets are not stored as ``.npy`` files have them.
        """

    def finish_array(self, group: ObjectRef, name: bytes, number: int, tail: bytes) -> ObjectInfo:
        """Give a reserved dataset its name; ``tail`` are the data beyond the whole pages.

        Raises ``ExistsError``.
        """

    def drop_array(self, number: int) -> None:
        """Give up a reserved dataset."""

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None:
        """Write bytes of a dataset's array, the ``.npy`` header excluded, in place.

        Raises ``UnsupportedTypeError``.
        """

    def write_sequences(
        self,
        group: ObjectRef,
        name: bytes,
        values: NewArray,
        offsets: NewArray,
        opened: tuple[int, ...],
    ) -> ObjectInfo:
        """Make a dataset of variable-length sequences, as ``write_array`` does one of an array."""

    def change_array(
        self, ref: ObjectRef, array: NewArray, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        """Give a dataset the shape of an array and, in ranges of bytes of its data, its elements.

        Elsewhere it stays as it is. False, and nothing done, when it cannot have that shape.
        """

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> None:
        """Write attributes and delete others, in one step."""

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return those of absolute HDF5 paths that lead to no object."""

    def open_hidden(self, makes: bool) -> ObjectInfo | None:
        """Return the group that no other method shows, None when there is none and none is made.

        When none is to be made, a mount begins: what only those of the last one had open, goes.
        """

    def remove_hidden(self) -> None:
        """Remove that group, with all that nothing else leads to."""

    def drop_nameless(self, address: int) -> None:
        """Let an object go that was only open, if that is so."""

    def commit(self, is_checkpoint: bool) -> None:
        """Return when all that was done survives a power cut; a checkpoint empties the log."""


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

    def statistics(self) -> StoreStatistics:
        """Return what the store does and holds now. Waits for no worker; raises nothing."""

    def close(self) -> None:
        """Close the file and all that links led to; end what was started to read it."""


class WritingStore(Store, Protocol):
    """A store of a mode that writes. What ``WritingLibraryStore`` says holds here."""

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo: ...

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo: ...

    def create_link(self, group: ObjectRef, link: Link) -> None: ...

    def delete_link(self, group: ObjectRef, name: bytes) -> None: ...

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> None: ...

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo: ...

    def reserve_array(
        self, group: ObjectRef, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Region | None: ...

    def finish_array(
        self, group: ObjectRef, name: bytes, region: Region, tail: bytes
    ) -> ObjectInfo: ...

    def drop_array(self, region: Region) -> None: ...

    def write_region(self, region: Region, data: memoryview, offset: int) -> None:
        """Write to a reserved dataset. Raises ``NoSpaceError``, ``LostChangesError``."""

    def read_region(self, region: Region, buffer: memoryview, offset: int) -> None:
        """Read what was written there."""

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: ArrayFile, offsets: ArrayFile
    ) -> ObjectInfo: ...

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None: ...

    def change_array(
        self, ref: ObjectRef, array: ArrayFile, ranges: tuple[tuple[int, int], ...]
    ) -> bool: ...

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> None: ...

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]: ...

    def hold(self, ref: ObjectRef) -> None:
        """Keep an object readable until it is let go, whatever becomes of its links."""

    def let_go(self, ref: ObjectRef) -> None:
        """End one ``hold``."""

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        """Return the group for what no object of the HDF5 file is yet; None when there is none.

        No listing shows it, and it goes with ``remove_hidden``.
        """

    def remove_hidden(self) -> None: ...

    def commit(self, is_checkpoint: bool) -> None: ...

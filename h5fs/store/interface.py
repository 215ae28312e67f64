"""What the tree asks of a store, whoever keeps the HDF5 data: all that it takes to write one.

``Store`` is what a mode that reads needs, ``WritingStore`` what one that writes needs beside. What
both a store and the HDF5 library in a worker answer (``h5fs.store.library_interface``) is said
once, in ``ObjectStore`` and ``WritingObjectStore``. ``tests/store/conformance.py`` has this promise
as tests, for any store: subclass ``StoreConformance``, say how yours opens, and run pytest.

What holds for every method
---------------------------
Threading: any thread may call any method at any time, except ``close`` along with others.
Values: plain frozen ones of ``h5fs.model`` go in and out, and bytes.
Objects: an ``ObjectRef`` that the store has given out is valid until ``close``. One of an object
that is not there (any more) raises ``UnreadableError``; so does one of another kind than asked for.
Raises: ``UnreadableError`` (``EIO``) for what the store has and cannot read, and other subclasses
of ``H5fsError`` as said; each class has its errno in ``h5fs.errors``. Anything else is a fault of
the store, is logged with its traceback, and reaches the program as ``EIO`` as well.
Names are bytes, as HDF5 has them; offsets and sizes count bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

import numpy as np
from msgspec import Struct

from h5fs.model.datatypes import Datatype
from h5fs.model.file_status import FileStatus, SpaceStatus
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import (
    Attribute,
    DatasetInfo,
    Link,
    ObjectInfo,
    ObjectRef,
    StorageInfo,
    UnreadableAttribute,
)
from h5fs.projection.views.orders import ViewOrder
from h5fs.store.statistics import StoreStatistics


class ArrayPart(Enum):
    """Which file of a dataset: its array, or of variable-length sequences the one or the other."""

    ELEMENTS = "elements"
    VALUES = "values"
    OFFSETS = "offsets"


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """A ``.npy`` file that is to become a dataset: an open file, and what its header says.

    Elements begin at byte ``data_start``. The descriptor is lent for the time of the call.
    ``is_read``: a program reads the dataset of that name now, and shall go on reading what it has.
    ``old_rows``: of a file that goes on from a dataset, how many rows that one had then.
    """

    descriptor: int
    size_bytes: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran_order: bool
    data_start: int
    is_read: bool = False
    old_rows: int | None = None


class Region(Struct, frozen=True, array_like=True):
    """Where the data of a reserved dataset lie: from ``file_offset`` on, ``size_bytes`` of whole
    pages. ``number`` is the dataset's, until it is finished or dropped."""

    number: int
    file_offset: int
    size_bytes: int


Array_contra = TypeVar("Array_contra", contravariant=True)
"""How an array that is written is lent: ``ArrayFile`` by the tree."""


class ObjectStore(Protocol):
    """What is asked about objects, links and attributes."""

    def root(self, file: int = 0) -> ObjectInfo:
        """Return the root group of a file.

        Parameters: ``file`` is the number in an ``ObjectRef``; 0 is the mounted file.
        """

    def list_links(self, group: ObjectRef) -> LinkTable:
        """Return all links of a group, sorted by name, with what is known of their targets.

        A target that cannot be read is listed as ``ObjectKind.UNREADABLE``; it is no error of its
        group's.
        """

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        """Return one link, as ``list_links`` has it.

        Raises: ``NotFoundError``.
        """

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo:
        """Return the object that a link of any kind leads to, over further links and files.

        Raises: ``NotFoundError`` where it leads nowhere; ``LinkLoopError``; ``ForbiddenError``
        where policy (``-o external=``) does not let it lead.
        """

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]:
        """Return the group and the link that the last component of an HDF5 path names.

        Parameters: ``path`` counts from ``group``, or with a leading "/" from the root of its file.
        Returns: the link is not followed; None when the path names the starting group itself.
        Raises: as ``follow`` does.
        """

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        """Return how a dataset looks as ``.npy`` files.

        Reads every element once when the type has variable-length parts; else no element.
        Raises: ``UnsupportedTypeError``; ``ForbiddenError`` where its elements are in files that
        policy does not let be read.
        """

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        """Return how a dataset is stored.

        Raises: as ``describe_dataset`` does.
        """

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        """Return an object's attributes, in the order that HDF5 iterates them.

        One that cannot be read is an ``UnreadableAttribute``, and no error of the others.
        """

    def describe_datatype(self, ref: ObjectRef) -> Datatype:
        """Return a committed datatype.

        Raises: ``UnsupportedTypeError``.
        """


class Store(ObjectStore, Protocol):
    """An HDF5 file as the tree sees it."""

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        """Fill ``buffer`` with a file's data from byte ``offset`` on, the ``.npy`` header excluded.

        Parameters: ``dataset`` is what ``describe_dataset(ref)`` has said. The buffer ends where
        the data end, or before.
        Raises: ``UnsupportedTypeError`` for a part that the dataset has not; ``ForbiddenError``.
        The buffer may then have been written to in part.
        """

    def make_view(
        self, ref: ObjectRef, order: ViewOrder, data: bytes, buffer: memoryview
    ) -> None:
        """Fill ``buffer`` with what people look at beside a dataset's array: lines of a table.

        Parameters: ``data`` are the elements that ``order`` names, by whose rules the buffer has
        just the size. A store has no part in the work but where it is done: hostile elements must
        not harm the mount.
        """

    def attributes_at_hand(self, ref: ObjectRef) -> bytes | None:
        """Return an object's attributes as JSON, where the store has that already.

        It is what ``projection.json.attributes`` makes of ``read_attributes(ref)``, none of which
        is unreadable. Returns: None when the store would have to ask for it; a store may always say
        so.
        """

    def file_status(self, file: int) -> FileStatus:
        """Return owner, mode, size and times of the file that an ``ObjectRef`` names.

        Raises: ``CannotOpenError`` when it is gone.
        """

    def file_system_status(self) -> SpaceStatus:
        """Return how much room there is where the mounted file is kept."""

    def statistics(self) -> StoreStatistics:
        """Return what the store does and holds now. Waits for nobody; raises nothing."""

    def close(self) -> None:
        """Close the file and all that links led to; end what was started to read it.

        A second call does nothing. No other method is called after it.
        """


class WritingObjectStore(ObjectStore, Protocol[Array_contra]):
    """What is done to the mounted file. Each call is done whole or not at all.

    What it has returned from is seen by every later call, and outlives the process; a power cut
    only once there was a ``commit``. Arguments are checked before anything is changed.
    Raises, every method: ``NoSpaceError``; ``StaleError`` when another program has changed the
    file; ``LostChangesError`` when the store failed: the file then is as it was before the call.
    """

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        """Create an empty group.

        Raises: ``ExistsError`` when a link of any kind has the name.
        """

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        """Commit a datatype.

        Raises: ``ExistsError``; ``UnsupportedTypeError``.
        """

    def create_link(self, group: ObjectRef, link: Link) -> None:
        """Create a soft or an external link, which may lead nowhere, or a hard one.

        Parameters: ``link.target`` of a hard link is an object of the mounted file.
        Raises: ``ExistsError``.
        """

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        """Delete a link, and with the last hard link its object, unless programs have it open.

        Raises: ``NotFoundError``.
        """

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> None:
        """Move a link, to the place of another if there is one, which is deleted as above.

        Raises: ``NotFoundError``.
        """

    def write_array(self, group: ObjectRef, name: bytes, array: Array_contra) -> ObjectInfo:
        """Make a dataset hold an array; create it if there is none.

        A dataset that is there keeps what it can: type, attributes, storage, all its names.
        Raises: ``ExistsError`` when the name is another object's; ``InvalidArrayError`` for
        elements that the dataset's type does not hold; ``UnsupportedTypeError``.
        """

    def reserve_array(
        self, group: ObjectRef, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Region | None:
        """Make a dataset for a group, without a name yet, whose data are written piece by piece.

        Returns: None where such datasets are not stored as ``.npy`` files have them; a store may
        always say so, and is then asked to ``write_array``.
        """

    def finish_array(
        self, group: ObjectRef, name: bytes, region: Region, tail: bytes
    ) -> ObjectInfo:
        """Give a reserved dataset its name; only now anybody sees it.

        Parameters: ``tail`` are the data beyond the region's whole pages.
        Raises: ``ExistsError``.
        """

    def drop_array(self, region: Region) -> None:
        """Give up a reserved dataset; one that is not known any more is no error."""

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: Array_contra, offsets: Array_contra
    ) -> ObjectInfo:
        """Make a dataset of variable-length sequences, in the place of one that has the name.

        Parameters: sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        Raises: as ``write_array`` does.
        """

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None:
        """Write bytes of a dataset's array, the ``.npy`` header excluded, in place.

        Raises: ``UnsupportedTypeError``, ``InvalidArrayError``; ``ReadOnlyError`` where its data
        are kept elsewhere.
        """

    def change_array(
        self, ref: ObjectRef, array: Array_contra, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        """Give a dataset the shape of an array and, in ranges of bytes of its data, its elements.

        Elsewhere it stays as it is.
        Returns: False, and nothing is done, when it cannot have that shape or these elements.
        """

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> tuple[ObjectInfo, tuple[Attribute | UnreadableAttribute, ...]]:
        """Write attributes, in the place of those that have the names, and delete the ``gone``.

        Returns: what the object's header says then, and all its attributes, as ``read_attributes``
        does.
        Raises: ``UnsupportedTypeError``, ``InvalidArrayError``.
        """

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return those of absolute HDF5 paths that lead to no object."""

    def remove_hidden(self) -> None:
        """Remove the hidden group, with all that nothing else leads to; none is no error."""

    def commit(self, is_checkpoint: bool = False) -> None:
        """Return when all that was done survives a power cut.

        Parameters: ``is_checkpoint`` asks for more: that other programs see it all in the file.
        """


class WritingStore(WritingObjectStore[ArrayFile], Store, Protocol):
    """A store of a mode that writes, as the tree sees it. ``close`` commits what is not yet."""

    def write_region(self, region: Region, data: memoryview, offset: int) -> None:
        """Write bytes of a reserved dataset, within its whole pages. Seen by ``read_region`` only.
        """

    def read_region(self, region: Region, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` with what was written there; zeros where nothing was."""

    def hold(self, ref: ObjectRef) -> None:
        """Keep an object readable until it is let go, whatever becomes of its links. May nest."""

    def let_go(self, ref: ObjectRef) -> None:
        """End one ``hold``; after the last one an object that has no link goes."""

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        """Return the group for what no object of the HDF5 file is yet.

        No listing shows it, and it outlives the mount, until ``remove_hidden``.
        Returns: None when there is none and ``makes`` is false.
        """

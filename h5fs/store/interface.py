"""The interface between the tree and a store. Whoever writes a new store needs this module alone.

A mode that reads needs a ``Store``; a mode that writes needs a ``WritingStore``. Methods that the
HDF5 library in a worker answers, too (``h5fs.store.library_interface``), are in ``ObjectStore`` and
``WritingObjectStore``. ``tests/store/conformance.py`` tests any store against this interface:
subclass ``StoreConformance``, say how your store is opened, and run pytest.

What holds for every method
---------------------------
Threading: any thread may call any method at any time. Only ``close`` must be called alone.
Values: arguments and results are bytes, numbers, and the frozen structs of ``h5fs.model``.
Objects: an ``ObjectRef`` that the store has returned is valid until ``close``. A method raises
``UnreadableError`` when the object is gone, and when it is of another kind than the method is for.
Raises: ``UnreadableError`` (``EIO``) for what the store has and cannot read, and other subclasses
of ``H5fsError`` as said; each class has its errno in ``h5fs.errors``. Anything else is a fault of
the store, is logged with its traceback, and reaches the program as ``EIO`` as well.
Parameters, where a method says no more: ``ref`` is an object, ``group`` and ``new_group`` are
groups; ``name`` and ``new_name`` are names of links in these, bytes as HDF5 has them; ``link`` is a
link of ``group``. ``array``, ``values`` and ``offsets`` are arrays lent for the length of the call.
``region`` is what ``reserve_array`` has returned. ``offset`` counts bytes of an array's data (of a
region's, for ``write_region`` and ``read_region``) as the ``.npy`` file has them after its header.
Returns: an ``ObjectInfo`` says what the object's header says after the call. ``dataset`` and
``array`` in it are set as far as the store knows them at no further cost.
"""

from __future__ import annotations

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
    Region,
    StorageInfo,
    UnreadableAttribute,
)
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.statistics import StoreStatistics


class ArrayPart(Enum):
    """Which ``.npy`` file of a dataset is meant.

    ``ELEMENTS``: the only file of an ordinary dataset. A dataset of variable-length sequences has
    two files instead: ``VALUES``, all sequences one after another, and ``OFFSETS``, where each
    sequence begins in ``VALUES``.
    """

    ELEMENTS = "elements"
    VALUES = "values"
    OFFSETS = "offsets"


class ArrayFile(Struct, frozen=True):
    """A ``.npy`` file that is to become a dataset: an open file, and what its header says.

    Elements begin at byte ``data_start``. The store may use ``descriptor`` during the call only;
    where ``data`` has all of a small file, there is none (-1).
    ``is_read``: a program has the dataset of that name open, and must go on reading the old data.
    ``old_rows``: the file was made from a dataset by appending, and that dataset had so many rows;
    None for any other file. ``is_new``: its name was free when a program made it; where others
    write, too, it must still be. ``stored_like``: a dataset that a new one takes over type, chunks,
    filters and the like from, as if it replaced that, which stays as it is.
    """

    descriptor: int
    size_bytes: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran_order: bool
    data_start: int
    is_read: bool = False
    old_rows: int | None = None
    data: bytes | None = None
    is_new: bool = False
    stored_like: ObjectRef | None = None


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

        A target that cannot be read is listed as ``ObjectKind.UNREADABLE``; the call succeeds.
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
        Returns: the link itself, which is not followed; None as the link when the path names the
        starting group.
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

        An attribute that cannot be read is returned as an ``UnreadableAttribute``, and the call
        succeeds.
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

        Parameters: ``dataset`` is what ``describe_dataset(ref)`` has returned. ``offset`` plus the
        length of ``buffer`` is not beyond the end of the data.
        Raises: ``UnsupportedTypeError`` when the dataset has no such ``part``; ``ForbiddenError``.
        After an error some bytes of ``buffer`` may have changed.
        """

    def make_view(
        self, ref: ObjectRef, request: ViewRequest, data: bytes, buffer: memoryview
    ) -> None:
        """Fill ``buffer`` with what people look at beside a dataset's array: lines, or a picture.

        Parameters: ``data`` are the elements that ``request`` names; ``buffer`` has exactly the
        size of what ``request`` makes of them (``render_view``). The store only decides in which
        process that is made: one that hostile elements may crash without harm to the mount.
        """

    def attributes_at_hand(self, ref: ObjectRef) -> bytes | None:
        """Return an object's attributes as JSON, where the store has that already.

        The JSON is what ``projection.json.attribute_file`` makes of ``read_attributes(ref)``.
        Returns: None when the store does not have the JSON, or when an attribute cannot be read. A
        store that keeps no JSON always returns None.
        """

    def file_status(self, file: int) -> FileStatus:
        """Return owner, mode, size and times of the file that an ``ObjectRef`` names.

        Parameters: ``file`` is that number; 0 is the mounted file.
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

    When a method has returned, every later call sees the change, and the change outlives the
    process. It outlives a power cut once ``commit`` has returned. Arguments are checked before
    anything is changed.
    Raises, every method: ``NoSpaceError``; ``StaleError`` when another program has changed the
    file; ``LostChangesError`` when the store failed: the file then is as it was before the call.
    """

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        """Create an empty group, and return it.

        Raises: ``ExistsError`` when a link of any kind has the name.
        """

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        """Commit ``datatype`` under a name, and return what is there then.

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
    ) -> ObjectInfo | None:
        """Move a link, to the place of another if there is one, which ``delete_link`` says more of.

        A link that is moved to its own place stays as it is.
        Returns: the link's object, without its dataset; None where that is not known.
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

        Parameters: ``shape`` and ``dtype`` are those of the ``.npy`` file.
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
        """Give up a reserved dataset. Does nothing when that dataset is no longer known."""

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: Array_contra, offsets: Array_contra
    ) -> ObjectInfo:
        """Make a dataset of variable-length sequences, in the place of one that has the name.

        Parameters: sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        Raises: as ``write_array`` does.
        """

    def write_elements(
        self, ref: ObjectRef, offset: int, data: bytes, is_mapped: bool = False
    ) -> None:
        """Write ``data``, bytes of a dataset's array, in place: from ``offset`` on.

        Parameters: ``is_mapped``: the kernel writes back pages of a map, in any order.
        Raises: ``UnsupportedTypeError``, ``InvalidArrayError``; ``ReadOnlyError`` where its data
        are kept elsewhere.
        """

    def change_array(
        self, ref: ObjectRef, array: Array_contra, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        """Give a dataset the shape of an array and, in ranges of bytes of its data, its elements.

        Parameters: ``ranges`` are half-open. Elements outside of them stay as they are.
        Returns: False when the dataset cannot have that shape or these elements; then nothing has
        been changed.
        """

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> tuple[ObjectInfo, tuple[Attribute | UnreadableAttribute, ...]]:
        """Write ``attributes``, in the place of those of their names, and delete the ``gone``.

        Returns: what the object's header says then, and all its attributes, as ``read_attributes``
        does.
        Raises: ``UnsupportedTypeError``, ``InvalidArrayError``.
        """

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return those of ``paths``, which are absolute HDF5 paths, that lead to no object."""

    def remove_hidden(self) -> None:
        """Remove the hidden group, with all objects in it that no other link leads to.

        Does nothing when there is no hidden group.
        """

    def commit(self, is_checkpoint: bool = False) -> None:
        """Return when all that was done survives a power cut.

        Parameters: ``is_checkpoint`` asks for more: that other programs see it all in the file.
        """


class DataVersion(Struct, frozen=True):
    """``number`` differs after each change of a dataset's data.

    ``is_followed``: the data are the dataset's own, so that no other change changes them. Not known
    (False) before the dataset was described or read.
    """

    number: int
    is_followed: bool


class WritingStore(WritingObjectStore[ArrayFile], Store, Protocol):
    """A store of a mode that writes, as the tree sees it.

    ``close`` commits the changes that were not committed before.
    """

    def write_region(self, region: Region, data: memoryview, offset: int) -> None:
        """Write ``data`` to a reserved dataset, within ``region``.

        Until ``finish_array`` only ``read_region`` sees them.
        """

    def clear_region(self, region: Region, start: int, stop: int) -> None:
        """Let bytes of ``region`` from ``start`` on, before ``stop``, be zeros, as at first."""

    def read_region(self, region: Region, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` with what ``write_region`` has written, and with zeros elsewhere."""

    def data_version(self, ref: ObjectRef) -> DataVersion | None:
        """Return the present version of a dataset's data; None where versions are not kept."""

    def hold(self, ref: ObjectRef) -> None:
        """Keep an object readable until ``let_go``, even when its last link is deleted.

        Calls are counted: an object that was held twice must be let go twice.
        """

    def let_go(self, *refs: ObjectRef) -> None:
        """End one ``hold`` of each of ``refs``. After the last one, an object without a link is
        deleted.
        """

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        """Return the group in which the tree keeps what is not yet an object of the HDF5 file.

        No listing shows this group. It outlives the mount, until ``remove_hidden``.
        Returns: None when there is none and ``makes`` is false.
        """

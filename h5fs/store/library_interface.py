"""What the HDF5 library answers, as a rule in a worker: the promise between daemon and worker.

Only the two ends of the workers need this; whoever writes another store needs
``h5fs.store.interface`` alone. Here is what a worker promises beyond that or otherwise: it is lent
arrays in shared buffers, and is told what the daemon alone knows. Arguments and results cross
processes, by their annotations (``h5fs.store.workers.messages``).
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from msgspec import Struct

from h5fs.model.link_table import LinkTable
from h5fs.model.objects import (
    Chunked,
    ChunkIndex,
    DatasetInfo,
    ObjectInfo,
    ObjectRef,
    StorageInfo,
)
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.interface import ArrayPart, ObjectStore, WritingObjectStore


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
    chunks land in it in the order of the array's elements, ``item_bytes`` each; in a band file one
    after another (``h5fs.store.chunks.band_files``). ``rows``: the shared buffer takes these rows
    of the band alone, from the first to the one behind the last; it begins with the first.
    """

    ref: ObjectRef
    shape: tuple[int, ...]
    item_bytes: int
    data: Chunked
    first_chunk: int
    tasks: tuple[ChunkTask, ...]
    shared_buffer: int
    is_band_file: bool = False
    rows: tuple[int, int] | None = None


class RowBatch(Struct, frozen=True):
    """Rows of a band to gather from its band file into a shared buffer.

    The rows count from the band's first, ``start`` to ``stop`` of ``band_rows``; all chunks of the
    band are there.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    item_bytes: int
    start: int
    stop: int
    band_rows: int
    band_file: int
    shared_buffer: int


class ChangedPart(Struct, frozen=True, array_like=True):
    """An object of which a part of the data has changed: those from byte ``start`` on, in row-major
    order. What lies before is as it was, at the same place, also where the array has grown.
    """

    id: int
    start: int


ChangedObjects: TypeAlias = tuple[int | ChangedPart, ...] | None
"""The objects whose data are others after a change, or gone: the id alone where all of the data may
be; None: any object."""


def first_changed_bytes(changed: tuple[int | ChangedPart, ...]) -> dict[int, int]:
    """Return from which byte on the data of each object have changed, by its id."""
    found: dict[int, int] = {}
    for each in changed:
        number, start = (each.id, each.start) if isinstance(each, ChangedPart) else (each, 0)
        found[number] = min(found.get(number, start), start)
    return found


class NewArray(Struct, frozen=True):
    """An array that is written: the elements lie in a shared buffer, as a ``.npy`` file has them.

    Those of a small file lie in ``data``. All else is as in ``ArrayFile``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran_order: bool
    data_start: int
    shared_buffer: int
    is_read: bool = False
    data: bytes | None = None
    stored_like: ObjectRef | None = None


MOST_DATA_AHEAD_BYTES = 64 * 2**10
"""Arrays of no more bytes are read before somebody asks for them."""

MOST_TEXT_AHEAD_BYTES = 64 * 2**10

LOOK_SECONDS = 0.025
LOOK_BYTES = 2**20
"""``look_ahead`` answers for no more objects once its answer has this size, or it has computed for
``LOOK_SECONDS``."""


class Look(Struct, frozen=True, array_like=True):
    """An object that a program will most likely ask for, and what of it."""

    ref: ObjectRef
    attributes: bool
    dataset: bool
    data: bool
    storage: bool = False


class ObjectDetails(Struct, frozen=True, array_like=True):
    """What a look at an object has found; None: not asked for, an error, or not in a moment.

    ``attributes``: the content of its attribute file. ``data``: all of a small array's elements, as
    the ``.npy`` file holds them.
    """

    attributes: bytes | None = None
    dataset: DatasetInfo | None = None
    data: bytes | None = None
    storage: StorageInfo | None = None


class Uncopied(Struct, frozen=True, array_like=True):
    """What of a group could not be copied into another, and why."""

    path: bytes
    reason: str


Shape: TypeAlias = tuple[int, ...] | None


class LibraryStore(ObjectStore, Protocol):
    """An HDF5 file, open, as the HDF5 library shows it. One call at a time."""

    def describe_object(self, ref: ObjectRef) -> ObjectInfo:
        """Return what an object's header says now."""

    def list_links(self, group: ObjectRef, unsafe: frozenset[bytes] = frozenset()) -> LinkTable:
        """Return all links of a group.

        Parameters: the library looks at no target of an ``unsafe`` name, since that has killed a
        worker; b"" stands for all names.
        """

    def read_data(
        self, ref: ObjectRef, part: ArrayPart, offset: int, size: int, shape: Shape = None
    ) -> bytes | bytearray:
        """Return ``size`` bytes of a file's data from ``offset`` on, the header excluded.

        ``shape``: the dataset's, as the caller knows it. Raises: ``ForbiddenError`` when they lie
        where policy does not allow to read; ``StaleError`` where the shape is another one, in which
        elements have other places.
        """

    def render_view(self, ref: ObjectRef, request: ViewRequest, data: bytes) -> bytes:
        """Return lines or a picture, made of elements; ``ref`` is blamed if that kills a worker."""

    def look_ahead(self, looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        """Return details of the first of some objects, of as many as take little time.

        An object that cannot be read has no details; the call succeeds. Reads all elements of small
        arrays, of those with variable-length parts also to say how they look.
        """

    def index_chunks(self, ref: ObjectRef, shape: tuple[int, ...]) -> ChunkIndex:
        """Return which chunks there are of a dataset's first elements, ``shape`` of them.

        From one walk through its index. The dataset may have grown since it had that shape.
        """

    def decode_chunks(self, batch: ChunkBatch) -> tuple[ChunkFailure, ...]:
        """Decode chunks into a shared buffer; return those that could not be.

        Raises ``NoRoomError`` when the disk of a band file is full.
        """

    def gather_rows(self, batch: RowBatch) -> None:
        """Put rows of a band into a shared buffer in memory."""


class WritingLibraryStore(WritingObjectStore[NewArray], LibraryStore, Protocol):
    """What the HDF5 library does to the mounted file.

    ``opened`` are the ids of objects that programs have open: one of them that loses its last link
    is kept in the hidden group, until ``drop_nameless``.
    """

    def delete_link(self, group: ObjectRef, name: bytes, opened: tuple[int, ...] = ()) -> None:
        """Delete a link."""

    def move_link(
        self,
        group: ObjectRef,
        name: bytes,
        new_group: ObjectRef,
        new_name: bytes,
        opened: tuple[int, ...] = (),
    ) -> ObjectInfo | None:
        """Move a link; return what it leads to, if that is an object."""

    def write_sequences(
        self,
        group: ObjectRef,
        name: bytes,
        values: NewArray,
        offsets: NewArray,
        opened: tuple[int, ...] = (),
    ) -> ObjectInfo:
        """Make a dataset of variable-length sequences."""

    def copy_object(
        self, file: bytes, path: bytes, group: ObjectRef, name: bytes
    ) -> tuple[Uncopied, ...]:
        """Copy an object, with all that is in it, from an HDF5 file of this machine.

        Parameters: ``name`` is the new object's in ``group``; when it is empty, what is in the
        object at ``path``, and its attributes, are copied into ``group`` itself.
        Raises: ``ExistsError``; ``NotFoundError``; ``CannotOpenError``; ``ForbiddenError``.
        """

    def open_hidden(self, makes: bool) -> ObjectInfo | None:
        """Return the hidden group, None when there is none and none is made.

        Without ``makes`` a mount begins: objects that only programs of the last mount had open are
        deleted.
        """

    def shorten_log(self) -> None:
        """Bring the log into the file. Where that fails, the log stays, with a line in the log."""

    def drop_nameless(self, object_ids: tuple[int, ...]) -> None:
        """Delete objects that are only kept because programs had them open."""

"""The store in this process: identifiers kept open, one lock over the library."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from h5py import h5d, h5g, h5o

from h5fs.errors import UnreadableError, show_path
from h5fs.model.datatypes import Datatype
from h5fs.model.file_status import NumberedFile
from h5fs.model.link_table import LinkTable
from h5fs.model.objects import (
    Attribute,
    ChunkIndex,
    DatasetInfo,
    Link,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    StorageInfo,
    UnreadableAttribute,
)
from h5fs.model.settings import StoreOptions
from h5fs.projection.views.view_requests import ViewRequest
from h5fs.store.element_ranges import OFFSET_BYTES, read_through_library
from h5fs.store.hdf5.library_errors import reading
from h5fs.store.hdf5.objects import links
from h5fs.store.hdf5.objects.driven_main import DrivenMain
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.objects.links import LinkReader
from h5fs.store.hdf5.plugins import register_plugins_for
from h5fs.store.hdf5.reading import datasets
from h5fs.store.hdf5.reading.direct_reading import DirectReading
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier, OpenIdentifiers
from h5fs.store.hdf5.reading.outside_data import OutsidePolicy
from h5fs.store.hdf5.reading.projected import (
    FixedDataset,
    ProjectedDataset,
    details_of,
    project_dataset,
    read_part,
)
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import ChunkBatch, ChunkFailure, Look, ObjectDetails, Shape
from h5fs.store.resolving import Resolver
from h5fs.store.workers.shared_buffers import SharedBufferViews

if TYPE_CHECKING:  # imported when it is asked for: a command that reads one file asks for little
    from h5fs.store.chunks.destinations import Destination
    from h5fs.store.chunks.filters import Pipeline
    from h5fs.store.hdf5.objects.references import PathFinder
    from h5fs.store.hdf5.reading.looking_ahead import LookingAhead
    from h5fs.store.library_interface import RowBatch

_MAX_SCANNED = 1024
_MAX_READ_AT_ONCE = 8


def ignore(*_what: object) -> None:
    """Hear, and do nothing."""


class Hdf5Store:
    """Answers what ``h5fs.store.library_interface.LibraryStore`` promises.

    ``on_progress`` is called now and then in what may take long; ``on_look(name)`` before the
    library looks at what a link of a listed group leads to; ``on_file(number, file)`` when a file
    other than the mounted one gets its number. ``shared_buffers`` are where chunks are decoded to.
    ``driven``, ``main`` and ``granted`` are as for ``OpenFiles``. ``is_broken``: the store must not
    be used any more; one that only reads never is.

    Lock order: ``_lock`` protects everything here and every call into HDF5; nothing else is taken
    while it is held. HDF5 has one lock of its own, so a finer one would gain nothing.
    """

    _is_read_by_chunk = True  # the daemon keeps decoded chunks, so that the library need not

    def __init__(
        self,
        options: StoreOptions,
        *,
        on_progress: Callable[[], None] = ignore,
        on_look: Callable[[bytes], None] = ignore,
        on_file: Callable[[int, NumberedFile], None] = ignore,
        shared_buffers: SharedBufferViews | None = None,
        driven: DrivenMain | None = None,
        main: int | None = None,
        granted: frozenset[tuple[int, int]] | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self.is_broken = False
        self._limits = options.limits
        self._on_progress = on_progress
        self._shared_buffers = shared_buffers or SharedBufferViews()
        self._files = OpenFiles(
            options, on_close=self._forget_file, on_number=on_file,
            driven=driven, main=main, granted=granted,
        )  # fmt: skip
        self._opened = OpenIdentifiers(self._open_identifier)
        # What a scan of a dataset cost much to find out, and takes little to keep.
        self._scanned: OrderedDict[ObjectRef, ProjectedDataset] = OrderedDict()
        # Those of them that may keep elements, which take memory.
        self._read: OrderedDict[ObjectRef, ProjectedDataset] = OrderedDict()
        self._pipeline: Pipeline | None = None
        self._object_paths: dict[int, PathFinder] = {}
        most = options.limits.max_chunk_bytes
        self._links = LinkReader(self._files, on_look, on_progress, most)
        self._on_look = on_look
        self._looking_ahead: LookingAhead | None = None
        changes = options.mode.writes or options.is_swmr  # what is read is elsewhere the next time
        describe = None if changes else self._describe_source
        self._outside = OutsidePolicy(self, self._files, self._open_bounded, describe, on_progress)
        self._ways = DirectReading(self._files, changes, on_progress)

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        with self._lock:
            self._files.open_mounted()
            if self.root().kind is not ObjectKind.GROUP:
                reason = links.why_unreadable(self._files.file_id(0), b"/")
                raise UnreadableError(f"the root group cannot be read: {reason}")

    def catch_up(self, number: int, stop: int) -> None:
        """Be at a commit of a log: this store is always at the last one."""

    def root(self, file: int = 0) -> ObjectInfo:
        with self._lock:
            file_id = self._files.file_id(file)
            return self._links.describe_object(file_id, b"/", file=file, path=b"/")

    def describe_object(self, ref: ObjectRef) -> ObjectInfo:
        with self._lock:
            return self._links.describe_object(
                self._files.file_id(ref.file), ref.path, file=ref.file, path=ref.path
            )

    def know_file(self, number: int, file: NumberedFile) -> None:
        """Take over the number that another process has given to a file."""
        with self._lock:
            self._files.know(number, file)

    def list_links(self, group: ObjectRef, unsafe: frozenset[bytes] = frozenset()) -> LinkTable:
        with self._lock:
            return self._links.list_links(self._group_id(group), group, unsafe)

    def get_link(self, group: ObjectRef, name: bytes) -> Link:
        with self._lock:
            return self._links.get_link(self._group_id(group), group, name)

    def follow(self, group: ObjectRef, link: Link) -> ObjectInfo:
        with self._lock:
            return Resolver(self).follow(group, link)

    def find_link(self, group: ObjectRef, path: bytes) -> tuple[ObjectRef, Link | None]:
        with self._lock:
            return Resolver(self).find_link(group, path)

    def find_external(self, name: bytes, *, linking_file: int) -> int:
        """Return the number of the file that an external link names (for the resolver)."""
        return self._files.find_external(name, linking_file=linking_file)

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        with self._lock, reading(ref.path):
            dataset_id = self._dataset_id(ref)
            projected = self._projected(ref)
            self._confirm_sources(ref)
            if projected.dtype.itemsize > self._limits.max_chunk_bytes:
                # The library reads whole elements.
                raise UnreadableError(
                    f"elements of {projected.dtype.itemsize} bytes, more than -o max_chunk allows"
                )
            return DatasetInfo(
                shape=datasets.shape_of(dataset_id),
                dtype=projected.dtype,
                storage_size_bytes=dataset_id.get_storage_size(),
                data=self._ways.find(ref, dataset_id, self._opened.open(ref), projected),
                **details_of(projected),
            )

    def _describe_source(self, ref: ObjectRef) -> tuple[Any, DatasetInfo] | None:
        self._on_progress()
        opened = self._opened.open(ref)
        if opened.creation.get_layout() == h5d.VIRTUAL:
            return None
        opened.is_permitted = True  # as a source, it has just been checked
        return opened.identifier, self.describe_dataset(ref)

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        with self._lock, reading(ref.path):
            info = datasets.describe_storage(self._dataset_id(ref))
            self._confirm_sources(ref)
            return info

    def read_data(
        self, ref: ObjectRef, part: ArrayPart, offset: int, size: int, shape: Shape = None
    ) -> bytes | bytearray:
        with self._lock, reading(ref.path):
            projected = self._projected(ref)
            item_bytes = OFFSET_BYTES if part is ArrayPart.OFFSETS else projected.dtype.itemsize
            read = functools.partial(self.read_elements, ref, part)
            # What of an element nobody asks for stays here: a large one takes many requests.
            with datasets.keeping_shape(self._dataset_id(ref), shape):
                return read_through_library(read, item_bytes, offset, size)

    def read_elements(
        self, ref: ObjectRef, part: ArrayPart, start: int, stop: int
    ) -> bytes | bytearray:
        """Return elements ``[start, stop)``, counted row-major, as the ``.npy`` file holds them.

        Raises ``UnsupportedTypeError`` when the dataset has no such ``part``; ``ForbiddenError``.
        """
        with self._lock, reading(ref.path):
            projected = self._projected(ref)
            self._note_read(ref, projected)
            dataset_id = self._dataset_id(ref)
            self._opened.open(ref).outside.check_mapped(dataset_id, start, stop)
            data = read_part(projected, part, dataset_id, start, stop)
            self._confirm_sources(ref)
            return data

    def look_ahead(self, looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        from h5fs.store.hdf5.reading.looking_ahead import LookingAhead

        with self._lock:
            if self._looking_ahead is None:
                self._looking_ahead = LookingAhead(self, self._files, self._opened, self._on_look)
            return self._looking_ahead.look_ahead(looks)

    def index_chunks(self, ref: ObjectRef, shape: tuple[int, ...]) -> ChunkIndex:
        from h5fs.store.hdf5.reading import chunks

        with self._lock, reading(ref.path):
            base_offset = self._files.base_offset_of_fetched(ref.file)
            return chunks.index_chunks(self._dataset_id(ref), shape, self._on_progress, base_offset)

    def decode_chunks(self, batch: ChunkBatch) -> tuple[ChunkFailure, ...]:
        from h5fs.store.chunks.destinations import destination_of

        return self.decode_to(batch, destination_of(batch, self._shared_buffers))

    def gather_rows(self, batch: RowBatch) -> None:
        from h5fs.store.chunks.destinations import gather_batch

        gather_batch(batch, self._shared_buffers)

    def decode_to(self, batch: ChunkBatch, place: Destination) -> tuple[ChunkFailure, ...]:
        """Decode chunks to their place; return those that could not be."""
        from h5fs.store.hdf5.reading import chunks

        with self._lock, reading(batch.ref.path):
            projected = self._projected(batch.ref)
            assert isinstance(projected, FixedDataset)
            dataset_id = self._dataset_id(batch.ref)
            self._pipeline = chunks.pipeline_of(batch, self._pipeline)
            decoder = chunks.ChunkDecoder(
                batch, place, dataset_id, projected.memory, self._pipeline
            )
            return decoder.decode_all(self._on_progress)

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        from h5fs.store.hdf5.objects import attributes

        with self._lock, reading(f"attributes of {show_path(ref.path)}"):
            return attributes.read_attributes(
                self._opened.open(ref).identifier,
                paths=self._path_of(ref.file),
                on_progress=self._on_progress,
            )

    def describe_datatype(self, ref: ObjectRef) -> Datatype:
        from h5fs.store.hdf5.types import type_ids

        with self._lock, reading(ref.path):
            return type_ids.describe_datatype(self._opened.open(ref).identifier)

    def render_view(self, ref: ObjectRef, request: ViewRequest, data: bytes) -> bytes:
        from h5fs.projection.views.rendering import render_view

        with reading(ref.path):  # which needs no library, but a process that elements may end
            return render_view(request, data)

    def confirm_reads(self) -> None:
        """Raise ``UnreadableError`` when the library was given zeros for what could not be read.

        The methods of a file object must not raise, and so cannot tell the library.
        """
        failure = self._files.failure
        if failure is not None:
            self.is_broken = True
            raise UnreadableError(f"the file or its log: {failure.strerror}")

    @property
    def may_be_replaced(self) -> bool:
        """Whether another process can take this one's place without anything being lost."""
        return True

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            self._files.close()

    def _group_id(self, ref: ObjectRef) -> Any:
        identifier = self._opened.open(ref).identifier
        if not isinstance(identifier, h5g.GroupID):
            raise UnreadableError(f"{show_path(ref.path)} is not a group")
        return identifier

    def _dataset_id(self, ref: ObjectRef) -> Any:
        return self._opened_dataset(ref).identifier

    def _opened_dataset(self, ref: ObjectRef) -> OpenIdentifier:
        """Return a dataset that may be read, open. Raises ``ForbiddenError``."""
        opened = self._opened.open(ref)
        if not isinstance(opened.identifier, h5d.DatasetID):
            raise UnreadableError(f"{show_path(ref.path)} is not a dataset")
        if not opened.is_permitted:
            opened.outside = self._outside.check(ref, is_logged=self._files.is_logged(ref.file))
            opened.is_permitted = True
            self._opened.keep(ref, opened)
        return opened

    def _confirm_sources(self, ref: ObjectRef) -> None:
        """See after a read that HDF5 could open all sources that there are."""
        opened = self._opened.find(ref)
        if opened is not None and opened.outside.files:
            self._files.confirm_sources(opened.outside.files)

    def _open_bounded(self, ref: ObjectRef) -> Any:
        """Return a dataset whose chunks are not too large to decode."""
        opened = self._opened.open(ref)
        if opened.creation is None:
            return opened.identifier  # no dataset
        with reading(ref.path):
            size = datasets.chunk_bytes_of(opened.identifier, opened.creation)
        if size > self._limits.max_chunk_bytes:
            raise UnreadableError(
                f"{show_path(ref.path)}: chunks of {size} bytes, more than -o max_chunk="
                f"{self._limits.max_chunk_bytes} allows"
            )
        return opened.identifier

    def _projected(self, ref: ObjectRef) -> ProjectedDataset:
        if (known := self._scanned.get(ref)) is not None:
            self._scanned.move_to_end(ref)
            return known
        opened = self._opened_dataset(ref)
        datasets.check_filters(opened.identifier, opened.creation)
        projected = project_dataset(
            opened.identifier, path_of=self._path_of(ref.file), on_progress=self._on_progress,
            find_texts=lambda dtype: self._ways.find_texts(ref, opened, dtype),
        )  # fmt: skip
        self._scanned[ref] = projected
        if len(self._scanned) > _MAX_SCANNED:
            self._scanned.popitem(last=False)
        return projected

    def _path_of(self, file: int) -> PathFinder:
        if file not in self._object_paths:
            from h5fs.store.hdf5.objects.references import PathFinder

            self._object_paths[file] = PathFinder(self._files.file_id(file))
        return self._object_paths[file]

    def _note_read(self, ref: ObjectRef, projected: ProjectedDataset) -> None:
        """Bound how many datasets keep elements in memory between reads."""
        self._read[ref] = projected
        self._read.move_to_end(ref)
        if len(self._read) > _MAX_READ_AT_ONCE:
            self._read.popitem(last=False)[1].forget()

    def _open_identifier(self, ref: ObjectRef) -> OpenIdentifier:
        file_id = self._files.file_id(ref.file)
        with reading(ref.path):
            identifier = h5o.open(file_id, ref.path)
            if not isinstance(identifier, h5d.DatasetID):
                return OpenIdentifier(identifier)
            creation = datasets.creation_of(identifier)
            register_plugins_for(creation)
            tuned, cache_bytes = datasets.tune_dataset(
                identifier, creation, file_id, ref, folder=self._files.path_of(ref.file).parent,
                sources_folder=self._files.sources_folder(ref.file),
                is_read_by_chunk=self._is_read_by_chunk,
            )  # fmt: skip
            return OpenIdentifier(tuned, creation, cache_bytes)

    def _forget_file(self, number: int) -> None:
        self._object_paths.pop(number, None)
        self._opened.forget_file(number)
        for ref in [ref for ref in self._scanned if ref.file == number]:
            del self._scanned[ref]
            self._read.pop(ref, None)

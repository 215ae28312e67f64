"""Answers about many small objects in one call, for programs that go through a folder.

Nobody waits for these answers, so that each one is left out that would take long or is an error:
whoever asks for that object alone gets the error, and the log the line. Under the store's lock.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from h5py import h5a, h5d

from h5fs.model.objects import (
    Attribute,
    Chunked,
    ChunkIndex,
    DatasetInfo,
    ObjectRef,
    StorageInfo,
    UnreadableAttribute,
)
from h5fs.projection.json.attribute_file import attributes_to_json
from h5fs.store.chunks.destinations import Destination, InOrder
from h5fs.store.chunks.geometry import Grid
from h5fs.store.external_policy import FilesToAskForError
from h5fs.store.hdf5.objects.files import OpenFiles
from h5fs.store.hdf5.objects.links import address_of
from h5fs.store.hdf5.objects.scanned_attributes import AttributeTypes, ScannedAttributes
from h5fs.store.hdf5.reading.datasets import chunk_bytes_of
from h5fs.store.hdf5.reading.open_identifiers import OpenIdentifier, OpenIdentifiers
from h5fs.store.hdf5.types.memory_types import memory_type
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import (
    LOOK_BYTES,
    LOOK_SECONDS,
    MOST_DATA_AHEAD_BYTES,
    MOST_TEXT_AHEAD_BYTES,
    ChunkBatch,
    ChunkFailure,
    ChunkTask,
    Look,
    ObjectDetails,
)

_log = logging.getLogger(__name__)

_MOST_ATTRIBUTES = 64
_MOST_SCANNED = 4096  # elements with variable-length parts, all of which are read
_MOST_CHUNK_BYTES = 2**20
_MOST_CHUNKS = 64

_Answer = TypeVar("_Answer")
_Scanned = tuple[Attribute, ...] | None


class Readable(Protocol):
    """What is asked of the store."""

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        """See ``ObjectStore``."""

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        """See ``ObjectStore``."""

    def describe_storage(self, ref: ObjectRef) -> StorageInfo:
        """See ``ObjectStore``."""

    def index_chunks(self, ref: ObjectRef, shape: tuple[int, ...]) -> ChunkIndex:
        """See ``LibraryStore``."""

    def decode_to(self, batch: ChunkBatch, place: Destination) -> tuple[ChunkFailure, ...]:
        """Decode chunks to their place; return those that could not be."""

    def read_data(
        self, ref: ObjectRef, part: ArrayPart, offset: int, size: int
    ) -> bytes | bytearray:
        """See ``LibraryStore``."""


class LookingAhead:
    """Looks at objects of a store.

    ``on_look`` is told the index of each object before the library looks at it.
    """

    def __init__(
        self,
        store: Readable,
        files: OpenFiles,
        opened: OpenIdentifiers,
        on_look: Callable[[bytes], None],
    ) -> None:
        self._store = store
        self._files = files
        self._opened = opened
        self._on_look = on_look
        self._attribute_types = AttributeTypes()

    def look_ahead(self, looks: tuple[Look, ...]) -> tuple[ObjectDetails, ...]:
        """Answer ``LibraryStore.look_ahead``."""
        # Computing time: on a busy machine a batch is as large as on others.
        ends = time.thread_time() + LOOK_SECONDS
        found: list[ObjectDetails] = []
        scanned = self._scan([look.ref for look in looks if look.attributes])
        size_bytes = 0
        for place, look in enumerate(looks):
            if found and (time.thread_time() > ends or size_bytes > LOOK_BYTES):
                break
            self._on_look(b"%d" % place)
            details = self._look_at(look, scanned.get(look.ref))
            size_bytes += len(details.attributes or b"") + len(details.data or b"")
            found.append(details)
        self._on_look(b"")
        return tuple(found)

    def _scan(self, refs: list[ObjectRef]) -> dict[ObjectRef, _Scanned]:
        """Read attributes past the library, as far as that can be."""
        layout = self._files.layout(refs[0].file) if refs else None
        if layout is None:
            return {}
        source = self._files.bytes_of(refs[0].file)
        scanned = ScannedAttributes(source, layout, self._attribute_types)
        return dict(zip(refs, scanned.read([address_of(ref) for ref in refs]), strict=True))

    def _look_at(self, look: Look, scanned: _Scanned) -> ObjectDetails:
        ref = look.ref
        text = _unless_it_fails(self._text_of, ref, scanned) if look.attributes else None
        dataset = data = None
        if look.dataset or look.data:
            dataset = _unless_it_fails(self._dataset_of, ref)
        if look.data and dataset is not None:
            data = _unless_it_fails(self._data_of, ref, dataset)
        storage = _unless_it_fails(self._storage_of, ref) if look.storage else None
        return ObjectDetails(text, dataset if look.dataset else None, data, storage)

    def _text_of(self, ref: ObjectRef, scanned: _Scanned) -> bytes | None:
        attributes: tuple[Attribute | UnreadableAttribute, ...] | None = scanned
        if attributes is None:
            if h5a.get_num_attrs(self._opened.open(ref).identifier) > _MOST_ATTRIBUTES:
                return None
            attributes = self._store.read_attributes(ref)
            if any(isinstance(attribute, UnreadableAttribute) for attribute in attributes):
                return None
        text = attributes_to_json(attributes)
        return text if len(text) <= MOST_TEXT_AHEAD_BYTES else None

    def _dataset_of(self, ref: ObjectRef) -> DatasetInfo | None:
        opened = self._opened.open(ref)
        if _has_other_files(opened):
            return None
        dataset_id = opened.identifier
        is_scanned = memory_type(dataset_id.get_type()).dtype.hasobject
        if is_scanned and dataset_id.get_space().get_simple_extent_npoints() > _MOST_SCANNED:
            return None
        return self._store.describe_dataset(ref)

    def _storage_of(self, ref: ObjectRef) -> StorageInfo | None:
        opened = self._opened.open(ref)
        return None if _has_other_files(opened) else self._store.describe_storage(ref)

    def _data_of(self, ref: ObjectRef, dataset: DatasetInfo) -> bytes | None:
        if not 0 < dataset.data_bytes <= MOST_DATA_AHEAD_BYTES:
            return None
        if isinstance(dataset.data, Chunked):
            return self._decode(ref, dataset, dataset.data)
        opened = self._opened.open(ref)
        if chunk_bytes_of(opened.identifier, opened.creation) > _MOST_CHUNK_BYTES:
            return None
        return bytes(self._store.read_data(ref, ArrayPart.ELEMENTS, 0, dataset.data_bytes))

    def _decode(self, ref: ObjectRef, dataset: DatasetInfo, data: Chunked) -> bytes | None:
        """Return all elements, chunk by chunk, as the daemon would have them decoded.

        The library is not asked: of a chunk that is too short it would make up the rest.
        """
        assert dataset.shape is not None
        item_bytes = dataset.dtype.itemsize
        grid = Grid(dataset.shape, data.chunk_shape, item_bytes)
        if grid.chunk_bytes > _MOST_CHUNK_BYTES or grid.chunk_count > _MOST_CHUNKS:
            return None
        if grid.chunk_count == 1 and dataset.storage_size_bytes:
            sizes = [dataset.storage_size_bytes]
        else:
            index = self._store.index_chunks(ref, dataset.shape)
            if index.sizes is None:
                return None  # it is read by the library, and the log says so
            sizes = np.frombuffer(index.sizes, "<u8").tolist()
        tasks = tuple(itertools.starmap(ChunkTask, enumerate(sizes)))
        batch = ChunkBatch(ref, dataset.shape, item_bytes, data, 0, tasks, 0)
        elements = np.zeros(dataset.data_bytes, np.uint8)
        place = InOrder(grid, 0, lambda start, stop: elements[start:stop])
        failures = self._store.decode_to(batch, place)
        return None if failures else elements.tobytes()


def _has_other_files(opened: OpenIdentifier) -> bool:
    """Whether it takes other files to say how a dataset looks: these may be slow to open."""
    creation = opened.creation
    return creation is None or bool(
        creation.get_layout() == h5d.VIRTUAL or creation.get_external_count()
    )


def _unless_it_fails(answer: Callable[..., _Answer | None], *arguments: Any) -> _Answer | None:
    try:
        return answer(*arguments)
    except (Exception, FilesToAskForError) as error:  # whoever asks for it alone is told
        _log.debug("not read ahead: %s", error)
        return None

"""Answers about many small objects in one call, for programs that go through a folder.

Nobody waits for these answers, so that each one is left out that would take long or is an error:
whoever asks for that object alone gets the error, and the log the line. Under the store's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from h5py import h5a, h5d

from h5fs.model.objects import Attribute, DatasetInfo, ObjectRef, UnreadableAttribute
from h5fs.projection.json.attributes import attributes_to_json
from h5fs.store.hdf5.reading.datasets import chunk_bytes_of, creation_of
from h5fs.store.hdf5.types.elements import memory_type
from h5fs.store.interface import ArrayPart
from h5fs.store.library_interface import (
    LOOK_BYTES,
    LOOK_SECONDS,
    MOST_DATA_AHEAD_BYTES,
    MOST_TEXT_AHEAD_BYTES,
    Look,
    ObjectDetails,
)

_log = logging.getLogger(__name__)

_MOST_ATTRIBUTES = 64
_MOST_SCANNED = 4096  # elements with variable-length parts, all of which are read
_MOST_CHUNK_BYTES = 2**20

_Answer = TypeVar("_Answer")


class Readable(Protocol):
    """What is asked of the store."""

    def open_object(self, ref: ObjectRef) -> Any:
        """Return an object's open identifier."""

    def read_attributes(self, ref: ObjectRef) -> tuple[Attribute | UnreadableAttribute, ...]:
        """See ``ObjectStore``."""

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        """See ``ObjectStore``."""

    def read_data(
        self, ref: ObjectRef, part: ArrayPart, offset: int, size: int
    ) -> bytes | bytearray:
        """See ``LibraryStore``."""


def look_ahead(
    store: Readable, looks: tuple[Look, ...], on_look: Callable[[bytes], None]
) -> tuple[ObjectDetails, ...]:
    """Return what there is to say of the first of some objects, as many as take little time.

    ``on_look`` is told the place of each before the library looks at it.
    """
    ends = time.thread_time() + LOOK_SECONDS  # on a busy machine a batch is as large as on others
    found: list[ObjectDetails] = []
    size_bytes = 0
    for place, look in enumerate(looks):
        if found and (time.thread_time() > ends or size_bytes > LOOK_BYTES):
            break
        on_look(b"%d" % place)
        details = _look_at(store, look)
        size_bytes += len(details.attributes or b"") + len(details.data or b"")
        found.append(details)
    on_look(b"")
    return tuple(found)


def _look_at(store: Readable, look: Look) -> ObjectDetails:
    dataset = _unless_it_fails(_dataset_of, store, look.ref) if look.dataset or look.data else None
    return ObjectDetails(
        attributes=_unless_it_fails(_text_of, store, look.ref) if look.attributes else None,
        dataset=dataset if look.dataset else None,
        data=_unless_it_fails(_data_of, store, look.ref, dataset)
        if look.data and dataset is not None
        else None,
    )


def _unless_it_fails(answer: Callable[..., _Answer | None], *arguments: Any) -> _Answer | None:
    try:
        return answer(*arguments)
    except Exception as error:  # whoever asks for it alone is told
        _log.debug("not read ahead: %s", error)
        return None


def _text_of(store: Readable, ref: ObjectRef) -> bytes | None:
    if h5a.get_num_attrs(store.open_object(ref)) > _MOST_ATTRIBUTES:
        return None
    attributes = store.read_attributes(ref)
    if any(isinstance(attribute, UnreadableAttribute) for attribute in attributes):
        return None
    text = attributes_to_json(attributes)
    return text if len(text) <= MOST_TEXT_AHEAD_BYTES else None


def _dataset_of(store: Readable, ref: ObjectRef) -> DatasetInfo | None:
    dataset_id = store.open_object(ref)
    creation = creation_of(dataset_id)
    if creation.get_layout() == h5d.VIRTUAL or creation.get_external_count():
        return None  # other files may be slow to open
    has_variable_parts = memory_type(dataset_id.get_type()).dtype.hasobject
    if has_variable_parts and dataset_id.get_space().get_simple_extent_npoints() > _MOST_SCANNED:
        return None
    return store.describe_dataset(ref)


def _data_of(store: Readable, ref: ObjectRef, dataset: DatasetInfo) -> bytes | None:
    if not 0 < dataset.data_bytes <= MOST_DATA_AHEAD_BYTES:
        return None
    if chunk_bytes_of(store.open_object(ref)) > _MOST_CHUNK_BYTES:
        return None
    return bytes(store.read_data(ref, ArrayPart.ELEMENTS, 0, dataset.data_bytes))

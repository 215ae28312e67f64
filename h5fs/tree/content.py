"""What a node's file holds: bytes at hand, or an array behind a header.

A content is made when a file is opened or its size asked for; it reads no element until somebody
reads the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from h5fs.errors import UnreadableError, show_path
from h5fs.objects import Attribute, ObjectRef, UnreadableAttribute
from h5fs.projection.attributes_json import attributes_to_json
from h5fs.projection.datatype_json import datatype_document
from h5fs.projection.npy import NpyFile, project_array, slice_range
from h5fs.store import Store
from h5fs.tree.nodes import Node, NodeKind

_log = logging.getLogger(__name__)

_OFFSET_DTYPE = np.dtype("<i8")


class Content(Protocol):
    """A file's bytes. ``size_bytes`` is exact; ``storage_bytes`` is what the HDF5 file spends."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def storage_bytes(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return up to ``size`` bytes at ``offset``; fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class TextContent:
    """A small file that is at hand as a whole."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    @property
    def storage_bytes(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


ReadElements = Callable[[ObjectRef, int, int], bytes | bytearray]
"""Returns elements ``[start, stop)`` of a dataset's array."""


@dataclass(frozen=True, slots=True)
class ArrayContent:
    """A ``.npy`` file of a dataset."""

    read_elements: ReadElements
    ref: ObjectRef
    npy: NpyFile
    storage_bytes: int

    @property
    def size_bytes(self) -> int:
        return self.npy.size_bytes

    def read(self, offset: int, size: int) -> bytes | memoryview:
        part = slice_range(self.npy, offset, size)
        if not part.data_bytes:
            return part.header
        elements = self.read_elements(self.ref, part.element_start, part.element_stop)
        data = memoryview(elements)[part.skip : part.skip + part.data_bytes]
        if len(data) != part.data_bytes:
            path = show_path(self.ref.path)
            raise UnreadableError(f"{path}: {len(data)} of {part.data_bytes} bytes came back")
        return part.header + bytes(data) if part.header else data


def open_content(store: Store, node: Node) -> Content:
    """Return the content of a node that is a file.

    Raises ``UnsupportedTypeError``, ``TooLargeError``, ``ForbiddenError``, ``UnreadableError``.
    """
    ref = node.info.ref
    if node.kind is NodeKind.ATTRIBUTES:
        return TextContent(attributes_to_json(_read_attributes(store, ref)))
    if node.kind is NodeKind.DATATYPE:
        return TextContent(datatype_document(store.describe_datatype(ref)))
    if node.kind in (NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS):
        return _open_array(store, ref, node.kind)
    raise UnreadableError(f"{show_path(ref.path)} cannot be read")


def _read_attributes(store: Store, ref: ObjectRef) -> Sequence[Attribute | UnreadableAttribute]:
    attributes = store.read_attributes(ref)
    for attribute in attributes:
        if isinstance(attribute, UnreadableAttribute):
            path, name = show_path(ref.path), show_path(attribute.name)
            _log.warning("attribute %s of %s cannot be read: %s", name, path, attribute.reason)
    return attributes


def _open_array(store: Store, ref: ObjectRef, kind: NodeKind) -> ArrayContent:
    dataset = store.describe_dataset(ref)
    # A null dataspace has a type and no elements.
    shape = (0,) if dataset.shape is None else dataset.shape
    if kind is NodeKind.VALUES:
        if dataset.value_count is None:
            raise UnreadableError(f"{show_path(ref.path)} is not a dataset of sequences")
        npy = project_array(dataset.dtype, (dataset.value_count,))
        return ArrayContent(store.read_values, ref, npy, dataset.storage_size_bytes)
    if kind is NodeKind.OFFSETS:
        npy = project_array(_OFFSET_DTYPE, (prod(shape) * dataset.sequences_per_element + 1,))
        return ArrayContent(store.read_offsets, ref, npy, storage_bytes=0)
    npy = project_array(dataset.dtype, shape)
    return ArrayContent(store.read_elements, ref, npy, dataset.storage_size_bytes)

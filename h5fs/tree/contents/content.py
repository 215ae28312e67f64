"""What a node's file holds: bytes at hand, or an array behind a header.

A content is made when a file is opened or its size asked for; it reads no element until somebody
reads the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np
from msgspec import Struct, structs

from h5fs.errors import UnreadableError, show_path
from h5fs.model.datatypes import holds_references
from h5fs.model.objects import (
    Attribute,
    Contiguous,
    DatasetInfo,
    ObjectInfo,
    ObjectRef,
    UnreadableAttribute,
)
from h5fs.model.settings import View
from h5fs.projection.npy import NpyFile, project_array
from h5fs.store.interface import ArrayPart, Store
from h5fs.tree.contents.view_content import Views
from h5fs.tree.nodes import Node, NodeKind

_log = logging.getLogger(__name__)

MOST_WITH_ATTRIBUTES_BYTES = 4 * 2**10
"""No longer text is kept together with the attributes that it shows."""

_OFFSET_DTYPE = np.dtype("<i8")


class Content(Protocol):
    """A file's bytes. ``size_bytes`` is exact; ``storage_bytes`` is what the HDF5 file spends."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def storage_bytes(self) -> int: ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` on; return how much, less only at the end of the file."""


def read_all(content: Content) -> bytes:
    """Return all bytes of a small file."""
    data = bytearray(content.size_bytes)
    content.read_into(memoryview(data), 0)
    return bytes(data)


Attributes = tuple[Attribute | UnreadableAttribute, ...]


class TextContent(Struct, frozen=True):
    """A small file that is at hand as a whole. ``names_objects``: it has paths of other objects.

    ``attributes``: those that it shows, where whoever writes the file anew need not ask for them.
    """

    data: bytes
    names_objects: bool = False
    attributes: Attributes | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    @property
    def storage_bytes(self) -> int:
        return len(self.data)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        part = self.data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


class ArrayContent(Struct, frozen=True):
    """A ``.npy`` file of a dataset."""

    store: Store
    ref: ObjectRef
    dataset: DatasetInfo
    part: ArrayPart
    npy: NpyFile
    size_bytes: int
    storage_bytes: int

    def read_into(self, buffer: memoryview, offset: int) -> int:
        size = min(len(buffer), self.size_bytes - offset)
        if size <= 0:
            return 0
        header = self.npy.header[offset : offset + size]
        buffer[: len(header)] = header
        if len(header) < size:
            start = offset + len(header) - len(self.npy.header)
            data = buffer[len(header) : size]
            self.store.read_into(self.ref, self.dataset, self.part, start, data)
        return size


def open_content(store: Store, node: Node, views: Views) -> Content:
    """Return the content of a node that is a file.

    Raises ``UnsupportedTypeError``, ``TooLargeError``, ``ForbiddenError``, ``UnreadableError``.
    """
    ref = node.info.ref
    if node.kind is NodeKind.ATTRIBUTES:
        text = store.attributes_at_hand(ref)
        return TextContent(text) if text else attributes_content(_read_attributes(store, ref))
    if node.kind is NodeKind.DATATYPE:
        from h5fs.projection.json.datatype_documents import datatype_document

        return TextContent(datatype_document(store.describe_datatype(ref)))
    if node.kind in (NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS):
        return _open_array(store, node)
    if isinstance(node.kind, View):
        dataset = _dataset_at_hand(node.info) or store.describe_dataset(ref)
        return views.open(node.kind, ref, dataset)
    raise UnreadableError(f"{show_path(ref.path)} cannot be read")


def _read_attributes(store: Store, ref: ObjectRef) -> Sequence[Attribute | UnreadableAttribute]:
    attributes = store.read_attributes(ref)
    for attribute in attributes:
        if isinstance(attribute, UnreadableAttribute):
            path, name = show_path(ref.path), show_path(attribute.name)
            _log.warning("attribute %s of %s cannot be read: %s", name, path, attribute.reason)
    return attributes


def attributes_content(attributes: Sequence[Attribute | UnreadableAttribute]) -> TextContent:
    """Return the content of an attribute file."""
    from h5fs.projection.json.attribute_file import attributes_to_json

    names_objects = any(
        isinstance(each, UnreadableAttribute) or holds_references(each.type) for each in attributes
    )
    return TextContent(attributes_to_json(attributes), names_objects)


def written_attributes_content(attributes: Attributes) -> TextContent:
    """Return the content of an attribute file that was written, and may be written again soon."""
    content = attributes_content(attributes)
    if content.size_bytes > MOST_WITH_ATTRIBUTES_BYTES:
        return content
    return structs.replace(content, attributes=attributes)


def npy_shape(dataset: DatasetInfo) -> tuple[int, ...]:
    """Return the shape of a dataset's array; a null dataspace has a type and no elements."""
    return (0,) if dataset.shape is None else dataset.shape


def _dataset_at_hand(info: ObjectInfo) -> DatasetInfo | None:
    """Return what the listing of its group told of a dataset, if it did."""
    if info.dataset is None:
        return None
    data = Contiguous(info.file_offset) if info.file_offset >= 0 else None
    dataset = info.dataset
    return DatasetInfo(
        dataset.shape, dataset.dtype, info.storage_size_bytes,
        data=data, enumerations=dataset.enumerations,
    )  # fmt: skip


def _open_array(store: Store, node: Node) -> ArrayContent:
    ref = node.info.ref
    dataset = _dataset_at_hand(node.info) or store.describe_dataset(ref)
    shape = npy_shape(dataset)
    storage_bytes = dataset.storage_size_bytes
    part = ArrayPart.ELEMENTS
    if node.kind is NodeKind.VALUES:
        if dataset.value_count is None:
            raise UnreadableError(f"{show_path(ref.path)} is not a dataset of sequences")
        npy, part = project_array(dataset.dtype, (dataset.value_count,)), ArrayPart.VALUES
    elif node.kind is NodeKind.OFFSETS:
        count = prod(shape) * dataset.sequences_per_element + 1
        npy, part, storage_bytes = project_array(_OFFSET_DTYPE, (count,)), ArrayPart.OFFSETS, 0
    else:
        npy = project_array(dataset.dtype, shape)
    return ArrayContent(store, ref, dataset, part, npy, npy.size_bytes, storage_bytes)

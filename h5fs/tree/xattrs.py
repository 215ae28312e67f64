"""Extended attributes: an object's own attributes as text, and what HDF5 says of a dataset.

``user.NAME`` is the attribute NAME: a string as it is, in bytes, any other value as in
``.attrs.json``.
``user.h5fs.NAME`` is one of the facts below, as JSON, but for the path, which is bytes as stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from h5fs.errors import NoAttributeError, show_path
from h5fs.lru_cache import LruCache
from h5fs.model.datatypes import StringType
from h5fs.model.objects import Attribute, ObjectRef, StorageInfo
from h5fs.projection.json.attribute_file import UNREADABLE, attributes_to_json
from h5fs.projection.json.strict_json import parse_json, write_json
from h5fs.projection.json.strings import text_of
from h5fs.store.interface import Store
from h5fs.tree.nodes import Node, NodeKind

USER_PREFIX = b"user."
OWN_PREFIX = b"user.h5fs."

_NAME_MAX = 255  # XATTR_NAME_MAX of Linux, the prefix included
_VALUE_MAX = 2**16  # XATTR_SIZE_MAX
_LIST_MAX = 2**16  # XATTR_LIST_MAX

_OBJECTS_KEPT = 4
_BYTES_KEPT = 2**22  # of one object

# A type with fewer fields and smaller elements has no long description.
_FEW_FIELDS = 100
_SMALL_ITEM_BYTES = 4096

_ARRAYS = frozenset({NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS})

_OF_TYPE = (b"dtype", b"fillvalue")
_OF_DATASET: dict[bytes, Callable[[StorageInfo], Any]] = {
    b"shape": lambda stored: stored.shape,
    b"maxshape": lambda stored: stored.maxshape,
    b"chunks": lambda stored: stored.chunk_shape,
    b"filters": lambda stored: stored.filters,
    b"storage_size": lambda stored: stored.storage_size_bytes,
}


class ExtendedAttributes:
    """The extended attributes of nodes. Programs list them and then ask for one after another, so
    that those of the last objects are kept.

    Safe to use from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._values: LruCache[ObjectRef, dict[bytes, bytes]] = LruCache(_OBJECTS_KEPT)

    def forget(self) -> None:
        """Forget what was found: the HDF5 file has changed."""
        self._values.clear()

    def list(self, node: Node) -> list[bytes]:
        """Return the names of a node's extended attributes. Reads no element of a dataset.

        They are no more than the kernel passes on; those beyond can be asked for by name.
        """
        if node.is_symbolic_link or node.kind in (NodeKind.ATTRIBUTES, NodeKind.UNREADABLE):
            return []
        facts = [b"path", *([*_OF_DATASET, *_OF_TYPE] if node.kind in _ARRAYS else [])]
        names = [OWN_PREFIX + fact for fact in facts if self._is_short(node, fact)]
        names += [USER_PREFIX + name for name in self._attributes_of(node)]
        room = _LIST_MAX
        for count, name in enumerate(names):
            room -= len(name) + 1
            if room < 0:
                return names[:count]
        return names

    def get(self, node: Node, name: bytes) -> bytes:
        """Return the value of one extended attribute. Raises ``NoAttributeError``."""
        if name.startswith(OWN_PREFIX):
            value = _own_value(self._store, node, name.removeprefix(OWN_PREFIX))
            if len(value) > _VALUE_MAX:
                raise NoAttributeError(f"{show_path(name)} is too long for an extended attribute")
            return value
        found = {} if node.is_symbolic_link else self._attributes_of(node)
        if name.removeprefix(USER_PREFIX) not in found:
            raise NoAttributeError(f"{show_path(node.name)} has no attribute {show_path(name)}")
        return found[name.removeprefix(USER_PREFIX)]

    def _attributes_of(self, node: Node) -> dict[bytes, bytes]:
        """Return an object's attributes as extended attributes, by name."""
        if not node.info.attribute_count or node.kind is NodeKind.ATTRIBUTES:
            return {}
        ref = node.info.ref
        values = self._values.get(ref)
        if values is None:
            values = {}
            for attribute in self._store.read_attributes(ref):
                value = _value_of(attribute) if isinstance(attribute, Attribute) else None
                if value is not None:
                    values[attribute.name] = value
            if sum(map(len, values.values())) <= _BYTES_KEPT:
                self._values.put(ref, values)
        return values

    def _is_short(self, node: Node, fact: bytes) -> bool:
        """Whether a fact is not too long; a fact that is always short is not looked up."""
        if fact == b"path":
            return len(node.info.ref.path) <= _VALUE_MAX
        if fact not in _OF_TYPE:
            return True
        dtype = self._store.describe_dataset(node.info.ref).dtype
        if len(dtype.names or ()) < _FEW_FIELDS and dtype.itemsize < _SMALL_ITEM_BYTES:
            return True
        try:
            return len(_own_value(self._store, node, fact)) <= _VALUE_MAX
        except NoAttributeError:
            return False


def _value_of(attribute: Attribute) -> bytes | None:
    """Return an attribute as an extended one, None for one that cannot be."""
    name = attribute.name
    if not name or len(USER_PREFIX + name) > _NAME_MAX or name.startswith(b"h5fs."):
        return None
    if len(attribute.elements) > _VALUE_MAX // 2:  # each takes a digit and a comma
        return None
    if isinstance(attribute.type, StringType) and attribute.shape == ():
        element = attribute.elements[0]
        value = b"null" if element is None else text_of(element, attribute.type)
    else:
        ((key, shown),) = list(parse_json(attributes_to_json([attribute])).items())[:1]
        if key == UNREADABLE:
            return None
        value = (shown if isinstance(shown, str) else write_json(shown)).encode()
    return value if len(value) <= _VALUE_MAX else None


def _own_value(store: Store, node: Node, fact: bytes) -> bytes:
    if fact == b"path" and not node.is_symbolic_link:
        return node.info.ref.path
    if node.kind not in _ARRAYS or fact not in (*_OF_DATASET, *_OF_TYPE):
        raise NoAttributeError(f"{show_path(node.name)} has no {show_path(fact)}")
    if fact in _OF_DATASET:
        return json.dumps(_OF_DATASET[fact](store.describe_storage(node.info.ref))).encode()
    dtype = store.describe_dataset(node.info.ref).dtype
    if fact == b"dtype":
        try:
            spelled = np.lib.format.dtype_to_descr(dtype.base)
        except ValueError as error:  # fields that overlap
            raise NoAttributeError(f"{show_path(node.name)} has no dtype: {error}") from None
        return json.dumps([spelled, dtype.shape] if dtype.shape else spelled).encode()
    stored = store.describe_storage(node.info.ref).fill_value
    if stored is None or len(stored) != dtype.itemsize:
        return b"null"
    value = np.frombuffer(stored, dtype).tolist()[0]
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError):  # no JSON for it: bytes, dates, NaN
        return json.dumps(str(value)).encode()

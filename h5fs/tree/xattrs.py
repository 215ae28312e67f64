"""Extended attributes: an object's own attributes as text, and what HDF5 says of a dataset.

``user.NAME`` is the attribute NAME: a string as it is, any other value as in ``.attrs.json``.
``user.h5fs.NAME`` is one of the facts below, as JSON, but for the path, which is bytes as stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from h5fs.errors import NoAttributeError, show_path
from h5fs.objects import Attribute, StorageInfo
from h5fs.projection.attributes_json import attributes_to_json
from h5fs.store.interface import Store
from h5fs.tree.nodes import Node, NodeKind

USER_PREFIX = b"user."
_OWN_PREFIX = b"user.h5fs."

_NAME_MAX = 255  # XATTR_NAME_MAX of Linux, the prefix included
_VALUE_MAX = 2**16  # XATTR_SIZE_MAX

_ARRAYS = frozenset({NodeKind.ARRAY, NodeKind.VALUES, NodeKind.OFFSETS})

_OF_DATASET: dict[bytes, Callable[[StorageInfo], Any]] = {
    b"shape": lambda stored: stored.shape,
    b"maxshape": lambda stored: stored.maxshape,
    b"chunks": lambda stored: stored.chunk_shape,
    b"filters": lambda stored: stored.filters,
    b"storage_size": lambda stored: stored.storage_size_bytes,
}


def list_xattrs(store: Store, node: Node) -> list[bytes]:
    """Return the names of a node's extended attributes. Reads no element of a dataset."""
    if node.is_symbolic_link or node.kind in (NodeKind.ATTRIBUTES, NodeKind.UNREADABLE):
        return []
    facts = [b"path", *([*_OF_DATASET, b"dtype", b"fillvalue"] if node.kind in _ARRAYS else [])]
    own = [_OWN_PREFIX + fact for fact in facts]
    if not node.info.attribute_count:
        return own
    readable = (a for a in store.read_attributes(node.info.ref) if isinstance(a, Attribute))
    names = [USER_PREFIX + a.name for a in readable if len(_text_of(a)) <= _VALUE_MAX]
    return own + [n for n in names if len(n) <= _NAME_MAX and not n.startswith(_OWN_PREFIX)]


def get_xattr(store: Store, node: Node, name: bytes) -> bytes:
    """Return the value of one extended attribute. Raises ``NoAttributeError``."""
    if name.startswith(_OWN_PREFIX):
        value = _own_value(store, node, name.removeprefix(_OWN_PREFIX))
    else:
        value = _attribute_text(store, node, name.removeprefix(USER_PREFIX))
    if len(value) > _VALUE_MAX:
        raise NoAttributeError(f"{show_path(name)} is too long for an extended attribute")
    return value


def _own_value(store: Store, node: Node, fact: bytes) -> bytes:
    if fact == b"path" and not node.is_symbolic_link:
        return node.info.ref.path
    if node.kind not in _ARRAYS or fact not in (*_OF_DATASET, b"dtype", b"fillvalue"):
        raise NoAttributeError(f"{show_path(node.name)} has no {show_path(fact)}")
    if fact in _OF_DATASET:
        return json.dumps(_OF_DATASET[fact](store.describe_storage(node.info.ref))).encode()
    dtype = store.describe_dataset(node.info.ref).dtype
    if fact == b"dtype":
        spelled = np.lib.format.dtype_to_descr(dtype.base)
        return json.dumps([spelled, dtype.shape] if dtype.shape else spelled).encode()
    stored = store.describe_storage(node.info.ref).fill_value
    if stored is None or len(stored) != dtype.itemsize:
        return b"null"
    value = np.frombuffer(stored, dtype).tolist()[0]
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError):  # no JSON for it: bytes, dates, NaN
        return json.dumps(str(value)).encode()


def _attribute_text(store: Store, node: Node, name: bytes) -> bytes:
    if node.info.attribute_count and not node.is_symbolic_link:
        for attribute in store.read_attributes(node.info.ref):
            if attribute.name == name and isinstance(attribute, Attribute):
                return _text_of(attribute)
    raise NoAttributeError(f"{show_path(node.name)} has no attribute {show_path(name)}")


def _text_of(attribute: Attribute) -> bytes:
    value = next(iter(json.loads(attributes_to_json([attribute])).values()))
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()

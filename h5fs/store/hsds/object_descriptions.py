"""The service's objects, links and attributes as plain values. Pure.

An object's id there is a text (``d-9488d075-5a50b101-8aac-0c55cb-9f2637``: its first letter says
what the object is); here it is a number, the same in every mount.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from operator import attrgetter

import numpy as np

from h5fs.errors import H5fsError, UnreadableError
from h5fs.model.datatype_rules import MAX_ATTRIBUTE_BYTES, MAX_ELEMENTS
from h5fs.model.datatypes import (
    ArrayType,
    Datatype,
    SequenceType,
    count_values,
    is_variable,
    size_in_memory,
)
from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import (
    Attribute,
    DatasetInfo,
    Link,
    LinkKind,
    ObjectInfo,
    ObjectKind,
    ObjectRef,
    UnreadableAttribute,
)
from h5fs.projection.npy import npy_dtype
from h5fs.store.hsds.answers import AttributeAnswer, LinkAnswer, ObjectAnswer
from h5fs.store.hsds.datatype_json import element_dtype, parse_datatype, wire_bytes
from h5fs.store.hsds.unpacking import TargetOf, elements_of_attribute

KINDS = {"g": ObjectKind.GROUP, "d": ObjectKind.DATASET, "t": ObjectKind.DATATYPE}
COLLECTIONS = {"g": "groups", "d": "datasets", "t": "datatypes"}

_MOST_ID_CHARACTERS = 64
_ID_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz-")


def check_id(text: str) -> str:
    """Return the id of an object, if it is one. Raises ``UnreadableError``."""
    if (
        text[:2] not in ("g-", "d-", "t-")
        or len(text) > _MOST_ID_CHARACTERS
        or not (_ID_CHARACTERS.issuperset(text))
    ):
        raise UnreadableError(f"{text!r:.80} is no id of an object")
    return text


def number_of(object_id: str) -> int:
    """Return the number of an object, a multiple of 4 below 2**63."""
    digest = hashlib.blake2b(object_id.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 3 << 2) or 4


def path_of(object_id: str) -> str:
    """Return where the service has an object."""
    return f"/{COLLECTIONS[object_id[0]]}/{object_id}"


def describe_array(answer: ObjectAnswer) -> tuple[DatasetInfo, Datatype]:
    """Return how a dataset looks by its header alone, and its datatype.

    The header has no width of variable-length elements: then the dtype is h5py's. Raises
    ``UnsupportedTypeError``, ``UnreadableError``.
    """
    if answer.shape is None:
        raise UnreadableError(f"{answer.id}: a dataset without a dataspace")
    datatype = parse_datatype(answer.type)
    dtype = element_dtype(datatype)
    if not dtype.hasobject:
        dtype = npy_dtype(dtype)
    shape = answer.shape.shape()
    count = 0 if shape is None else int(np.prod(shape, dtype=object))
    size_bytes = min(count * (wire_bytes(datatype) or 0), 2**63 - 1)
    return DatasetInfo(shape, dtype, size_bytes), datatype


def describe_object(
    answer: ObjectAnswer, file: int, path: bytes, hard_link_count: int
) -> ObjectInfo:
    """Return what an object's header says."""
    kind = KINDS[answer.id[0]]
    dataset, holds_sequences = None, False
    if kind is ObjectKind.DATASET:
        try:
            info, datatype = describe_array(answer)
        except H5fsError:
            pass  # opening it will say why
        else:
            holds_sequences = _holds_sequences(datatype)
            dataset = None if is_variable(datatype) else info
    seconds = int(min(max(answer.last_modified, 0), 2**32 - 1))
    return ObjectInfo(
        ObjectRef(file, number_of(answer.id), path), kind, max(answer.attribute_count, 0),
        hard_link_count, seconds, seconds, 0, holds_sequences, dataset,
        dataset.storage_size_bytes if dataset is not None else 0,
    )  # fmt: skip


def join_path(group: bytes, name: bytes) -> bytes:
    """Return the path of a link of a group."""
    return group + name if group == b"/" else group + b"/" + name


def name_of(link: LinkAnswer) -> bytes:
    """Return the name of a link."""
    return link.title.encode("utf-8", "surrogatepass")


def make_link(link: LinkAnswer, target: ObjectInfo | None) -> Link:
    """Return a link; ``target`` is the object of a hard one."""
    name = name_of(link)
    if target is not None:
        return Link(name, LinkKind.HARD, target=target)
    path = link.h5path.encode("utf-8", "surrogatepass")
    if link.kind == "H5L_TYPE_SOFT":
        return Link(name, LinkKind.SOFT, soft_target=path)
    if link.kind == "H5L_TYPE_EXTERNAL":
        file = (link.file or link.h5domain).encode("utf-8", "surrogatepass")
        return Link(name, LinkKind.EXTERNAL, external_file=file, external_path=path)
    return Link(name, LinkKind.USER_DEFINED)


def make_table(group: ObjectRef, links: Iterable[Link]) -> LinkTable:
    """Return the table of a group's links, sorted; of those with one name only the first."""
    kept = list({link.name: link for link in reversed(list(links))}.values())
    kept.sort(key=attrgetter("name"))
    rows = np.zeros(len(kept), ROW)
    rows["dataset"] = rows["array"] = rows["file_offset"] = -1
    rows["hard_link_count"] = 1
    others: dict[int, Link] = {}
    datasets: dict[DatasetInfo, int] = {}
    for index, link in enumerate(kept):
        target = link.target
        if target is None:
            others[index] = link
            continue
        number = -1
        if target.dataset is not None:
            alike = DatasetInfo(target.dataset.shape, target.dataset.dtype, 0)
            number = datasets.setdefault(alike, len(datasets))
        rows[index] = (
            target.ref.id, target.storage_size_bytes, -1, target.mtime, target.ctime, 0,
            target.attribute_count, target.hard_link_count, number, number,
            OBJECT_KINDS.index(target.kind), target.holds_sequences,
        )  # fmt: skip
    names = [link.name for link in kept]
    stops = np.cumsum([len(name) for name in names], dtype="<u8")
    return LinkTable(
        group, b"".join(names), stops.tobytes(), rows.tobytes(), tuple(datasets), others
    )


def _holds_sequences(datatype: Datatype) -> bool:
    while isinstance(datatype, ArrayType):
        datatype = datatype.base
    return isinstance(datatype, SequenceType)


def make_attribute(answer: AttributeAnswer, target_of: TargetOf) -> Attribute | UnreadableAttribute:
    """Return an attribute, or why it cannot be read."""
    name = answer.name.encode("utf-8", "surrogatepass")
    try:
        datatype = parse_datatype(answer.type)
        shape = answer.shape.shape()
        if shape is None:
            return Attribute(name, datatype, None, ())
        size = math.prod(shape) * size_in_memory(datatype)
        if size > MAX_ATTRIBUTE_BYTES:
            raise UnreadableError(f"{size} bytes, more than {MAX_ATTRIBUTE_BYTES}")
        if math.prod(shape) * count_values(datatype) > MAX_ELEMENTS:
            raise UnreadableError(f"more than {MAX_ELEMENTS} elements")
        is_encoded = answer.encoding == "base64"
        elements = elements_of_attribute(answer.value, is_encoded, datatype, shape, target_of)
        return Attribute(name, datatype, shape, elements)
    except H5fsError as error:
        return UnreadableAttribute(name, str(error))

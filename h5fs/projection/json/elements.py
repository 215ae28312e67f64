"""Elements of any HDF5 type as JSON values, and back. Pure: no I/O, no h5py.

`scalars` spells the simple types, `strings` strings. This module spells the others: complex numbers
(HDF5's, and h5py's compound of "r" and "i") are ``[re, im]``; compounds are objects (lists, if two
members have the same name); arrays and variable-length sequences are lists. An object reference is
its target's path (``{"address": ...}`` where no path leads), a region reference
``{"path": ..., "blocks": [[start, stop], ...]}`` with half-open corners, or ``"points"``, or
``"everything": true``; null references and null strings are null.

All functions take and return columns: all elements of one type in one attribute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from h5fs.errors import AttributeTooLargeError, InvalidAttributesError
from h5fs.model.datatype_rules import MAX_ATTRIBUTE_BYTES
from h5fs.model.datatypes import (
    ArrayType,
    BitfieldType,
    ComplexType,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    OpaqueType,
    ReferenceKind,
    ReferenceType,
    SequenceType,
    StringType,
    TimeType,
    size_in_memory,
)
from h5fs.model.objects import Element, RegionTarget, UnnamedTarget
from h5fs.projection.json.nesting import flatten, nest
from h5fs.projection.json.numpy_spelling import complex_compound
from h5fs.projection.json.scalars import (
    as_integer,
    enums_from_json,
    enums_to_json,
    floats_from_json,
    floats_to_json,
    integer_from_json,
    integers_to_json,
    opaque_from_json,
    opaque_to_json,
)
from h5fs.projection.json.strict_json import JsonValue, name_to_text, show_value, text_to_name
from h5fs.projection.json.strings import StringSpelling


def elements_to_json(
    elements: Sequence[Element], datatype: Datatype, strings: StringSpelling
) -> list[JsonValue]:
    """Return one JSON value per element.

    Raises ``NotTextError`` when strings are not UTF-8 and base64 was not asked for.
    """
    if isinstance(datatype, IntegerType):
        return integers_to_json(elements, datatype)
    if isinstance(datatype, BitfieldType | TimeType):
        return integers_to_json(elements, as_integer(datatype))
    if isinstance(datatype, FloatType):
        return floats_to_json(elements, datatype)
    if isinstance(datatype, EnumType):
        return enums_to_json(elements, datatype)
    if isinstance(datatype, StringType):
        return [strings.show(text, datatype) for text in elements]
    if isinstance(datatype, OpaqueType):
        return [opaque_to_json(element, datatype) for element in elements]
    if isinstance(datatype, ReferenceType):
        return [_target_to_json(target) for target in elements]
    if isinstance(datatype, SequenceType):
        items = [item for element in elements for item in element]
        shown = iter(elements_to_json(items, datatype.base, strings))
        return [[next(shown) for _ in element] for element in elements]
    if isinstance(datatype, ArrayType):
        items = [item for element in elements for item in element]
        shown_items = elements_to_json(items, datatype.base, strings)
        length = math.prod(datatype.shape)
        starts = range(0, len(elements) * length, length)
        return [nest(shown_items[i : i + length], datatype.shape) for i in starts]
    if isinstance(datatype, ComplexType):
        half = datatype.size_bytes // 2
        halves = [part for element in elements for part in (element[:half], element[half:])]
        parts = elements_to_json(halves, datatype.base, strings)
        return [parts[i : i + 2] for i in range(0, len(parts), 2)]
    return _compounds_to_json(elements, datatype, strings)


def _compounds_to_json(
    elements: Sequence[Element], datatype: CompoundType, strings: StringSpelling
) -> list[JsonValue]:
    columns = [
        elements_to_json([element[index] for element in elements], member.type, strings)
        for index, member in enumerate(datatype.members)
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    if is_shown_as_list(datatype):
        return rows
    names = [name_to_text(member.name) for member in datatype.members]
    return [dict(zip(names, row, strict=True)) for row in rows]


def elements_from_json(
    values: Sequence[JsonValue], datatype: Datatype, strings: StringSpelling
) -> list[Element]:
    """Return the elements that JSON values stand for.

    Raises ``InvalidAttributesError``, and ``AttributeTooLargeError`` before elements take memory.
    """
    size = len(values) * size_in_memory(datatype)
    if size > MAX_ATTRIBUTE_BYTES:
        raise AttributeTooLargeError(f"{size} bytes, more than {MAX_ATTRIBUTE_BYTES}")
    if isinstance(datatype, IntegerType):
        return [integer_from_json(value, datatype) for value in values]
    if isinstance(datatype, BitfieldType | TimeType):
        return [integer_from_json(value, as_integer(datatype)) for value in values]
    if isinstance(datatype, FloatType):
        return floats_from_json(values, datatype)
    if isinstance(datatype, EnumType):
        return enums_from_json(values, datatype)
    if isinstance(datatype, StringType):
        return [strings.read(value, datatype) for value in values]
    if isinstance(datatype, OpaqueType):
        return [opaque_from_json(value, datatype) for value in values]
    if isinstance(datatype, ReferenceType):
        return [_target_from_json(value, datatype) for value in values]
    if isinstance(datatype, SequenceType):
        rows = [_list(value) for value in values]
    elif isinstance(datatype, ArrayType):
        rows = [flatten(value, datatype.shape) for value in values]
    elif isinstance(datatype, ComplexType):
        rows = [_list(value, 2) for value in values]
    else:
        return _compounds_from_json(values, datatype, strings)
    items = [item for row in rows for item in row]
    elements = iter(elements_from_json(items, datatype.base, strings))
    tuples = [tuple(next(elements) for _ in row) for row in rows]
    return [b"".join(parts) for parts in tuples] if isinstance(datatype, ComplexType) else tuples


def _compounds_from_json(
    values: Sequence[JsonValue], datatype: CompoundType, strings: StringSpelling
) -> list[Element]:
    members = datatype.members
    if is_shown_as_list(datatype):
        rows = [_list(value, len(members)) for value in values]
    else:
        names = [name_to_text(member.name) for member in members]
        for value in values:
            if not isinstance(value, dict) or set(value) != set(names):
                raise InvalidAttributesError(f"not an object with the members {show_value(names)}")
        rows = [[value[name] for name in names] for value in values]
    columns = [
        elements_from_json([row[index] for row in rows], member.type, strings)
        for index, member in enumerate(members)
    ]
    return list(zip(*columns, strict=True))


def is_shown_as_list(datatype: CompoundType) -> bool:
    """Tell whether a compound is a complex number, or has two members of one name."""
    first = datatype.members[0].type if datatype.members else None
    if isinstance(first, FloatType) and datatype == complex_compound(first):
        return True
    return len({member.name for member in datatype.members}) < len(datatype.members)


def element_depth(datatype: Datatype) -> int:
    """Return how deep the lists of an element are nested when no sequence in it is empty."""
    if isinstance(datatype, ComplexType):
        return 1
    if isinstance(datatype, ArrayType):
        return len(datatype.shape) + element_depth(datatype.base)
    if isinstance(datatype, SequenceType):
        return 1 + element_depth(datatype.base)
    if isinstance(datatype, CompoundType) and is_shown_as_list(datatype):
        return 1 + max(element_depth(member.type) for member in datatype.members)
    return 0


def json_depth(datatype: Datatype) -> int:
    """Return how deep lists and objects of an element are nested at most."""
    if isinstance(datatype, ComplexType):
        return 1
    if isinstance(datatype, ArrayType):
        return len(datatype.shape) + json_depth(datatype.base)
    if isinstance(datatype, SequenceType):
        return 1 + json_depth(datatype.base)
    if isinstance(datatype, CompoundType):
        return 1 + max((json_depth(member.type) for member in datatype.members), default=0)
    # A region has a list of blocks of two corners each.
    return 4 if isinstance(datatype, ReferenceType) else 0


def _target_to_json(target: bytes | UnnamedTarget | RegionTarget | None) -> JsonValue:
    if target is None:
        return None
    if isinstance(target, bytes):
        return name_to_text(target)
    if isinstance(target, UnnamedTarget):
        return {"address": target.address}
    path = name_to_text(target.path)
    if target.everything:
        return {"path": path, "everything": True}
    if target.points:
        return {"path": path, "points": [list(point) for point in target.points]}
    return {"path": path, "blocks": [[list(start), list(stop)] for start, stop in target.blocks]}


def _target_from_json(value: JsonValue, datatype: ReferenceType) -> Element:
    if value is None:
        return None
    if datatype.kind is not ReferenceKind.OBJECT:
        return _region_from_json(value)
    if isinstance(value, dict) and value.keys() == {"address"}:
        return UnnamedTarget(*_coordinates([value["address"]]))
    return _path(value)


def _region_from_json(value: JsonValue) -> RegionTarget:
    if not isinstance(value, dict) or len(value) != 2 or "path" not in value:
        raise InvalidAttributesError(f"not a region: {show_value(value)}")
    path = _path(value["path"])
    if value.get("everything") is True:
        return RegionTarget(path, everything=True)
    if "points" in value:
        points = tuple(_coordinates(point) for point in _list(value["points"]))
        return RegionTarget(path, points=points)
    if "blocks" in value:
        pairs = [_list(block, 2) for block in _list(value["blocks"])]
        blocks = tuple((_coordinates(start), _coordinates(stop)) for start, stop in pairs)
        return RegionTarget(path, blocks=blocks)
    raise InvalidAttributesError(f"not a region: {show_value(value)}")


def _path(value: JsonValue) -> bytes:
    if not isinstance(value, str) or not value.startswith("/"):
        raise InvalidAttributesError(
            f"not the path of an object, from the root group: {show_value(value)}"
        )
    return text_to_name(value)


def _coordinates(value: JsonValue) -> tuple[int, ...]:
    coordinates = tuple(_list(value))
    if not all(type(item) is int and 0 <= item < 1 << 64 for item in coordinates):
        raise InvalidAttributesError(f"not coordinates: {show_value(value)}")
    return coordinates


def _list(value: JsonValue, length: int | None = None) -> list[JsonValue]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        what = "a list" if length is None else f"a list of {length}"
        raise InvalidAttributesError(f"not {what}: {show_value(value)}")
    return value

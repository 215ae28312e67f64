"""Flat rows of elements and the nested lists of JSON that show them. Pure."""

from __future__ import annotations

import math

from h5fs.errors import InvalidAttributesError
from h5fs.projection.json.strict_json import JsonValue

Shape = tuple[int, ...]


def nest(flat: list[JsonValue], shape: Shape) -> JsonValue:
    """Return the elements, row-major, as lists in lists; the element itself when it is a scalar.

    An array with an empty dimension is an empty list, whatever the other dimensions are.
    """
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)] if size else []
    return flat


def flatten(value: JsonValue, shape: Shape) -> list[JsonValue]:
    """Return the elements of nested lists, row-major.

    Raises ``InvalidAttributesError`` when the lists do not have that shape. For a shape with an
    empty dimension, any lists without elements will do.
    """
    flat = [value]
    if 0 in shape:
        while flat:
            flat = [item for row in flat for item in _row(row, shape, None)]
    else:
        for size in shape:
            flat = [item for row in flat for item in _row(row, shape, size)]
    return flat


def _row(row: JsonValue, shape: Shape, size: int | None) -> list[JsonValue]:
    if not isinstance(row, list) or (size is not None and len(row) != size):
        raise InvalidAttributesError(f"not lists of the shape {list(shape)}")
    return row


def shape_of(value: JsonValue, element_depth: int) -> Shape:
    """Return the shape that nested lists show, when each element is a list nested that deep.

    ``element_depth`` is 0 for a number. Ragged lists have the shape of their first rows.
    """
    if not isinstance(value, list):
        return ()
    shape: list[int] = []
    for _ in range(depth_of(value) - element_depth):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
        if not isinstance(value, list):
            break
    return tuple(shape)


def depth_of(value: JsonValue) -> int:
    """Return how deep lists are nested in a value: 0 for what is not a list, 1 for an empty one."""
    depth = 0
    row = [value]
    while row := [item for item in row if isinstance(item, list)]:
        depth += 1
        row = [item for inner in row for item in inner]
    return depth


def element_count(shape: Shape | None) -> int:
    """Return the number of elements of a dataspace, 0 for a null one."""
    return 0 if shape is None else math.prod(shape)

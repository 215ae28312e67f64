"""Which shape, type and storage a dataset gets that is written, and where written bytes lie. Pure.

A new dataset may grow in its first dimension, since appending is what several machines can do at
once. The service stores all arrays in chunks, so that this costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from h5fs.model.datatypes import ArrayType, Datatype
from h5fs.model.settings import NewDatasets
from h5fs.store.hsds.answers import ObjectAnswer
from h5fs.store.hsds.datatype_json import parse_datatype
from h5fs.store.hsds.writing.new_types import kept_type, natural_type
from h5fs.store.interface import ArrayFile


def type_for(old: ObjectAnswer | None, array: ArrayFile) -> tuple[Datatype, int]:
    """Return the type for an array that replaces a dataset, and how many dimensions elements have.

    Raises ``UnsupportedTypeError``.
    """
    if old is not None:
        datatype = parse_datatype(old.type)
        inner = datatype.shape if isinstance(datatype, ArrayType) else ()
        trailing = array.shape[len(array.shape) - len(inner) :]
        if kept_type(datatype, array.dtype, trailing) is not None:
            return datatype, len(inner)
    return natural_type(array.dtype), 0


def space_of(
    old: ObjectAnswer | None, shape: tuple[int, ...], new_datasets: NewDatasets
) -> dict[str, Any]:
    """Return the part of a new dataset's description that says its shape and storage.

    Where there was a dataset of as many dimensions, it is stored as that one was.
    """
    if not shape:
        return {}
    maxdims = [0, *shape[1:]]
    creation: dict[str, Any] = {}
    old_shape = old.shape.shape() if old is not None and old.shape is not None else None
    if old is not None and old.shape is not None and old_shape and len(old_shape) == len(shape):
        largest = old.shape.max_shape() or ()
        if all(most is None or most >= size for most, size in zip(largest, shape, strict=True)):
            maxdims = [most or 0 for most in largest]
        creation = {key: old.creation[key] for key in ("filters", "fillValue") if
                    key in old.creation}  # fmt: skip
        chunks = old.chunk_shape(len(shape))
    else:
        chunks = new_datasets.chunk_shape
        creation = _filters_of(new_datasets)
    if chunks is not None and len(chunks) == len(shape):
        dims = [min(chunk, most or chunk) for chunk, most in zip(chunks, maxdims, strict=True)]
        creation["layout"] = {"class": "H5D_CHUNKED", "dims": dims}
    return {"shape": list(shape), "maxdims": maxdims, "creationProperties": creation}


def may_grow(answer: ObjectAnswer, rows: int) -> bool:
    """Whether a dataset takes so many more rows."""
    shape = answer.shape.shape() if answer.shape is not None else None
    largest = answer.shape.max_shape() if answer.shape is not None else None
    return bool(shape and largest) and (
        largest[0] is None or shape[0] + rows <= largest[0]  # type: ignore[index]
    )


def would_lose_rows(old: ObjectAnswer, shape: tuple[int, ...], old_rows: int | None) -> bool:
    """Whether an array goes on from an older state of a dataset and is longer than that was.

    Then it would take the place of rows that others have written since.
    """
    now = old.shape.shape() if old.shape is not None else None
    return bool(
        old_rows is not None and now and shape and now[1:] == shape[1:] and shape[0] > old_rows
    )


def elements_of(
    ranges: tuple[tuple[int, int], ...], item_bytes: int, rows: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Yield ranges of elements for ranges of bytes, as far as they are within so many rows."""
    count = rows * prod(shape[1:])
    for low, high in ranges:
        start, stop = low // item_bytes, min(-(-high // item_bytes), count)
        if start < stop:
            yield start, stop


def _filters_of(new_datasets: NewDatasets) -> dict[str, Any]:
    filters: list[dict[str, Any]] = []
    if new_datasets.shuffles:
        filters.append({"class": "H5Z_FILTER_SHUFFLE", "id": 2, "name": "shuffle"})
    if new_datasets.gzip_level is not None:
        filters.append({
            "class": "H5Z_FILTER_DEFLATE", "id": 1, "name": "deflate",
            "level": new_datasets.gzip_level,
        })  # fmt: skip
    return {"filters": filters} if filters else {}

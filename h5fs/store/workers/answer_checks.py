"""Checks whether a worker's answer, which has the right types, can be true.

A worker that a hostile file has taken over can always show wrong data of that file. But numbers and
shapes that no library would give must not make the daemon compute without end, take memory without
end, or raise unexpected exceptions. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from h5fs.model.datatypes import (
    ArrayType,
    BitfieldType,
    BitLayout,
    CompoundType,
    EnumType,
    FloatType,
    IntegerType,
    ReferenceType,
    SequenceType,
    StringType,
)
from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import (
    Attribute,
    Chunked,
    Contiguous,
    DatasetInfo,
    Link,
    LinkKind,
    ObjectInfo,
    Region,
    RegionTarget,
    StorageInfo,
    UnnamedTarget,
    Virtual,
)
from h5fs.store.chunks.geometry import Grid
from h5fs.store.library_interface import (
    MOST_DATA_AHEAD_BYTES,
    MOST_TEXT_AHEAD_BYTES,
    ObjectDetails,
)
from h5fs.store.workers.messages import Outcomes

_OFFSET_LIMIT = 2**62
_MAX_RANK = 64  # 32 of a dataset, and as many of an array type
_MAX_PER_ELEMENT = 2**40
_MOST_CHUNKS = 2**26  # an array with more is read through the library
_MOST_WIDENING = 16  # how many times larger an element may be in memory than in the file
_SPARE_BITS = 2**16  # how far positions in a damaged type may lie beyond its size


def check(arguments: tuple[Any, ...], result: Any, most_item_bytes: int) -> None:
    """Raise ``ValueError`` for a result that the library cannot have given.

    ``most_item_bytes``: the largest element of fixed size. Methods without a check pass.
    """
    if result is None:
        return
    if isinstance(result, Outcomes):
        _need(len(result.each) == len(arguments), "answers to other changes")
        for (method, given), outcome in zip(arguments, result.each, strict=True):
            _need(outcome.method == method, "the answer to another change")
            check(given, outcome.result, most_item_bytes)
    elif isinstance(result, LinkTable):
        _check_table(result, arguments[0], most_item_bytes)
    elif isinstance(result, Region):
        _need(0 <= result.file_offset < _OFFSET_LIMIT, "a place in the file")
        _need(0 <= result.size_bytes < _OFFSET_LIMIT, "a place in the file")
    else:
        _check_value(result, most_item_bytes)


def _check_value(value: Any, most_item_bytes: int) -> None:
    if isinstance(value, tuple):
        for each in value:
            _check_value(each, most_item_bytes)
    elif isinstance(value, ObjectInfo):
        _check_object(value, most_item_bytes)
    elif isinstance(value, Link):
        _check_link(value, most_item_bytes)
    elif isinstance(value, DatasetInfo):
        _check_dataset(value, most_item_bytes)
    elif isinstance(value, StorageInfo) and value.array is not None:
        _check_dataset(value.array, most_item_bytes)
    elif isinstance(value, Attribute):
        _check_type(value.type, most_item_bytes)
        count = 0 if value.shape is None else _count(value.shape)
        _need(len(value.elements) == count, "elements of another shape")
        _check_elements(value.type, value.elements)
    elif isinstance(value, ObjectDetails):
        text = value.attributes
        _need(text is None or text.endswith(b"}\n"), "attributes")
        _need(len(text or b"") <= MOST_TEXT_AHEAD_BYTES, "the size of attributes")
        _need(len(value.data or b"") <= MOST_DATA_AHEAD_BYTES, "the size of a small array")
        if value.dataset is not None:
            _check_dataset(value.dataset, most_item_bytes)
    elif isinstance(value, _DATATYPES):
        _check_type(value, most_item_bytes)


def _need(is_so: bool, what: str) -> None:
    if not is_so:
        raise _lie(what)


def _lie(what: str) -> ValueError:
    return ValueError(f"{what} that cannot be")


def _count(shape: tuple[int, ...]) -> int:
    if shape and (len(shape) > _MAX_RANK or min(shape) < 0 or max(shape) >= 2**64):
        raise _lie("a shape")
    return prod(shape)


def _check_object(info: ObjectInfo, most_item_bytes: int) -> None:
    ref = info.ref
    if min(ref.file, ref.id, info.attribute_count, info.hard_link_count) < 0:
        raise _lie("a count")
    if not -1 <= info.file_offset < _OFFSET_LIMIT:
        raise _lie("a place in the file")
    for dataset in (info.dataset, info.array):
        if dataset is not None:
            _check_dataset(dataset, most_item_bytes)


def _check_link(link: Link, most_item_bytes: int) -> None:
    _need((link.target is not None) == (link.kind is LinkKind.HARD), "a link's target")
    if link.target is not None:
        _check_object(link.target, most_item_bytes)


def _check_table(table: LinkTable, group: Any, most_item_bytes: int) -> None:
    _need(table.group == group and table.group.path == group.path, "links of another group")
    stops = np.frombuffer(table.name_stops, "<u8")
    rows = np.frombuffer(table.rows, ROW)
    ends = [0, *stops[-1:].tolist()]
    _need(ends[-1] == len(table.names) and len(rows) == len(stops), "a table of links")
    _need(bool((stops[1:] >= stops[:-1]).all()), "names of links")
    if len(rows):
        _need(int(rows["kind"].max()) < len(OBJECT_KINDS), "a kind of object")
        for name in ("dataset", "array"):
            places = rows[name]
            _need(places.min() >= -1 and places.max() < len(table.datasets), "a kind of dataset")
        offsets = rows["file_offset"]
        _need(offsets.min() >= -1 and offsets.max() < _OFFSET_LIMIT, "a place in the file")
    for dataset in table.datasets:
        _check_dataset(dataset, most_item_bytes)
    for place, link in table.others.items():
        _need(0 <= place < len(rows), "the place of a link")
        start = int(stops[place - 1]) if place else 0
        _need(link.name == table.names[start : int(stops[place])], "the name of a link")
        _need(link.kind is not LinkKind.HARD, "the kind of a link")


def _check_dataset(dataset: DatasetInfo, most_item_bytes: int) -> None:
    _count(dataset.shape or ())
    _need(0 <= (dataset.value_count or 0) < 2**64, "a number of values")
    for each in dataset.text_widths:
        _need(0 <= each.text_bytes <= each.size_bytes < 2**40, "a width")
    _need(0 < dataset.sequences_per_element < _MAX_PER_ELEMENT, "a number of sequences")
    if isinstance(dataset.data, Contiguous):
        _need(0 <= dataset.data.file_offset < _OFFSET_LIMIT, "a place in the file")
    elif isinstance(dataset.data, Chunked):
        shape, chunk_shape = dataset.shape or (), dataset.data.chunk_shape
        _need(len(chunk_shape) == len(shape) > 0 and min(shape) > 0, "chunks")
        _need(all(0 < size < 2**64 for size in chunk_shape), "chunks")
        item_bytes = dataset.dtype.itemsize
        _need(0 < item_bytes <= most_item_bytes, "elements")
        _need(len(dataset.data.fill_value) == item_bytes, "a fill value")
        grid = Grid(shape, chunk_shape, item_bytes)
        _need(grid.chunk_count <= _MOST_CHUNKS, "a number of chunks")
        _need(grid.chunk_bytes <= _MOST_WIDENING * most_item_bytes, "the size of chunks")
    elif isinstance(dataset.data, Virtual):
        _check_runs(dataset, dataset.data, most_item_bytes)


def _check_runs(dataset: DatasetInfo, virtual: Virtual, most_item_bytes: int) -> None:
    for source in virtual.sources:
        _need(not isinstance(source.dataset.data, Virtual), "a source")
        _check_dataset(source.dataset, most_item_bytes)
    _need(dataset.data_bytes < _OFFSET_LIMIT, "a shape")
    starts, numbers, places = np.frombuffer(virtual.runs, "<i8").reshape(-1, 3).T
    _need(len(starts) > 0 and not starts[0] and dataset.data_bytes > starts[-1], "runs")
    _need(bool((starts[1:] > starts[:-1]).all()), "runs")
    _need(numbers.min() >= 0 and numbers.max() < len(virtual.sources), "a source")
    sizes = np.diff(starts, append=dataset.data_bytes)
    # Of more than 63 bits no array can be made here.
    most = np.array([min(each.dataset.data_bytes, _OFFSET_LIMIT) for each in virtual.sources])
    _need(bool((places >= 0).all() and (places <= most[numbers] - sizes).all()), "runs")


# --- Datatypes and elements ---

_DATATYPES = (IntegerType, BitfieldType, FloatType, StringType, EnumType, CompoundType, ArrayType,
              SequenceType, ReferenceType)  # fmt: skip


def _check_type(datatype: Any, most_item_bytes: int) -> None:
    if isinstance(datatype, IntegerType | BitfieldType | FloatType):
        _check_bits(datatype.bits, most_item_bytes)
        if isinstance(datatype, FloatType):
            most = 8 * datatype.bits.size_bytes + _SPARE_BITS
            numbers = (
                datatype.exponent_size, datatype.mantissa_size, datatype.sign_position,
                datatype.exponent_position, datatype.mantissa_position,
            )  # fmt: skip
            _need(min(numbers) >= 0 and max(numbers) <= most, "a floating-point type")
    elif isinstance(datatype, EnumType | SequenceType):
        _check_type(datatype.base, most_item_bytes)
    elif isinstance(datatype, ArrayType):
        _count(datatype.shape)
        _check_type(datatype.base, most_item_bytes)
    elif isinstance(datatype, CompoundType):
        for member in datatype.members:
            _check_type(member.type, most_item_bytes)
    size = getattr(datatype, "size_bytes", None)
    _need(size is None or size >= 0, "the size of a type")


def _check_bits(bits: BitLayout, most_item_bytes: int) -> None:
    _need(0 < bits.size_bytes <= most_item_bytes, "the size of a type")
    most_bits = 8 * bits.size_bytes + _SPARE_BITS
    _need(bits.offset >= 0 < bits.precision <= most_bits - bits.offset, "a precision")


def _check_elements(datatype: Any, elements: Sequence[Any]) -> None:
    """Check all elements of an attribute at once, since there may be millions."""
    kinds = set(map(type, elements))
    if isinstance(datatype, CompoundType):
        _need(kinds <= {tuple}, "a compound")
        _need(set(map(len, elements)) <= {len(datatype.members)}, "a compound")
        columns = zip(*elements, strict=True)
        for member, column in zip(datatype.members, columns, strict=False):
            _check_elements(member.type, column)
    elif isinstance(datatype, ArrayType | SequenceType):
        _need(kinds <= {tuple}, "an element")
        if isinstance(datatype, ArrayType):
            _need(set(map(len, elements)) <= {_count(datatype.shape)}, "an array")
        _check_elements(datatype.base, [each for element in elements for each in element])
    elif isinstance(datatype, ReferenceType):
        known = {bytes, type(None), UnnamedTarget, RegionTarget}
        _need(kinds <= known, "a reference")
    elif isinstance(datatype, StringType) and datatype.size_bytes is None:
        _need(kinds <= {bytes, type(None)}, "a string")
    else:
        _need(kinds <= {bytes}, "an element")
        bits = datatype.base.bits if isinstance(datatype, EnumType) else None
        bits = bits or getattr(datatype, "bits", datatype)
        _need(set(map(len, elements)) <= {bits.size_bytes}, "an element")

"""Elements as the HDF5 library lays them out in memory, to plain values and back.

Where an element has variable-length parts, memory holds pointers: ``char *`` for a string,
``hvl_t`` (length, pointer) for a sequence. Everything else is the bits of the file.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from h5fs.errors import UnreadableError
from h5fs.model.datatype_rules import MAX_ELEMENTS
from h5fs.model.datatypes import (
    ArrayType,
    CompoundType,
    Datatype,
    ReferenceType,
    SequenceType,
    StringType,
    count_values,
    size_in_memory,
)
from h5fs.model.objects import Element

ReadReference = Callable[[bytes, ReferenceType], Element]
StoreReference = Callable[[Element, ReferenceType], bytes]


def unpack_elements(
    memory: bytes, datatype: Datatype, *, read_reference: ReadReference
) -> list[Element]:
    """Return the elements that lie in ``memory``, one after another.

    Pointers in it must be valid: they are followed.
    """
    size = size_in_memory(datatype)
    if isinstance(datatype, CompoundType):
        return _unpack_compounds(memory, datatype, read_reference)
    if isinstance(datatype, ArrayType):
        items = unpack_elements(memory, datatype.base, read_reference=read_reference)
        length = math.prod(datatype.shape)
        return [tuple(items[i : i + length]) for i in range(0, len(items), length)]
    if isinstance(datatype, SequenceType):
        return _unpack_sequences(memory, datatype, read_reference)
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        pointers = np.frombuffer(memory, np.uintp).tolist()
        return [ctypes.string_at(pointer) if pointer else None for pointer in pointers]
    items = [memory[i : i + size] for i in range(0, len(memory), size)]
    if isinstance(datatype, ReferenceType):
        targets = {item: read_reference(item, datatype) for item in dict.fromkeys(items)}
        return [targets[item] for item in items]
    return items


def _unpack_compounds(
    memory: bytes, datatype: CompoundType, read_reference: ReadReference
) -> list[Element]:
    rows = np.frombuffer(memory, np.uint8).reshape(-1, datatype.size_bytes)
    columns = []
    for member in datatype.members:
        stop = member.offset + size_in_memory(member.type)
        column = rows[:, member.offset : stop].tobytes()
        columns.append(unpack_elements(column, member.type, read_reference=read_reference))
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def _unpack_sequences(
    memory: bytes, datatype: SequenceType, read_reference: ReadReference
) -> list[Element]:
    size = size_in_memory(datatype.base)
    pairs = np.frombuffer(memory, np.uintp).reshape(-1, 2).tolist()
    if sum(length for length, _ in pairs) * count_values(datatype.base) > MAX_ELEMENTS:
        raise UnreadableError(f"more than {MAX_ELEMENTS} elements in sequences")
    parts = [
        ctypes.string_at(pointer, length * size) if pointer else b"" for length, pointer in pairs
    ]
    items = unpack_elements(b"".join(parts), datatype.base, read_reference=read_reference)
    sequences, start = [], 0
    for part in parts:
        stop = start + len(part) // size
        sequences.append(tuple(items[start:stop]))
        start = stop
    return sequences


def pack_elements(
    elements: Sequence[Element],
    datatype: Datatype,
    *,
    store_reference: StoreReference,
    owners: list[Any],
) -> bytes:
    """Return the memory that ``elements`` take; padding is zero.

    ``owners`` receives what the pointers in it lead to: valid for as long as these are kept.
    """
    if isinstance(datatype, CompoundType):
        return _pack_compounds(elements, datatype, store_reference, owners)
    if isinstance(datatype, ArrayType | SequenceType):
        packed = pack_elements(
            [item for element in elements for item in element],
            datatype.base,
            store_reference=store_reference,
            owners=owners,
        )
        if isinstance(datatype, ArrayType):
            return packed
        return _point_at(packed, [len(element) for element in elements], datatype, owners)
    if isinstance(datatype, StringType) and datatype.size_bytes is None:
        pointers = [_keep(text + b"\0", owners) if text is not None else 0 for text in elements]
        return np.array(pointers, np.uintp).tobytes()
    if isinstance(datatype, ReferenceType):
        stored = {target: store_reference(target, datatype) for target in dict.fromkeys(elements)}
        return b"".join(stored[target] for target in elements)
    return _join_fixed(elements, size_in_memory(datatype))


def _pack_compounds(
    elements: Sequence[Element],
    datatype: CompoundType,
    store_reference: StoreReference,
    owners: list[Any],
) -> bytes:
    rows = np.zeros((len(elements), datatype.size_bytes), np.uint8)
    for index, member in enumerate(datatype.members):
        column = pack_elements(
            [element[index] for element in elements],
            member.type,
            store_reference=store_reference,
            owners=owners,
        )
        width = size_in_memory(member.type)
        part = np.frombuffer(column, np.uint8).reshape(len(rows), width)
        rows[:, member.offset : member.offset + width] = part
    return rows.tobytes()


def _join_fixed(elements: Sequence[bytes], size: int) -> bytes:
    if any(len(element) != size for element in elements):
        raise ValueError(f"an element is not {size} bytes long")
    return b"".join(elements)


def _point_at(
    packed: bytes, lengths: list[int], datatype: SequenceType, owners: list[Any]
) -> bytes:
    size = size_in_memory(datatype.base)
    base = _keep(packed, owners)
    pairs, start = [], 0
    for length in lengths:
        pairs.append((length, base + start if length else 0))
        start += length * size
    return np.array(pairs, np.uintp).tobytes()


def _keep(memory: bytes, owners: list[Any]) -> int:
    owner = ctypes.create_string_buffer(memory, max(len(memory), 1))
    owners.append(owner)
    return ctypes.addressof(owner)

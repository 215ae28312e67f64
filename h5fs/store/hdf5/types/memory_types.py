"""Elements of fixed-size types: the dtype of the ``.npy`` file, and elements read as such.

Functions over open identifiers; they keep nothing. Under the store's lock.
"""

from __future__ import annotations

import functools
import itertools
from math import prod
from typing import Any

import numpy as np
from h5py import h5d, h5s, h5t
from msgspec import Struct

from h5fs.errors import UnsupportedTypeError
from h5fs.model.objects import Enumeration
from h5fs.projection.npy import npy_dtype
from h5fs.projection.slicing import split_into_hyperslabs
from h5fs.store.chunks.geometry import Box
from h5fs.store.hdf5.library_errors import explain
from h5fs.store.hdf5.types.array_descriptions import enumerations_of

# HDF5 converts bitfields to no other class, and opaque elements to no other tag.
_NOT_CONVERTED = (h5t.BITFIELD, h5t.OPAQUE)


class MemoryType(Struct, frozen=True, dict=True):
    """How elements are asked of HDF5: as arrays of ``dtype``, by the HDF5 type ``type_id``.

    ``dtype`` has h5py's metadata, and objects where elements have variable-length parts.
    ``given_type_id`` is set where h5py would choose another.
    """

    dtype: np.dtype[Any]
    given_type_id: h5t.TypeID | None = None

    @functools.cached_property
    def type_id(self) -> h5t.TypeID:
        """The HDF5 type; made when it is first used, since most datasets are only looked at."""
        return self.given_type_id or h5t.py_create(self.dtype)

    @functools.cached_property
    def file_dtype(self) -> np.dtype[Any]:
        """The dtype of the ``.npy`` file."""
        return npy_dtype(self.dtype)

    @functools.cached_property
    def enumerations(self) -> tuple[Enumeration, ...]:
        """What tables need beside the dtype."""
        return enumerations_of(self.dtype)


def memory_type(file_type: h5t.TypeID) -> MemoryType:
    """Return the type in memory that h5py would choose, or another where h5py cannot read its own.

    Raises ``UnsupportedTypeError`` when no numpy dtype holds such elements.
    """
    if _has_regions_in_sequences(file_type, in_sequence=False):
        raise UnsupportedTypeError("region references in a sequence, on which h5py 3.16 crashes")
    try:
        if any(file_type.detect_class(kind) for kind in _NOT_CONVERTED):
            return _memory_type_as_stored(file_type)
        return MemoryType(file_type.dtype)
    except UnsupportedTypeError:
        raise
    except Exception as error:  # any of h5py's
        reason = f"h5py has no dtype for this type ({explain(error)})"
        raise UnsupportedTypeError(reason) from error


def read_fixed(dataset_id: h5d.DatasetID, memory: MemoryType, start: int, stop: int) -> bytearray:
    """Return elements ``[start, stop)``, row-major, as they lie in an array of ``memory.dtype``."""
    # h5py starts from zeros too; they stay where a compound has padding.
    buffer = bytearray((stop - start) * memory.dtype.itemsize)
    array = np.frombuffer(buffer, np.uint8)
    read_into(dataset_id, memory, array, start, stop)
    return buffer


def read_objects(
    dataset_id: h5d.DatasetID, memory: MemoryType, start: int, stop: int
) -> np.ndarray[Any, Any]:
    """Return elements ``[start, stop)``, row-major, as a flat array with objects in it."""
    array = np.zeros(stop - start, memory.dtype)
    read_into(dataset_id, memory, array, start, stop)
    return array


def read_box(dataset_id: h5d.DatasetID, memory: MemoryType, box: Box) -> np.ndarray[Any, Any]:
    """Return the elements of a box as a flat array with objects in it."""
    count = prod(box.count)
    array = np.zeros(count, memory.dtype)
    space = dataset_id.get_space()
    space.select_hyperslab(box.start, box.count)
    dataset_id.read(h5s.create_simple(box.count), space, array, memory.type_id)
    return array


def read_into(
    dataset_id: h5d.DatasetID,
    memory: MemoryType,
    array: np.ndarray[Any, Any],
    start: int,
    stop: int,
) -> None:
    """Read elements ``[start, stop)`` into an array that has just the room for them."""
    if start == stop:
        return
    space = dataset_id.get_space()
    shape = space.get_simple_extent_dims()
    per_element = len(array) // max(stop - start, 1)
    filled = 0
    for slab in split_into_hyperslabs(shape, start, stop):
        count = prod(slab.count)
        in_memory = h5s.create(h5s.SCALAR)
        if slab.count:
            space.select_hyperslab(slab.start, slab.count)
            # In memory of another shape HDF5 would go through chunks element by element.
            in_memory = h5s.create_simple(slab.count)
        part = array[filled * per_element : (filled + count) * per_element]
        dataset_id.read(in_memory, space, part, memory.type_id)
        filled += count


def _has_regions_in_sequences(type_id: h5t.TypeID, *, in_sequence: bool) -> bool:
    if isinstance(type_id, h5t.TypeReferenceID):
        return in_sequence and bool(type_id.equal(h5t.STD_REF_DSETREG))
    if isinstance(type_id, h5t.TypeVlenID):
        return _has_regions_in_sequences(type_id.get_super(), in_sequence=True)
    if isinstance(type_id, h5t.TypeArrayID):
        return _has_regions_in_sequences(type_id.get_super(), in_sequence=in_sequence)
    if isinstance(type_id, h5t.TypeCompoundID):
        members = (type_id.get_member_type(i) for i in range(type_id.get_nmembers()))
        return any(_has_regions_in_sequences(each, in_sequence=in_sequence) for each in members)
    return False


def _memory_type_as_stored(file_type: h5t.TypeID) -> MemoryType:
    """Return a type in memory that has bitfields and opaque elements as they lie in the file."""
    if isinstance(file_type, h5t.TypeOpaqueID):
        return MemoryType(file_type.dtype, file_type)
    if isinstance(file_type, h5t.TypeBitfieldID):
        order = ">" if file_type.get_order() == h5t.ORDER_BE else "<"
        size = file_type.get_size()
        if size not in (1, 2, 4, 8):
            raise UnsupportedTypeError(f"a bitfield of {size} bytes")
        return MemoryType(np.dtype(f"{order}u{size}"), file_type)
    if isinstance(file_type, h5t.TypeArrayID):
        base = _member_as_stored(file_type.get_super())
        shape = file_type.get_array_dims()
        return MemoryType(np.dtype((base.dtype, shape)), h5t.array_create(base.type_id, shape))
    if isinstance(file_type, h5t.TypeCompoundID):
        return _compound_as_stored(file_type)
    dtype = file_type.dtype
    if isinstance(file_type, h5t.TypeEnumID) and dtype.kind != "b":
        is_as_in_memory = h5t.py_create(np.dtype(dtype.str)).equal(file_type.get_super())
        return MemoryType(dtype, file_type if is_as_in_memory else None)
    return MemoryType(dtype)


def _member_as_stored(file_type: h5t.TypeID) -> MemoryType:
    """Return a type in memory for a part of a type that is read as it lies in the file.

    h5py reads enumerations as integers, to which the library converts them; and a compound of which
    one member is converted loses its padding.
    """
    found = memory_type(file_type)
    if found.dtype.hasobject or not file_type.detect_class(h5t.ENUM):
        return found
    return _memory_type_as_stored(file_type)


def _compound_as_stored(file_type: h5t.TypeCompoundID) -> MemoryType:
    count = file_type.get_nmembers()
    names = [file_type.get_member_name(i) for i in range(count)]
    members = [_member_as_stored(file_type.get_member_type(i)) for i in range(count)]
    offsets = [file_type.get_member_offset(i) for i in range(count)]
    size = file_type.get_size()
    if any(m.dtype.itemsize != file_type.get_member_type(i).get_size()
           for i, m in enumerate(members)):  # fmt: skip
        # A member is wider in memory than in the file, whose offsets do not fit then.
        ends = list(itertools.accumulate(member.dtype.itemsize for member in members))
        offsets, size = [0, *ends[:-1]], ends[-1]
    type_id = h5t.create(h5t.COMPOUND, size)
    for name, offset, member in zip(names, offsets, members, strict=True):
        type_id.insert(name, offset, member.type_id)
    dtype = np.dtype(
        {
            "names": [name.decode("utf-8", "surrogateescape") for name in names],
            "formats": [member.dtype for member in members],
            "offsets": offsets,
            "itemsize": size,
        }
    )
    return MemoryType(dtype, type_id)

"""HDF5 datatypes between h5py and plain values.

Types are read from the datatype message (``H5Tencode``), and simple ones made from it, because
h5py's low-level interface has no getter or setter for the precision and offset of a bitfield, the
parts of a complex number, the kind of a reference or anything of a time, and loses enumeration
values beyond 64 bits. A description is returned only if the type made from it is equal
(``H5Tequal``). Under the store's lock.
"""

from __future__ import annotations

import functools

from h5py import h5t

from h5fs.errors import UnsupportedTypeError
from h5fs.model.datatype_rules import check_datatype
from h5fs.model.datatypes import (
    ArrayType,
    CompoundType,
    Datatype,
    FloatType,
    IntegerType,
    ReferenceKind,
    ReferenceType,
    SequenceType,
    StringType,
    size_in_memory,
)
from h5fs.store.format.datatype_message.parser import parse_message
from h5fs.store.hdf5.library_errors import reading

# What H5Tencode writes before the message: the message's number and the version of this encoding.
_PREFIX = b"\x03\x00"

# Types of nearly all attributes are numbers and texts, which a file has again and again.
_TYPES_KEPT, _MOST_KEPT_BYTES = 256, 256

_REFERENCES = {
    ReferenceKind.OBJECT: h5t.STD_REF_OBJ,
    ReferenceKind.REGION: h5t.STD_REF_DSETREG,
}


def describe_datatype(tid: h5t.TypeID) -> Datatype:
    """Return all of a datatype that ``H5Tequal`` compares; whether it is committed is not told.

    Offsets and sizes are those in memory, where a variable-length string takes 8 bytes.
    Raises ``UnsupportedTypeError`` when plain values cannot describe the type exactly,
    ``UnreadableError`` when the library cannot encode it.
    """
    with reading("datatype"):
        copy = tid.copy()
        encoded = copy.encode()
        if not encoded.startswith(_PREFIX):
            raise UnsupportedTypeError(f"datatype encoded in an unknown form {encoded[:2].hex()}")
        parse = _parse_once if len(encoded) <= _MOST_KEPT_BYTES else _parse
        description, made = parse(encoded)
        if not made.equal(copy):
            raise UnsupportedTypeError(f"datatype that {description!r} does not fully describe")
    return description


def _parse(encoded: bytes) -> tuple[Datatype, h5t.TypeID]:
    """Return what an encoded datatype says, and the type that is made of that."""
    description = parse_message(encoded[len(_PREFIX) :])
    return description, _create(description)


_parse_once = functools.lru_cache(_TYPES_KEPT)(_parse)


@functools.lru_cache(_TYPES_KEPT)
def simple_type(datatype: IntegerType | FloatType | StringType) -> h5t.TypeID:
    """Return what ``create_datatype`` does, the same one each time: it must not be committed."""
    return create_datatype(datatype)


def create_datatype(datatype: Datatype) -> h5t.TypeID:
    """Return a new transient HDF5 datatype as described.

    The library may sort the members of a compound by offset; ``H5Tequal`` ignores their order.
    Raises ``UnsupportedTypeError`` when HDF5 has no such datatype.
    """
    try:
        check_datatype(datatype)
    except ValueError as error:
        raise UnsupportedTypeError(str(error)) from error
    with reading(f"create {datatype!r}"):
        tid = _create(datatype)
        if size_in_memory(datatype) != tid.get_size():
            raise UnsupportedTypeError(f"{datatype!r} would have {tid.get_size()} bytes")
    return tid


def _create(datatype: Datatype) -> h5t.TypeID:
    # The library checks what it is told through its interface, so that goes before H5Tdecode.
    # (H5Tdecode also leaves open whether a reference in a sequence is in memory or in the file.)
    if isinstance(datatype, SequenceType):
        return h5t.vlen_create(_create(datatype.base))
    if isinstance(datatype, ArrayType):
        return h5t.array_create(_create(datatype.base), datatype.shape)
    if isinstance(datatype, CompoundType):
        tid = h5t.create(h5t.COMPOUND, datatype.size_bytes)
        for member in datatype.members:
            tid.insert(member.name, member.offset, _create(member.type))
        return tid
    if isinstance(datatype, ReferenceType) and datatype.kind in _REFERENCES:
        return _REFERENCES[datatype.kind].copy()
    from h5fs.store.format.datatype_message.builder import build_message

    return h5t.decode(_PREFIX + build_message(datatype))

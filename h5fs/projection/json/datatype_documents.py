"""HDF5 datatypes as JSON, exactly, and back. Pure: no I/O, no h5py.

The short form, where numpy can spell the type, is a numpy dtype string, meaning the HDF5 type that
h5py makes for that dtype (``"<f4"``, ``"|u1"``, ``"|b1"`` for h5py's boolean enumeration,
``"<c8"`` for its complex compound), or a numpy descr list for a compound of such members, one
straight after the other (``[["x", "<f4"], ["v", "<i2", [3]]]``).

The long form is the class object of the HDF5/JSON specification
(https://hdf5-json.readthedocs.io, "Type objects"): ``{"class": "H5T_STRING", "charSet":
"H5T_CSET_UTF_8", "strPad": "H5T_STR_NULLPAD", "length": 5}``. That specification names atomic
types only by the library's predefined names; here the layout is spelled out instead ("size" in
bytes; "precision" and all positions in bits). Members of a compound have their "offset", and the
compound its "size", in bytes. Names that are not UTF-8 are percent-encoded (`strict_json`); a
mapping with a name that stands twice is a list of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, TypeVar

from h5fs.errors import AttributeTooLargeError, InvalidAttributesError
from h5fs.model.datatype_rules import MAX_DEPTH, check_datatype
from h5fs.model.datatypes import (
    ArrayType,
    BitfieldType,
    BitLayout,
    BitPadding,
    ByteOrder,
    CharacterSet,
    ComplexType,
    CompoundType,
    Datatype,
    EnumType,
    FloatType,
    IntegerType,
    Member,
    OpaqueType,
    ReferenceType,
    SequenceType,
    StringPadding,
    StringType,
    TimeType,
)
from h5fs.projection.json.datatype_terms import (
    BIT_PADDINGS,
    BYTE_ORDERS,
    CHARACTER_SETS,
    FLOAT_FIELDS,
    NORMALISATIONS,
    REFERENCE_BASES,
    REFERENCE_SIZES,
    STRING_PADDINGS,
    VARIABLE,
)
from h5fs.projection.json.numpy_spelling import numpy_spelling, parse_descr, parse_dtype
from h5fs.projection.json.strict_json import (
    JsonValue,
    name_to_text,
    show_value,
    text_to_name,
    write_indented,
)

_Term = TypeVar("_Term", bound=Enum)

_MESSAGE_BYTES: Final = (1 << 16) - 1
_LEAST_MEMBER_BYTES: Final = 10  # of a compound: the name's null, an offset, a datatype message


def datatype_to_json(datatype: Datatype) -> JsonValue:
    """Return the JSON value that describes a datatype, the short form where there is one."""
    short = numpy_spelling(datatype)
    return short if short is not None else _class_object(datatype)


def datatype_from_json(value: JsonValue) -> Datatype:
    """Return the datatype that a JSON value describes.

    Raises ``InvalidAttributesError`` when it describes none, or one that HDF5 cannot have.
    """
    datatype = _parse(value, 0)
    try:
        check_datatype(datatype)
    except ValueError as error:
        raise InvalidAttributesError(str(error)) from error
    return datatype


def check_new_datatype(datatype: Datatype) -> None:
    """Refuse types that the library would not make, although damaged files have them.

    Raises ``InvalidAttributesError`` for members of the same name, and ``AttributeTooLargeError``
    for more members than a header message has room for: the library would take minutes to find out.
    """
    if isinstance(datatype, ArrayType | SequenceType | ComplexType):
        check_new_datatype(datatype.base)
        return
    if not isinstance(datatype, CompoundType | EnumType):
        return
    if isinstance(datatype, EnumType):
        names = [name for name, _ in datatype.members]
        each = 1 + datatype.base.bits.size_bytes
    else:
        names = [member.name for member in datatype.members]
        each = _LEAST_MEMBER_BYTES
        for member in datatype.members:
            check_new_datatype(member.type)
        if len(set(names)) < len(names):
            raise InvalidAttributesError("two members of a compound have one name")
    if sum(map(len, names)) + each * len(names) > _MESSAGE_BYTES:
        raise AttributeTooLargeError(f"a datatype of {len(names)} members: more than 64 KiB")


def datatype_document(datatype: Datatype) -> bytes:
    """Return the content of a ``.dtype.json`` file: UTF-8 JSON, two-space indent."""
    return (write_indented(datatype_to_json(datatype)) + "\n").encode()


def _class_object(datatype: Datatype) -> JsonValue:
    if isinstance(datatype, IntegerType):
        return {"class": "H5T_INTEGER", **_bits_to_json(datatype.bits), "signed": datatype.signed}
    if isinstance(datatype, BitfieldType):
        return {"class": "H5T_BITFIELD", **_bits_to_json(datatype.bits)}
    if isinstance(datatype, FloatType):
        return {
            "class": "H5T_FLOAT",
            **_bits_to_json(datatype.bits),
            **{key: getattr(datatype, field) for key, field in FLOAT_FIELDS},
            "normalization": NORMALISATIONS[datatype.normalisation],
            "innerPadding": BIT_PADDINGS[datatype.inner_padding],
        }
    if isinstance(datatype, StringType):
        value = {
            "class": "H5T_STRING",
            "charSet": CHARACTER_SETS[datatype.charset],
            "strPad": STRING_PADDINGS[datatype.padding],
            "length": VARIABLE if datatype.size_bytes is None else datatype.size_bytes,
        }
        is_usual = datatype.order is ByteOrder.LITTLE
        return value if is_usual else {**value, "order": BYTE_ORDERS[datatype.order]}
    if isinstance(datatype, OpaqueType):
        tag = name_to_text(datatype.tag)
        return {"class": "H5T_OPAQUE", "size": datatype.size_bytes, "tag": tag}
    if isinstance(datatype, ReferenceType):
        value = {"class": "H5T_REFERENCE", "base": REFERENCE_BASES[datatype.kind]}
        is_usual = datatype.size_bytes == REFERENCE_SIZES[datatype.kind]
        return value if is_usual else {**value, "size": datatype.size_bytes}
    if isinstance(datatype, TimeType):
        order = BYTE_ORDERS[datatype.order]
        size, precision = datatype.size_bytes, datatype.precision
        return {"class": "H5T_TIME", "size": size, "order": order, "precision": precision}
    return _composite_object(datatype)


def _composite_object(datatype: Datatype) -> JsonValue:
    if isinstance(datatype, EnumType):
        names = [name_to_text(name) for name, _ in datatype.members]
        values = [value for _, value in datatype.members]
        pairs = list(zip(names, values, strict=True))
        is_unique = len(set(names)) == len(names)
        mapping = dict(pairs) if is_unique else [list(pair) for pair in pairs]
        base = datatype_to_json(datatype.base)
        return {"class": "H5T_ENUM", "base": base, "mapping": mapping}
    if isinstance(datatype, CompoundType):
        fields = [
            {
                "name": name_to_text(member.name),
                "offset": member.offset,
                "type": datatype_to_json(member.type),
            }
            for member in datatype.members
        ]
        return {"class": "H5T_COMPOUND", "size": datatype.size_bytes, "fields": fields}
    if isinstance(datatype, ArrayType):
        base = datatype_to_json(datatype.base)
        return {"class": "H5T_ARRAY", "base": base, "dims": list(datatype.shape)}
    if isinstance(datatype, SequenceType):
        return {"class": "H5T_VLEN", "base": datatype_to_json(datatype.base)}
    if isinstance(datatype, ComplexType):
        base = datatype_to_json(datatype.base)
        return {"class": "H5T_COMPLEX", "size": datatype.size_bytes, "base": base}
    raise TypeError(f"{datatype!r} is no datatype")


def _bits_to_json(bits: BitLayout) -> dict[str, JsonValue]:
    return {
        "size": bits.size_bytes,
        "order": BYTE_ORDERS[bits.order],
        "precision": bits.precision,
        "offset": bits.offset,
        "lsbPadding": BIT_PADDINGS[bits.lsb_padding],
        "msbPadding": BIT_PADDINGS[bits.msb_padding],
    }


def _parse(value: JsonValue, depth: int) -> Datatype:
    if depth > MAX_DEPTH:
        raise InvalidAttributesError(f"datatype nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return parse_dtype(value)
    if isinstance(value, list):
        return parse_descr(value, depth)
    if not isinstance(value, dict):
        raise InvalidAttributesError(f"not a datatype: {show_value(value)}")
    fields = _Fields(value)
    type_class = fields.take("class")
    parse = _PARSERS.get(type_class) if isinstance(type_class, str) else None
    if parse is None:
        raise InvalidAttributesError(f"unknown datatype class {show_value(type_class)}")
    datatype = parse(fields, depth)
    fields.check_all_taken()
    return datatype


class _Fields:
    """The keys of a class object. Every key must be taken by the parser of its class."""

    def __init__(self, value: Mapping[str, JsonValue]) -> None:
        self._left = dict(value)

    def take(self, key: str, default: JsonValue = None) -> JsonValue:
        """Return the value of a key, or ``default``; refuse the object when both are missing."""
        value = self._left.pop(key, default)
        if value is None:
            raise InvalidAttributesError(f"datatype without {key!r}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the value of a key, an integer not below 0 of at most 32 bits."""
        value = self.take(key, default)
        if type(value) is not int or not 0 <= value < 1 << 32:
            raise InvalidAttributesError(f"{key!r} of a datatype: {show_value(value)}")
        return value

    def length(self) -> int | None:
        """Return the length of a string in bytes, None when it is variable."""
        if self._left.get("length") == VARIABLE:
            del self._left["length"]
            return None
        return self.integer("length")

    def term(self, key: str, terms: Mapping[_Term, str], default: _Term | None = None) -> _Term:
        """Return the value that HDF5's term under a key stands for."""
        value = self.take(key, terms[default] if default is not None else None)
        for member, term in terms.items():
            if term == value:
                return member
        raise InvalidAttributesError(f"{key!r} of a datatype: {show_value(value)}")

    def sequence(self, key: str) -> list[JsonValue]:
        """Return the value of a key, a list."""
        value = self.take(key)
        if not isinstance(value, list):
            raise InvalidAttributesError(f"{key!r} of a datatype is not a list")
        return value

    def check_all_taken(self) -> None:
        """Refuse keys that nobody has taken: a misspelled key must not be ignored."""
        if self._left:
            keys = show_value(sorted(self._left))
            raise InvalidAttributesError(f"unknown keys in a datatype: {keys}")


def _parse_bits(fields: _Fields) -> BitLayout:
    size = fields.integer("size")
    return BitLayout(
        size,
        fields.term("order", BYTE_ORDERS),
        fields.integer("precision", 8 * size),
        fields.integer("offset", 0),
        fields.term("lsbPadding", BIT_PADDINGS, BitPadding.ZERO),
        fields.term("msbPadding", BIT_PADDINGS, BitPadding.ZERO),
    )


def _parse_integer(fields: _Fields, _: int) -> Datatype:
    signed = fields.take("signed")
    if not isinstance(signed, bool):
        raise InvalidAttributesError("'signed' of a datatype is neither true nor false")
    return IntegerType(_parse_bits(fields), signed)


def _parse_bitfield(fields: _Fields, _: int) -> Datatype:
    return BitfieldType(_parse_bits(fields))


def _parse_float(fields: _Fields, _: int) -> Datatype:
    return FloatType(
        bits=_parse_bits(fields),
        **{field: fields.integer(key) for key, field in FLOAT_FIELDS},
        normalisation=fields.term("normalization", NORMALISATIONS),
        inner_padding=fields.term("innerPadding", BIT_PADDINGS, BitPadding.ZERO),
    )


def _parse_string(fields: _Fields, _: int) -> Datatype:
    return StringType(
        fields.length(),
        fields.term("strPad", STRING_PADDINGS, StringPadding.NULL_TERMINATED),
        fields.term("charSet", CHARACTER_SETS, CharacterSet.UTF8),
        fields.term("order", BYTE_ORDERS, ByteOrder.LITTLE),
    )


def _parse_opaque(fields: _Fields, _: int) -> Datatype:
    tag = fields.take("tag", "")
    if not isinstance(tag, str):
        raise InvalidAttributesError("'tag' of a datatype is not a string")
    return OpaqueType(fields.integer("size"), text_to_name(tag))


def _parse_reference(fields: _Fields, _: int) -> Datatype:
    kind = fields.term("base", REFERENCE_BASES)
    return ReferenceType(fields.integer("size", REFERENCE_SIZES[kind]), kind)


def _parse_time(fields: _Fields, _: int) -> Datatype:
    size = fields.integer("size")
    precision = fields.integer("precision", 8 * size)
    return TimeType(size, fields.term("order", BYTE_ORDERS), precision)


def _parse_enum(fields: _Fields, depth: int) -> Datatype:
    base = _parse(fields.take("base"), depth + 1)
    if not isinstance(base, IntegerType):
        raise InvalidAttributesError("the base of an enumeration is not an integer")
    mapping = fields.take("mapping")
    pairs = list(mapping.items()) if isinstance(mapping, dict) else mapping
    members = []
    for pair in pairs if isinstance(pairs, list) else [None]:
        if not isinstance(pair, list | tuple) or [type(item) for item in pair] != [str, int]:
            raise InvalidAttributesError("the mapping of an enumeration is not name to integer")
        members.append((text_to_name(pair[0]), pair[1]))
    return EnumType(base, tuple(members))


def _parse_compound(fields: _Fields, depth: int) -> Datatype:
    members = []
    for item in fields.sequence("fields"):
        if not isinstance(item, dict):
            raise InvalidAttributesError("a field of a compound is not an object")
        field = _Fields(item)
        name = field.take("name")
        if not isinstance(name, str):
            raise InvalidAttributesError("the name of a field is not a string")
        member_type = _parse(field.take("type"), depth + 1)
        members.append(Member(text_to_name(name), field.integer("offset"), member_type))
        field.check_all_taken()
    return CompoundType(fields.integer("size"), tuple(members))


def _parse_array(fields: _Fields, depth: int) -> Datatype:
    dims = fields.sequence("dims")
    if not all(type(size) is int for size in dims):
        raise InvalidAttributesError("'dims' of an array are not integers")
    return ArrayType(_parse(fields.take("base"), depth + 1), tuple(dims))


def _parse_sequence(fields: _Fields, depth: int) -> Datatype:
    return SequenceType(_parse(fields.take("base"), depth + 1))


def _parse_complex(fields: _Fields, depth: int) -> Datatype:
    return ComplexType(fields.integer("size"), _parse(fields.take("base"), depth + 1))


_PARSERS: Final[Mapping[str, Callable[[_Fields, int], Datatype]]] = {
    "H5T_INTEGER": _parse_integer,
    "H5T_BITFIELD": _parse_bitfield,
    "H5T_FLOAT": _parse_float,
    "H5T_STRING": _parse_string,
    "H5T_OPAQUE": _parse_opaque,
    "H5T_REFERENCE": _parse_reference,
    "H5T_TIME": _parse_time,
    "H5T_ENUM": _parse_enum,
    "H5T_COMPOUND": _parse_compound,
    "H5T_ARRAY": _parse_array,
    "H5T_VLEN": _parse_sequence,
    "H5T_COMPLEX": _parse_complex,
}

"""Strategies for HDF5 datatypes of every class and for attributes of them.

Elements are as `h5fs.model.objects.Element` defines them, with padding bits as the type says.
"""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

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
    Normalisation,
    OpaqueType,
    ReferenceKind,
    ReferenceType,
    SequenceType,
    StringPadding,
    StringType,
    TimeType,
    size_in_memory,
)
from h5fs.model.objects import Attribute, Element, RegionTarget, UnnamedTarget
from h5fs.projection.json.numpy_spelling import (
    BOOLEAN,
    complex_compound,
    standard_float,
    standard_integer,
)

OBJECT_PATHS = (b"/", b"/group", b"/group/data", b"/latin-\xe9", b"/50%41")
DATASET_PATH = b"/group/data"
DATASET_SHAPE = (4, 6)
"""What references may lead to; a test that needs a file makes these objects in it."""

X87 = FloatType(BitLayout(16, ByteOrder.LITTLE, 80), 79, 64, 15, 16383, 0, 64, Normalisation.NONE)
QUAD = FloatType(
    BitLayout(16, ByteOrder.BIG, 128), 127, 112, 15, 16383, 0, 112, Normalisation.IMPLIED
)
VAX_F = FloatType(BitLayout(4, ByteOrder.VAX, 32), 31, 23, 8, 129, 0, 23, Normalisation.IMPLIED)

orders = st.sampled_from([ByteOrder.LITTLE, ByteOrder.BIG])
bit_paddings = st.sampled_from([BitPadding.ZERO, BitPadding.ONE])
float_sizes = st.sampled_from([2, 4, 8])
# Names as HDF5 allows them: any bytes but the null one, UTF-8 or not.
names = st.one_of(
    st.sampled_from([b"a/b", b"line\nbreak", b"$types", b"$$", b"\xff\xfe", b"%41", b"0x00", b" "]),
    st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name),
    st.text(min_size=1, max_size=6)
    .map(lambda t: t.encode("utf-8", "replace"))
    .filter(lambda name: b"\0" not in name),
)


@st.composite
def bit_layouts(draw: st.DrawFn) -> BitLayout:
    size = draw(st.integers(1, 10))
    precision = draw(st.integers(1, 8 * size))
    return BitLayout(
        size,
        draw(orders),
        precision,
        draw(st.integers(0, 8 * size - precision)),
        draw(bit_paddings),
        draw(bit_paddings),
    )


standard_integers = st.builds(
    lambda size, order, signed: standard_integer(size, order, signed=signed),
    st.sampled_from([1, 2, 4, 8]),
    orders,
    st.booleans(),
)
integers = st.one_of(standard_integers, st.builds(IntegerType, bit_layouts(), st.booleans()))


@st.composite
def odd_floats(draw: st.DrawFn) -> FloatType:
    """Floats of a layout of their own: the fields in any order, with bits between them."""
    widths = {
        "mantissa": draw(st.integers(1, 70)),
        "exponent": draw(st.integers(2, 17)),
        "sign": 1,
    }
    position = draw(st.integers(0, 3))
    start = {}
    for field in draw(st.permutations(sorted(widths))):
        position += draw(st.integers(0, 3))
        start[field] = position
        position += widths[field]
    size = (position + draw(st.integers(0, 12)) + 7) // 8
    normalisation = draw(st.sampled_from(list(Normalisation)))
    return FloatType(
        BitLayout(size, draw(orders), 8 * size, 0, draw(bit_paddings), draw(bit_paddings)),
        start["sign"],
        start["exponent"],
        widths["exponent"],
        draw(st.integers(0, 2 ** widths["exponent"] - 1)),
        start["mantissa"],
        widths["mantissa"],
        normalisation,
        draw(bit_paddings),
    )


standard_floats = st.builds(standard_float, float_sizes, orders)
floats = st.one_of(standard_floats, st.sampled_from([X87, QUAD, VAX_F]), odd_floats())
strings = st.builds(
    StringType,
    st.none() | st.integers(1, 12),
    st.sampled_from(list(StringPadding)),
    st.sampled_from(list(CharacterSet)),
) | st.just(StringType(None, StringPadding.NULL_PADDED, CharacterSet.UTF8, ByteOrder.BIG))
opaques = st.builds(
    OpaqueType, st.integers(1, 12), st.sampled_from([b"", b"tag", b"eight888", b"\xff tag"])
) | st.builds(
    OpaqueType,
    st.just(8),
    st.sampled_from([b"NUMPY:<M8[ns]", b"NUMPY:>M8[D]", b"NUMPY:<m8[25s]", b"NUMPY:<M8"]),
)
times = st.builds(
    lambda size, order: TimeType(size, order, 8 * size), st.sampled_from([4, 8]), orders
)
references = st.sampled_from(
    [ReferenceType(8, ReferenceKind.OBJECT), ReferenceType(12, ReferenceKind.REGION)]
)


@st.composite
def enums(draw: st.DrawFn) -> EnumType:
    base = draw(integers)
    most = min(4, 2**base.bits.precision)
    members = st.lists(
        st.tuples(names, integer_elements(base).map(base.value)),
        min_size=1,
        max_size=most,
        unique_by=(lambda member: member[0], lambda member: member[1]),
    )
    return EnumType(base, tuple(draw(members)))


def integer_elements(datatype: IntegerType) -> st.SearchStrategy[bytes]:
    return st.integers(0, 2**datatype.bits.precision - 1).map(datatype.bits.stored)


simple_datatypes = st.one_of(
    integers,
    st.builds(BitfieldType, bit_layouts()),
    floats,
    strings,
    opaques,
    times,
    references,
    enums(),
    st.just(BOOLEAN),
    standard_floats.map(complex_compound),
    floats.map(lambda base: ComplexType(2 * base.bits.size_bytes, base)),
)


@st.composite
def compounds(draw: st.DrawFn, types: st.SearchStrategy[Datatype]) -> CompoundType:
    """Compounds with padding anywhere and members in any order."""
    member_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    members = []
    offset = 0
    is_padded = draw(st.booleans())
    for name in member_names:
        offset += draw(st.integers(0, 5)) if is_padded else 0
        member_type = draw(types)
        members.append(Member(name, offset, member_type))
        offset += size_in_memory(member_type)
    size = offset + (draw(st.integers(0, 5)) if is_padded else 0)
    order = draw(st.permutations(members)) if is_padded else members
    return CompoundType(size, tuple(order))


def _composites(types: st.SearchStrategy[Datatype]) -> st.SearchStrategy[Datatype]:
    shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
    return st.one_of(
        compounds(types), st.builds(ArrayType, types, shapes), st.builds(SequenceType, types)
    )


datatypes: st.SearchStrategy[Datatype] = st.recursive(simple_datatypes, _composites, max_leaves=5)


def elements_of(datatype: Datatype) -> st.SearchStrategy[Element]:
    """Elements of a type."""
    if isinstance(datatype, IntegerType | BitfieldType):
        return st.integers(0, 2**datatype.bits.precision - 1).map(datatype.bits.stored)
    if isinstance(datatype, EnumType):
        known = [datatype.base.stored(value) for _, value in datatype.members]
        anything = integer_elements(datatype.base)
        return st.sampled_from(known) | anything if known else anything
    if isinstance(datatype, FloatType):
        return _float_elements(datatype)
    if isinstance(datatype, ComplexType):
        part = elements_of(datatype.base)
        return st.tuples(part, part).map(b"".join)
    if isinstance(datatype, StringType):
        return _string_elements(datatype)
    if isinstance(datatype, OpaqueType | TimeType):
        return st.binary(min_size=datatype.size_bytes, max_size=datatype.size_bytes)
    if isinstance(datatype, CompoundType):
        return st.tuples(*(elements_of(member.type) for member in datatype.members))
    if isinstance(datatype, ArrayType):
        length = math.prod(datatype.shape)
        return st.lists(elements_of(datatype.base), min_size=length, max_size=length).map(tuple)
    if isinstance(datatype, SequenceType):
        return st.lists(elements_of(datatype.base), max_size=3).map(tuple)
    if datatype.kind is ReferenceKind.OBJECT:
        return st.none() | st.sampled_from([*OBJECT_PATHS, UnnamedTarget(2**63)])
    return st.none() | regions()


def _float_elements(datatype: FloatType) -> st.SearchStrategy[bytes]:
    bits = st.integers(0, 2**datatype.bits.precision - 1).map(datatype.bits.stored)
    if datatype == standard_float(8, datatype.bits.order):
        return bits | st.floats().map(lambda x: _pack(x, datatype))
    ones = 2**datatype.exponent_size - 1 << datatype.exponent_position
    special = st.integers(0, 3).map(
        lambda low: datatype.bits.stored((ones | low) & 2**datatype.bits.precision - 1)
    )
    return bits | special


def _pack(number: float, datatype: FloatType) -> bytes:
    import struct

    return struct.pack("<d" if datatype.bits.order is ByteOrder.LITTLE else ">d", number)


def _string_elements(datatype: StringType) -> st.SearchStrategy[bytes | None]:
    if datatype.size_bytes is None:
        text = st.text(max_size=8).map(lambda t: t.encode("utf-8", "replace"))
        anything = (st.binary(max_size=8) | text).map(lambda s: s.replace(b"\0", b""))
        return st.none() | anything
    size = datatype.size_bytes
    text = st.text(max_size=size).map(lambda t: t.encode("utf-8", "replace")[:size])
    padded = st.tuples(text, st.sampled_from([b"\0", b" "])).map(lambda p: p[0].ljust(size, p[1]))
    return padded | st.binary(min_size=size, max_size=size)


@st.composite
def regions(draw: st.DrawFn) -> RegionTarget:
    """Selections in the dataset at DATASET_PATH."""
    kind = draw(st.sampled_from(["everything", "nothing", "points", "block"]))
    if kind == "everything":
        return RegionTarget(DATASET_PATH, everything=True)
    if kind == "nothing":
        return RegionTarget(DATASET_PATH)
    point = st.tuples(*(st.integers(0, size - 1) for size in DATASET_SHAPE))
    if kind == "points":
        return RegionTarget(DATASET_PATH, points=tuple(draw(st.lists(point, min_size=1))))
    start, last = draw(point), draw(point)
    low = tuple(map(min, start, last))
    high = tuple(max(a, b) + 1 for a, b in zip(start, last, strict=True))
    return RegionTarget(DATASET_PATH, blocks=((low, high),))


shapes = st.none() | st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def attributes(draw: st.DrawFn, types: st.SearchStrategy[Any] = datatypes) -> Attribute:
    """Attributes of any type, shape and name."""
    datatype = draw(types)
    shape = draw(shapes)
    count = 0 if shape is None else math.prod(shape)
    elements = draw(st.lists(elements_of(datatype), min_size=count, max_size=count))
    return Attribute(draw(names), datatype, shape, tuple(elements))


@st.composite
def attribute_sets(draw: st.DrawFn) -> tuple[Attribute, ...]:
    """Attributes of one object: their names differ."""
    found = draw(st.lists(attributes(), max_size=4, unique_by=lambda attribute: attribute.name))
    return tuple(found)

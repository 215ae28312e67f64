"""Elements of the simple HDF5 types as JSON values, to the bit, and back. Pure.

- Integers and bitfields: the integer. Floats: the shortest decimal that reads back to the same
  value; "NaN", "Infinity", "-Infinity" and "-NaN" (the quiet NaN with its sign set). A NaN with a
  payload keeps its bits: "NaN(0x7ff8000000000001)".
- Numbers that none of these can show (a float whose layout has no decimals, a pseudo-denormal, an
  integer of more than 4096 bits): the bits, "0x" and two hex digits a byte, the most significant
  byte first. A program may write any number in this way.
- Enumerations: the member's name, or the integer where no name says it; h5py's boolean is true or
  false. Opaque: base64; with numpy's tag for dates, ISO 8601 (or the count of units since 1970),
  with that for durations the count of units.

Bits outside of a number's precision are padding, not data: they are filled as the type says.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np

from h5fs.errors import InvalidAttributesError
from h5fs.model.datatypes import (
    BitfieldType,
    BitLayout,
    EnumType,
    FloatType,
    IntegerType,
    OpaqueType,
    TimeType,
)
from h5fs.projection.json.floats import INFINITY, NAN, is_nan, read_float, store_float
from h5fs.projection.json.numpy_spelling import is_boolean, numpy_spelling
from h5fs.projection.json.strict_json import JsonValue, name_to_text, show_value
from h5fs.projection.json.strings import bytes_from_base64

SPECIAL_FLOATS: Final = (NAN, f"-{NAN}", INFINITY, f"-{INFINITY}")

_MAX_INTEGER_BITS: Final = 4096
_BITS: Final = re.compile(r"0x([0-9a-f]+)|NaN\(0x([0-9a-f]+)\)")
# As h5py.opaque_dtype() writes it.
_TIME_TAG: Final = re.compile(rb"NUMPY:([<>][Mm]8(?:\[[0-9]{0,9}[a-zA-Z]{1,2}\])?)")
_DATE: Final = re.compile(
    r"NaT|-?[0-9]{4,18}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,18})?)?)?)?)?)?"
)


def integers_to_json(elements: Sequence[bytes], datatype: IntegerType) -> list[JsonValue]:
    """Return integers."""
    if datatype.bits.precision > _MAX_INTEGER_BITS:
        return [_bits_to_text(element, datatype.bits) for element in elements]
    return [datatype.value(element) for element in elements]


def integer_from_json(value: JsonValue, datatype: IntegerType) -> bytes:
    """Return an integer as stored. Raises ``InvalidAttributesError``, as each ``..._from_json``."""
    if isinstance(value, str):
        return _bits_from_text(value, datatype.bits, "an integer")
    try:
        return datatype.stored(_integer(value))
    except OverflowError as error:
        raise InvalidAttributesError(str(error)) from error


def as_integer(datatype: BitfieldType | TimeType) -> IntegerType:
    """Return the integer type that shows a bitfield (unsigned) or a time (signed)."""
    if isinstance(datatype, BitfieldType):
        return IntegerType(datatype.bits, signed=False)
    bits = BitLayout(datatype.size_bytes, datatype.order, 8 * datatype.size_bytes)
    return IntegerType(bits, signed=True)


def floats_to_json(elements: Sequence[bytes], datatype: FloatType) -> list[JsonValue]:
    """Return floats, Decimals or the names of special values."""
    spelling = numpy_spelling(datatype)
    if spelling is None:
        return [_float_to_json(element, datatype) for element in elements]
    array = np.frombuffer(b"".join(elements), spelling)
    if array.itemsize < 8:
        # The double is read from the shortest decimal of the narrower float: so it prints the same.
        values: list[JsonValue] = [float(str(number)) for number in array]
    else:
        values = array.tolist()
    for index in (~np.isfinite(array)).nonzero()[0].tolist():
        values[index] = _float_to_json(elements[index], datatype)
    return values


def floats_from_json(values: Sequence[JsonValue], datatype: FloatType) -> list[bytes]:
    """Return the nearest floats as stored. Raises ``InvalidAttributesError``."""
    is_double = numpy_spelling(datatype) in ("<f8", ">f8")
    elements = []
    for value in values:
        try:
            if isinstance(value, str):
                elements.append(_special_from_text(value, datatype))
            elif is_double:
                elements.append(_pack_double(_decimal(value), datatype.bits))
            else:
                elements.append(store_float(_decimal(value), datatype))
        except OverflowError as error:
            raise InvalidAttributesError(str(error)) from error
    return elements


def enums_to_json(elements: Sequence[bytes], datatype: EnumType) -> list[JsonValue]:
    """Return the names of members, or integers."""
    names: dict[int, JsonValue] = {}
    if is_boolean(datatype):
        names = {0: False, 1: True}
    else:
        unique = {value: text for text, value in _values_by_text(datatype).items()}
        names = {value: text for value, text in unique.items() if not _BITS.fullmatch(text)}
    values = integers_to_json(elements, datatype.base)
    return [names.get(value, value) for value in values]


def enums_from_json(values: Sequence[JsonValue], datatype: EnumType) -> list[bytes]:
    """Return an enumeration's values as stored. Raises ``InvalidAttributesError``."""
    by_text = _values_by_text(datatype)
    elements = []
    for shown in values:
        value = shown
        if isinstance(shown, bool) and is_boolean(datatype):
            value = int(shown)
        elif isinstance(shown, str) and not _BITS.fullmatch(shown):
            if shown not in by_text:
                raise InvalidAttributesError(f"no member {show_value(shown)} in the enumeration")
            value = by_text[shown]
        elements.append(integer_from_json(value, datatype.base))
    return elements


def _values_by_text(datatype: EnumType) -> dict[str, int]:
    # Only a damaged file has two members of one name; the name then means the first of them.
    return {name_to_text(name): value for name, value in reversed(datatype.members)}


def opaque_to_json(element: bytes, datatype: OpaqueType) -> JsonValue:
    """Return base64; with numpy's tag for dates and durations a date or a count of units."""
    dtype = _numpy_time(datatype)
    if dtype is None:
        return base64.b64encode(element).decode("ascii")
    count = int.from_bytes(element, "big" if dtype.str[0] == ">" else "little", signed=True)
    if dtype.kind == "M":
        text = _date_to_text(element, dtype)
        if text is not None and _date_from_text(text, dtype) == element:
            return text
    return count


def opaque_from_json(value: JsonValue, datatype: OpaqueType) -> bytes:
    """Return opaque bytes as stored. Raises ``InvalidAttributesError``."""
    dtype = _numpy_time(datatype)
    if isinstance(value, str) and dtype is not None and dtype.kind == "M":
        element = _date_from_text(value, dtype)
    elif isinstance(value, str) and dtype is None:
        element = bytes_from_base64(value)
    elif dtype is not None:
        try:
            order: Any = "big" if dtype.str[0] == ">" else "little"
            element = _integer(value).to_bytes(8, order, signed=True)
        except OverflowError as error:
            raise InvalidAttributesError(f"{show_value(value)} does not fit 64 bits") from error
    else:
        raise InvalidAttributesError(f"not base64: {show_value(value)}")
    if element is None or len(element) != datatype.size_bytes:
        raise InvalidAttributesError(f"not {datatype.size_bytes} opaque bytes: {show_value(value)}")
    return element


def _integer(value: JsonValue) -> int:
    # 2.0 and 2e3 are integers too. Exponents beyond 5000 are refused: 10**(10**6) takes too long.
    if isinstance(value, Decimal) and -5000 < value.adjusted() < 5000 and value == int(value):
        return int(value)
    if type(value) is not int:
        raise InvalidAttributesError(f"not an integer: {show_value(value)}")
    return value


def _decimal(value: JsonValue) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if type(value) is not int:
        raise InvalidAttributesError(f"not a number: {show_value(value)}")
    return Decimal(value)


def _special_from_text(text: str, datatype: FloatType) -> bytes:
    if text in SPECIAL_FLOATS:
        return store_float(text, datatype)
    return _bits_from_text(text, datatype.bits, "a number")


def _pack_double(number: Decimal, bits: BitLayout) -> bytes:
    nearest = float(number)  # Python's conversion is correctly rounded, and much faster than ours
    if math.isinf(nearest):
        raise OverflowError(f"{number} is beyond the largest number")
    return bits.swapped(struct.pack("<d", nearest))


def _float_to_json(element: bytes, datatype: FloatType) -> JsonValue:
    value = read_float(element, datatype)
    if value is not None:
        return value
    bits = _bits_to_text(element, datatype.bits)
    return f"NaN({bits})" if is_nan(element, datatype) else bits


def _bits_to_text(element: bytes, bits: BitLayout) -> str:
    return "0x" + bits.swapped(element)[::-1].hex()


def _bits_from_text(text: str, bits: BitLayout, kind: str) -> bytes:
    match = _BITS.fullmatch(text)
    digits = (match[1] or match[2]) if match else ""
    if len(digits) != 2 * bits.size_bytes:
        size = bits.size_bytes
        raise InvalidAttributesError(
            f"neither {kind} nor the {size} bytes of one (0x...): {show_value(text)}"
        )
    return bits.swapped(bytes.fromhex(digits)[::-1])


def _numpy_time(datatype: OpaqueType) -> np.dtype[Any] | None:
    match = _TIME_TAG.fullmatch(datatype.tag)
    if match is None or datatype.size_bytes != 8:
        return None
    try:
        return np.dtype(match[1].decode("ascii"))
    except TypeError:  # a unit that numpy does not know
        return None


def _date_to_text(element: bytes, dtype: np.dtype[Any]) -> str | None:
    try:
        return str(np.datetime_as_string(np.frombuffer(element, dtype))[0])
    except (ValueError, OverflowError):  # a date without a unit, or too far away for a calendar
        return None


def _date_from_text(text: str, dtype: np.dtype[Any]) -> bytes | None:
    """Return a date of that type; None for text that is no date, or a date the type cannot hold.

    numpy would not say: it overflows its 64 bits, and drops what is finer than the unit.
    """
    if not _DATE.fullmatch(text):
        return None
    if text == "NaT":
        return np.array([text], dtype).tobytes()
    if np.datetime_data(dtype)[0] == "generic":
        return None
    try:
        given = np.array([text], "M8")
        spelled = str(np.datetime_as_string(given)[0])
        stored = given.astype(dtype)
        is_exact = stored.astype(given.dtype) == given
    except (ValueError, OverflowError):
        return None
    if text.startswith("-"):  # numpy writes such years without leading zeros
        text = "-" + text[1:].lstrip("0")
    is_read = spelled.startswith(text) and not spelled[len(text) :].strip("0")
    return stored.tobytes() if is_read and is_exact[0] else None

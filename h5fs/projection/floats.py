"""Floating-point bits of any layout, to exact decimals and back. Pure: no I/O, no h5py.

Integer arithmetic throughout: what numpy has no type for (80-bit long double, IEEE quad, bfloat16,
float8, VAX) comes out as the shortest decimal that reads back to the same bits. As in the library's
own conversions, an exponent of all ones means infinity or NaN; VAX has neither, nor subnormals.
A mantissa that is not normalised (as HDF5 says of the 80-bit long double of x86) is read like one
whose first bit is always set: that bit stands before the binary point.
Layouts: HDF5 File Format Specification, section IV.A.2.d, floating-point numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from typing import Final

from h5fs.datatypes import BitPadding, ByteOrder, FloatType, Normalisation

INFINITY: Final = "Infinity"
NAN: Final = "NaN"

_MAX_EXPONENT_BITS: Final = 16
_MAX_MANTISSA_BITS: Final = 256
# No number of such an exponent reaches 10**20000, and none but zero is below 10**-20100.
_MAX_DECIMAL_EXPONENT: Final = 40_000
_LOG10_2: Final = math.log10(2)


def has_decimals(datatype: FloatType) -> bool:
    """Tell whether decimals of a sensible length can say the numbers of a type."""
    return (
        datatype.exponent_size <= _MAX_EXPONENT_BITS
        and datatype.mantissa_size <= _MAX_MANTISSA_BITS
        and datatype.exponent_bias < 1 << _MAX_EXPONENT_BITS
    )


def read_float(stored: bytes, datatype: FloatType) -> Decimal | str | None:
    """Return the number in ``stored``: a decimal, or "NaN" or "Infinity", with "-" when negative.

    None when ``store_float`` makes the same significant bits of none of these, as with a NaN's
    payload.
    """
    if not has_decimals(datatype):
        return None
    significant = datatype.bits.significant(stored)
    for candidate in _readings(stored, datatype):
        try:
            if datatype.bits.significant(store_float(candidate, datatype)) == significant:
                return candidate
        except OverflowError:
            continue  # rounded up beyond the largest number
    return None


def store_float(value: Decimal | str, datatype: FloatType) -> bytes:
    """Return the nearest number of a type (ties to even), or what a special value's name says.

    Raises ``OverflowError`` when the type cannot hold it.
    """
    if not has_decimals(datatype):
        raise OverflowError("a floating-point type without decimals")
    if isinstance(value, str):
        return _store_special(value, datatype)
    exponent, mantissa = _round(value, datatype)
    return _join(value.is_signed(), exponent, mantissa, datatype)


def is_nan(stored: bytes, datatype: FloatType) -> bool:
    """Tell whether the bits are those of a NaN, with or without a payload."""
    readings = list(_readings(stored, datatype)) if has_decimals(datatype) else []
    if f"{NAN}" not in readings and f"-{NAN}" not in readings:
        return False
    infinities = (store_float(sign + INFINITY, datatype) for sign in ("", "-"))
    significant = datatype.bits.significant
    return significant(stored) not in map(significant, infinities)


def _readings(stored: bytes, datatype: FloatType) -> Iterator[Decimal | str]:
    whole = datatype.bits.significant(stored) << datatype.bits.offset
    is_negative = bool(whole >> datatype.sign_position & 1)
    exponent = whole >> datatype.exponent_position & _ones(datatype.exponent_size)
    mantissa = whole >> datatype.mantissa_position & _ones(datatype.mantissa_size)
    if _has_specials(datatype) and exponent == _ones(datatype.exponent_size):
        sign = "-" if is_negative else ""
        yield from (sign + INFINITY, sign + NAN)
        return
    if datatype.normalisation is Normalisation.IMPLIED and exponent:
        mantissa |= 1 << datatype.mantissa_size
    unit = _smallest_unit(datatype) + max(exponent - 1, 0)
    for decimal in _decimals(mantissa, unit):
        yield decimal.copy_negate() if is_negative else decimal


def _decimals(significand: int, unit: int) -> Iterator[Decimal]:
    """Yield ``significand * 2**unit`` rounded to ever more digits, until it must be exact."""
    if not significand:
        yield Decimal(0)
        return
    value = Fraction(significand) * Fraction(2) ** unit
    bits = significand.bit_length()
    # Fewer digits than the first always come back from it, more than the last are never needed.
    first, last = max(int((bits - 2) * _LOG10_2), 1), int(bits * _LOG10_2) + 2
    for digits in range(first, last + 1):
        context = Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)
        rounded = context.divide(Decimal(value.numerator), Decimal(value.denominator))
        shortest = rounded.normalize(context)
        is_short_integer = 0 <= shortest.adjusted() < 16 and shortest == int(shortest)
        yield Decimal(int(shortest)) if is_short_integer else shortest


def _round(value: Decimal, datatype: FloatType) -> tuple[int, int]:
    """Return exponent and mantissa fields of the nearest number to the magnitude of ``value``."""
    if not value or value.adjusted() < -_MAX_DECIMAL_EXPONENT:
        return 0, 0
    if value.adjusted() > _MAX_DECIMAL_EXPONENT:
        raise OverflowError(f"{value} is beyond the largest number")
    magnitude = abs(Fraction(value))
    is_implied = datatype.normalisation is Normalisation.IMPLIED
    bits = datatype.mantissa_size + is_implied
    smallest = _smallest_unit(datatype)
    unit = max(_floor_log2(magnitude) - bits + 1, smallest)
    significand = round(magnitude / Fraction(2) ** unit)
    if significand >> bits:
        significand, unit = significand >> 1, unit + 1
    is_normal = bool(significand >> bits - 1)
    exponent = unit - smallest + 1 if is_normal else 0
    if exponent > _ones(datatype.exponent_size) - _has_specials(datatype):
        raise OverflowError(f"{value} is beyond the largest number")
    if not is_normal and significand and datatype.bits.order is ByteOrder.VAX:
        raise OverflowError(f"{value} is below the smallest number")
    return exponent, significand & _ones(datatype.mantissa_size)


def _store_special(name: str, datatype: FloatType) -> bytes:
    is_negative, magnitude = name.startswith("-"), name.removeprefix("-")
    if magnitude not in (INFINITY, NAN) or not _has_specials(datatype):
        raise OverflowError(f"{name} is no number of the type")
    top = 1 << datatype.mantissa_size - 1
    # The highest bit makes a NaN a quiet one; where a number's first bit is not implied, it stands
    # before that, set in an infinity too.
    is_implied = datatype.normalisation is Normalisation.IMPLIED
    mantissa = 0 if is_implied else top
    if magnitude == NAN:
        mantissa |= top if is_implied else top >> 1
    return _join(is_negative, _ones(datatype.exponent_size), mantissa, datatype)


def _join(is_negative: bool, exponent: int, mantissa: int, datatype: FloatType) -> bytes:
    whole = (
        is_negative << datatype.sign_position
        | exponent << datatype.exponent_position
        | mantissa << datatype.mantissa_position
    )
    if datatype.inner_padding is BitPadding.ONE:
        used = (
            1 << datatype.sign_position
            | _ones(datatype.exponent_size) << datatype.exponent_position
            | _ones(datatype.mantissa_size) << datatype.mantissa_position
        )
        whole |= _ones(datatype.bits.precision) << datatype.bits.offset & ~used
    return datatype.bits.stored(whole >> datatype.bits.offset)


def _has_specials(datatype: FloatType) -> bool:
    return datatype.bits.order is not ByteOrder.VAX


def _smallest_unit(datatype: FloatType) -> int:
    """Return the power of two that the mantissa's last bit stands for at an exponent field of 1."""
    is_implied = datatype.normalisation is Normalisation.IMPLIED
    return 1 - datatype.exponent_bias - datatype.mantissa_size + (not is_implied)


def _floor_log2(magnitude: Fraction) -> int:
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if magnitude >= Fraction(2) ** guess else guess - 1


def _ones(bits: int) -> int:
    return (1 << bits) - 1

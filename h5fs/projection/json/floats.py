"""Floating-point bits of any layout, to exact decimals and back. Pure: no I/O, no h5py.

All arithmetic is in integers, so that layouts for which numpy has no type (80-bit long double, IEEE
quad, bfloat16, float8, VAX) give the shortest decimal that reads back to the same bits. As in the
library's own conversions, an exponent of all ones means infinity or NaN; VAX has neither, nor
subnormals. A mantissa without normalisation (as HDF5 describes the 80-bit long double of x86) is
read like one whose first bit is always set: that bit stands before the binary point.
Layouts: HDF5 File Format Specification, section IV.A.2.d, floating-point numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache
from typing import Final

from h5fs.model.datatypes import BitPadding, ByteOrder, FloatType, Normalisation

INFINITY: Final = "Infinity"
NAN: Final = "NaN"

_MAX_EXPONENT_BITS: Final = 16
_MAX_MANTISSA_BITS: Final = 256
# Beyond this no number of a type that `has_decimals` accepts lies: they stay below 10**20000, and
# above 10**-20100 unless they are zero.
_MAX_DECIMAL_EXPONENT: Final = 40_000
_LOG10_2: Final = math.log10(2)


def has_decimals(datatype: FloatType) -> bool:
    """Tell whether decimals of a reasonable length can show the numbers of a type."""
    return (
        datatype.exponent_size <= _MAX_EXPONENT_BITS
        and datatype.mantissa_size <= _MAX_MANTISSA_BITS
        and datatype.exponent_bias < 1 << _MAX_EXPONENT_BITS
    )


def read_float(stored: bytes, datatype: FloatType) -> Decimal | str | None:
    """Return the number in ``stored``: a decimal, or "NaN" or "Infinity", with "-" when negative.

    None when ``store_float`` cannot make the same significant bits from any of these: a NaN with a
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
    """Return the bits of the nearest number of a type (ties to even), or of a special value.

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
    bits = significand.bit_length()
    numerator, denominator = significand << max(unit, 0), 1 << max(-unit, 0)
    # A decimal with fewer digits than `first` is found with `first` digits, too (zeros behind it);
    # more digits than `last` are never needed.
    first, last = max(int((bits - 2) * _LOG10_2), 1), int(bits * _LOG10_2) + 2
    for digits in range(first, last + 1):
        context = Context(prec=digits + 1, Emax=MAX_EMAX, Emin=MIN_EMIN)
        shortest = _round_to_digits(numerator, denominator, digits, context).normalize(context)
        is_short_integer = 0 <= shortest.adjusted() < 16 and shortest == int(shortest)
        yield Decimal(int(shortest)) if is_short_integer else shortest


def _round_to_digits(numerator: int, denominator: int, digits: int, context: Context) -> Decimal:
    """Return a positive quotient with that many significant digits, ties to even."""
    bits = numerator.bit_length() - denominator.bit_length()
    exponent = math.floor(bits * _LOG10_2)  # of the first digit, or one off
    while True:
        power = digits - 1 - exponent
        scaled = numerator * _power_of_ten(max(power, 0))
        rounded = _divide(scaled, denominator * _power_of_ten(max(-power, 0)))
        if rounded > _power_of_ten(digits):
            exponent += 1
        elif rounded < _power_of_ten(digits - 1):
            exponent -= 1
        else:
            return Decimal(rounded).scaleb(-power, context)


@lru_cache(maxsize=256)
def _power_of_ten(exponent: int) -> int:
    return int(10**exponent)


def _divide(numerator: int, denominator: int) -> int:
    """Return the nearest integer to a quotient, ties to even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient & 1))


def _round(value: Decimal, datatype: FloatType) -> tuple[int, int]:
    """Return exponent and mantissa fields of the nearest number to the magnitude of ``value``."""
    if not value or value.adjusted() < -_MAX_DECIMAL_EXPONENT:
        return 0, 0
    if value.adjusted() > _MAX_DECIMAL_EXPONENT:
        raise OverflowError(f"{value:.20g} is beyond the largest number")
    numerator, denominator = _ratio(value)
    is_implied = datatype.normalisation is Normalisation.IMPLIED
    bits = datatype.mantissa_size + is_implied
    smallest = _smallest_unit(datatype)
    unit = max(_floor_log2(numerator, denominator) - bits + 1, smallest)
    significand = _divide(numerator << max(-unit, 0), denominator << max(unit, 0))
    if significand >> bits:
        significand, unit = significand >> 1, unit + 1
    is_normal = bool(significand >> bits - 1)
    exponent = unit - smallest + 1 if is_normal else 0
    if exponent > _ones(datatype.exponent_size) - _has_specials(datatype):
        raise OverflowError(f"{value:.20g} is beyond the largest number")
    if not is_normal and significand and datatype.bits.order is ByteOrder.VAX:
        raise OverflowError(f"{value:.20g} is below the smallest number")
    return exponent, significand & _ones(datatype.mantissa_size)


def _ratio(value: Decimal) -> tuple[int, int]:
    """Return numerator and denominator of a magnitude, not reduced, since that would take long."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    whole = int("".join(map(str, digits)))
    return whole * _power_of_ten(max(exponent, 0)), _power_of_ten(max(-exponent, 0))


def _store_special(name: str, datatype: FloatType) -> bytes:
    is_negative, magnitude = name.startswith("-"), name.removeprefix("-")
    if magnitude not in (INFINITY, NAN) or not _has_specials(datatype):
        raise OverflowError(f"{name} is no number of the type")
    top = 1 << datatype.mantissa_size - 1
    # The highest mantissa bit makes a NaN a quiet one. Where a number's first bit is not implied,
    # that bit stands in front, and is set in an infinity too.
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


def _floor_log2(numerator: int, denominator: int) -> int:
    guess = numerator.bit_length() - denominator.bit_length()
    is_reached = numerator << max(-guess, 0) >= denominator << max(guess, 0)
    return guess if is_reached else guess - 1


def _ones(bits: int) -> int:
    return (1 << bits) - 1

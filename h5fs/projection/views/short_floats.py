"""Floats of 16 and 32 bits as float64 values whose shortest decimal is theirs.

The shortest decimal that reads back to the float32 0.1 is 0.1, that of the float64 of equal value
0.10000000149011612. So a float32 is turned into the float64 that is nearest to its own shortest
decimal: at most nine digits, which are found by trying, all values at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_DIGITS = {2: 5, 4: 9}
_MOST_EXACT_POWER = 22  # 10.0 ** 22 is the last power of ten that is a float64
_POWERS = 10.0 ** np.arange(_MOST_EXACT_POWER + 1)


def as_float64(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return float64 values whose shortest decimals are those of floats of at most 64 bits."""
    with np.errstate(invalid="ignore"):  # a NaN that signals
        wide = values.astype(np.float64)
    if values.dtype.itemsize == 8:
        return wide
    native = values.astype(values.dtype.newbyteorder("="))
    # Whole numbers below 2**24 are their own shortest decimals.
    is_plain = ~np.isfinite(wide) | ((wide == np.trunc(wide)) & (np.abs(wide) < 2**24))
    to_do = np.flatnonzero(~is_plain)
    exponents = np.floor(np.log10(np.abs(wide[to_do]))).astype(np.int64)
    most_digits = _MOST_DIGITS[values.dtype.itemsize]
    is_near = (exponents <= _MOST_EXACT_POWER) & (exponents > most_digits - _MOST_EXACT_POWER)
    far, to_do, exponents = to_do[~is_near], to_do[is_near], exponents[is_near]
    for digits in range(1, most_digits + 1):
        nearest, other = _rounded(wide[to_do], digits - 1 - exponents)
        are_right = (nearest.astype(native.dtype) == native[to_do],
                     other.astype(native.dtype) == native[to_do])  # fmt: skip
        is_right = are_right[0] | are_right[1]
        wide[to_do[is_right]] = np.where(are_right[0], nearest, other)[is_right]
        to_do, exponents = to_do[~is_right], exponents[~is_right]
    rest = np.concatenate([far, to_do])
    wide[rest] = [float(str(value)) for value in native[rest]]
    return wide


def _rounded(
    values: npt.NDArray[np.float64], decimals: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return values rounded to some decimals, at most 22 of them: to the nearest, and otherwise."""
    powers = _POWERS[np.abs(decimals)]
    is_fraction = decimals >= 0
    scaled = np.where(is_fraction, values * powers, values / powers)
    nearest = np.rint(scaled)
    other = nearest + np.where(scaled >= nearest, 1.0, -1.0)
    # Both are whole and small, and the powers exact, so that each result is the nearest float64.
    return (
        np.where(is_fraction, nearest / powers, nearest * powers),
        np.where(is_fraction, other / powers, other * powers),
    )

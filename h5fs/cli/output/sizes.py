"""Sizes as people read them."""

from __future__ import annotations

_UNITS = ("B", "K", "M", "G", "T", "P")


def show_size(size_bytes: int) -> str:
    """Return a number of bytes in units of 1024, with two digits or more."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def show_count(number: int, what: str) -> str:
    """Return a number and what it counts, in the plural where it is not one."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

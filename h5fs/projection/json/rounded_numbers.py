"""Numbers of a JSON text that went through programs which know no number but float64. Pure.

Such a program (jq before 1.7, JavaScript, Go with its default types) prints each number that it
reads as the nearest float64, numbers that nobody edited too: 9007199254740993 comes back as
9007199254740992, 18446744073709551615 as 18446744073709552000 or 1.8446744073709552e+19.

A number counts as not edited when it is one of the decimals that such programs print for the number
that stood in the same place. If any integer in the text is one that such programs never print, then
the program keeps integers exact, and every integer in the text is taken as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from decimal import Decimal
from functools import cached_property
from typing import Final

from h5fs.projection.json.strict_json import JsonValue

_EXACT_UP_TO: Final = 1 << 53


class RoundedNumbers:
    """Finds numbers of a document that were rounded. ``document``: as `strict_json` reads it."""

    def __init__(self, document: JsonValue) -> None:
        self._document = document

    def undo(self, given: JsonValue, shown: JsonValue) -> JsonValue:
        """Return ``given`` with each rounded number replaced by the number in ``shown``.

        ``given`` is part of the document; ``shown`` is what h5fs showed there, as a reader gets it.
        """
        if type(given) is type(shown) and given == shown:
            return given
        if isinstance(given, list) and isinstance(shown, list):
            same = min(len(given), len(shown))
            return [*map(self.undo, given[:same], shown[:same]), *given[same:]]
        if isinstance(given, dict) and isinstance(shown, dict):
            return {
                key: self.undo(value, shown[key]) if key in shown else value
                for key, value in given.items()
            }
        if not _is_number(given) or not _is_number(shown) or not _is_print_of(given, shown):
            return given
        return given if type(given) is int and self._keeps_integers else shown

    @cached_property
    def _keeps_integers(self) -> bool:
        """Whether the document has an integer that no float64 is printed as."""
        return any(
            abs(number) > _EXACT_UP_TO and not _is_print_of(number, number)
            for number in _integers(self._document)
        )


def _is_number(value: JsonValue) -> bool:
    return type(value) is int or isinstance(value, Decimal)


def _integers(document: JsonValue) -> Iterable[int]:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if type(value) is int:
            yield value
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()


def _is_print_of(given: int | Decimal, number: int | Decimal) -> bool:
    """Tell whether a program that holds ``number`` as a float64 prints it as ``given``."""
    try:
        nearest = float(number)
    except OverflowError:  # only an int raises this; a Decimal becomes infinity
        nearest = float("inf") if number > 0 else float("-inf")
    # jq prints the largest number for infinity.
    nearest = min(max(nearest, -sys.float_info.max), sys.float_info.max)
    if nearest == 0:
        # JavaScript prints 0 for -0.0. A zero that a person meant as a float is written 0.0.
        return type(given) is int and given == 0
    prints = (repr(nearest), f"{nearest:.17g}")
    return any(Decimal(text) == given for text in prints) or Decimal(nearest) == given

"""The text of a ``.npy`` header: a dictionary as Python prints it. Pure.

numpy lets Python's own parser read this text; that takes 500 bytes of memory for a byte of text,
and a hostile text can crash it. The parser here knows the few literals that headers have:
dictionaries, lists, tuples, text, integers of up to 20 digits (with the ``L`` of Python 2), True,
False, None. Time and memory are proportional to the length of the text.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

MAX_DEPTH: Final = 200
"""How deep lists, tuples and dictionaries may nest: more than the types of HDF5 do."""

_TOKEN: Final = re.compile(
    r"[ \t\r\n]*(?:"
    r"(?P<text>[uU]?(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"))"
    r"|(?P<integer>0|[1-9][0-9]{0,19})L?(?![0-9A-Za-z_.])"
    r"|(?P<word>True|False|None)(?![0-9A-Za-z_])"
    r"|(?P<mark>[][(){},:])"
    r"|(?P<end>\Z))"
)
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_PLAIN_ESCAPES: Final = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_WORDS: Final = {"True": True, "False": False, "None": None}
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def parse_literal(text: str) -> Any:
    """Return the value that a text spells. Raises ``ValueError``."""
    parser = _Parser(text)
    value = parser.value(parser.next(), 0)
    if parser.next() != ("end", ""):
        raise ValueError("something follows the dictionary")
    return value


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def next(self) -> tuple[str, str]:
        """Return kind and text of the next token."""
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"{self._text[self._at : self._at + 20]!r} is in no header")
        self._at = match.end()
        return match.lastgroup, match[match.lastgroup]

    def value(self, token: tuple[str, str], depth: int) -> Any:
        """Return the value that begins with a token."""
        kind, text = token
        if kind == "text":
            return _unescape(text)
        if kind == "integer":
            return int(text)
        if kind == "word":
            return _WORDS[text]
        if text not in _CLOSING:
            raise ValueError(f"{text!r} where a value was due")
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        if text == "{":
            return self._dictionary(depth + 1)
        return self._sequence(text, depth + 1)

    def _sequence(self, opening: str, depth: int) -> Any:
        closing = ("mark", _CLOSING[opening])
        items: list[Any] = []
        token = self.next()
        while token != closing:
            items.append(self.value(token, depth))
            token = self.next()
            if token == closing and opening == "(" and len(items) == 1:
                return items[0]  # without a comma parentheses make no tuple
            token = self._after_comma(token, closing)
        return tuple(items) if opening == "(" else items

    def _dictionary(self, depth: int) -> dict[str, Any]:
        closing = ("mark", "}")
        items: dict[str, Any] = {}
        token = self.next()
        while token != closing:
            key = self.value(token, depth)
            if not isinstance(key, str) or key in items or self.next() != ("mark", ":"):
                raise ValueError(f"not a key with its value: {key!r:.40}")
            items[key] = self.value(self.next(), depth)
            token = self._after_comma(self.next(), closing)
        return items

    def _after_comma(self, token: tuple[str, str], closing: tuple[str, str]) -> tuple[str, str]:
        if token == closing:
            return token
        if token != ("mark", ","):
            raise ValueError(f"{token[1]!r:.40} where a comma was due")
        return self.next()


def _unescape(literal: str) -> str:
    text = literal.lstrip("uU")[1:-1]
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code is not None:
        if int(code, 16) > sys.maxunicode:
            raise ValueError(f"no character {match[0]}")
        return chr(int(code, 16))
    if match[4] not in _PLAIN_ESCAPES:
        raise ValueError(f"\\{match[4]} is in no header")
    return _PLAIN_ESCAPES[match[4]]

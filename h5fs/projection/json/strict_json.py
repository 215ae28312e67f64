"""Strict JSON (RFC 8259): numbers are read and written exactly, and jq accepts all that is written.

Numbers with a fraction or an exponent are read as ``Decimal``, so that no digit is lost; floats
and Decimals are written alike. Bytes that stand for names become text as in dentry names: UTF-8,
with each byte that is not UTF-8, and each ``%`` that would read as an escape, percent-encoded.
"""

from __future__ import annotations

import codecs
import json
import re
import reprlib
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from h5fs.errors import InvalidAttributesError
from h5fs.projection.names import escape, unescape

JsonValue = Any
"""None, bool, int, float, Decimal, str, list of these, or dict of str to these."""

MAX_NESTING: Final = 256
"""How deep lists and objects may nest: each level is a level of recursion, or two."""
MAX_VALUES: Final = 1 << 23
"""How many values a text may have: each takes up to 64 bytes of memory."""

_LINE_LENGTH = 100
_MAX_NUMBER_LENGTH = 4300  # Python's own limit for integers
# `json.dumps` makes one for each value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(data: bytes) -> JsonValue:
    """Return the value of a JSON text in UTF-8.

    Raises ``InvalidAttributesError`` also for a bare NaN, a key that stands twice in an object, an
    unpaired surrogate, and more nesting or values than any attributes need.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise InvalidAttributesError("not JSON: it begins with a byte order mark")
    _check_count(data)
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise InvalidAttributesError("JSON nested too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError, and integers of thousands of digits
        raise InvalidAttributesError(f"not JSON: {error!s:.200}") from error
    _check_nesting(value)
    return value


def _check_count(data: bytes) -> None:
    """Refuse a text of too many values before each of them takes memory."""
    if _count_values(data) <= MAX_VALUES:
        return
    # Strings are taken out first, since commas and brackets within them separate no values.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = bare.count(b'"') // 2
    outside = 0 if strings > MAX_VALUES else sum(map(_count_values, bare.split(b'"')[::2]))
    if max(strings, outside) > MAX_VALUES:
        raise InvalidAttributesError(f"JSON of more than {MAX_VALUES} values")


def _count_values(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _check_nesting(value: JsonValue) -> None:
    level = [value]
    for _ in range(MAX_NESTING + 1):
        containers = [item for item in level if isinstance(item, list | dict)]
        if not containers:
            return
        level = [
            item
            for inner in containers
            for item in (inner.values() if isinstance(inner, dict) else inner)
        ]
    raise InvalidAttributesError("JSON nested too deeply")


class _Short(reprlib.Repr):
    """Shows some of a value, however large it is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxstring = 3, 3, 3, 60
        self.maxlong = self.maxother = 40


def show_value(value: JsonValue) -> str:
    """Return a value as a message can name it."""
    return f"{_Short().repr(value):.80}"


def write_json(value: JsonValue) -> str:
    """Return the JSON text of a value, on one line."""
    try:
        return _ENCODER.encode(value)
    except TypeError:  # a Decimal somewhere in it
        return _write_exactly(value)


def _write_exactly(value: JsonValue) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_write_exactly, value)) + "]"
    if isinstance(value, dict):
        items = (f"{write_json(key)}: {_write_exactly(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, Decimal):
        text = str(value)
        return text if "." in text or "E" in text else text + ".0"
    return write_json(value)


def name_to_text(name: bytes) -> str:
    """Return the text that stands for a name; different names have different texts."""
    text = escape(name, b"").decode("utf-8", "surrogateescape")
    return _SURROGATE.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", text)


def text_to_name(text: str) -> bytes:
    """Return the name that a text stands for.

    Raises ``InvalidAttributesError`` for a null byte, which no name in HDF5 holds.
    """
    name = unescape(encode_text(text))
    if b"\0" in name:
        raise InvalidAttributesError(f"the name {show_value(text)} holds a null byte")
    return name


def encode_text(text: str) -> bytes:
    """Return the UTF-8 of a string of JSON. Raises ``InvalidAttributesError`` when it has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidAttributesError("unpaired surrogate in a string") from error


def _parse_decimal(digits: str) -> Decimal:
    if len(digits) > _MAX_NUMBER_LENGTH:
        raise ValueError(f"number of {len(digits)} characters")
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent of 19 digits
        raise ValueError(f"the exponent of {digits:.40}") from None


def _refuse_constant(constant: str) -> JsonValue:
    raise ValueError(f'{constant} without quotes; "{constant}" is meant')


def _unique_keys(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value: dict[str, JsonValue] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {show_value(key)} stands twice")
        value[key] = item
    return value


# `json.loads` makes one for each text.
_DECODER = json.JSONDecoder(
    parse_float=_parse_decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
)


def write_indented(value: JsonValue, indent: str = "") -> str:
    """Return the JSON text of a value, indented by two spaces for each object or list around it.

    An object or list that holds no other one, and is short enough, stays on one line.
    """
    line = write_json(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    is_flat = not any(isinstance(item, dict | list) for item in inner)
    if is_flat and len(indent) + len(line) <= _LINE_LENGTH:
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [
            f"{write_json(key)}: {write_indented(item, deeper)}" for key, item in value.items()
        ]
    elif isinstance(value, list):
        items = [write_indented(item, deeper) for item in value]
    else:
        return line
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(items) + f"\n{indent}{closing}"

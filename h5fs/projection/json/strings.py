"""Strings of HDF5 as JSON text, to the bit, and back. Pure.

The text of a fixed-length string is what h5py reads: a null-terminated string ends before its first
null; a null-padded string loses its trailing nulls; a space-padded string loses its trailing
spaces, and then trailing nulls (C programs leave a null in front of the spaces). Where that text,
padded again, differs from what the file holds, the file's bytes are kept beside the text.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from h5fs.errors import InvalidAttributesError
from h5fs.model.datatypes import StringPadding, StringType
from h5fs.projection.json.strict_json import JsonValue, encode_text, show_value

_FILL: Final = {
    StringPadding.NULL_TERMINATED: b"\0",
    StringPadding.NULL_PADDED: b"\0",
    StringPadding.SPACE_PADDED: b" ",
}


class NotTextError(Exception):
    """The strings are not UTF-8: only base64 can show them."""


class StringSpelling:
    """How the strings of one attribute are spelled, and what the file holds of them.

    ``stored``: the bytes of all fixed-length strings, in the order in which `elements` visits them.
    It grows while strings are shown, and is used up while they are read back.
    """

    def __init__(self, *, in_base64: bool = False, stored: bytes = b"") -> None:
        self.in_base64 = in_base64
        self._stored = bytearray(stored)
        self._at = 0
        self._is_more = bool(stored)

    @property
    def stored(self) -> bytes:
        """The bytes of the strings, if their texts alone would not give the same bytes."""
        return bytes(self._stored) if self._is_more else b""

    def show(self, element: bytes | None, datatype: StringType) -> JsonValue:
        """Return text, or base64, or None for a null pointer. Raises ``NotTextError``."""
        if element is None:
            return None
        if datatype.size_bytes is None:
            return self._spell(element)
        text = text_of(element, datatype)
        self._stored += element
        self._is_more = self._is_more or _pad(text, datatype) != element
        return self._spell(text)

    def read(self, value: JsonValue, datatype: StringType) -> bytes | None:
        """Return a string as stored; a string whose text was not edited keeps its bytes.

        Raises ``InvalidAttributesError``.
        """
        if value is None and datatype.size_bytes is None:
            return None
        if not isinstance(value, str):
            raise InvalidAttributesError(f"not a string: {show_value(value)}")
        text = bytes_from_base64(value) if self.in_base64 else encode_text(value)
        if datatype.size_bytes is None:
            if b"\0" in text:
                raise InvalidAttributesError("null character in a variable-length string")
            return text
        if len(text) > datatype.size_bytes:
            raise InvalidAttributesError(f"{len(text)} bytes in a string of {datatype.size_bytes}")
        if self._is_more:
            old = bytes(self._stored[self._at : self._at + datatype.size_bytes])
            self._at += datatype.size_bytes
            if len(old) == datatype.size_bytes and text_of(old, datatype) == text:
                return old
        return _pad(text, datatype)

    def _spell(self, text: bytes) -> str:
        if self.in_base64:
            return base64.b64encode(text).decode("ascii")
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotTextError from error


def text_of(element: bytes, datatype: StringType) -> bytes:
    """Return the text in a string as h5py reads it."""
    if datatype.size_bytes is None:
        return element
    if datatype.padding is StringPadding.NULL_TERMINATED:
        return element.partition(b"\0")[0]
    if datatype.padding is StringPadding.SPACE_PADDED:
        element = element.rstrip(b" ")
    return element.rstrip(b"\0")


def _pad(text: bytes, datatype: StringType) -> bytes:
    return text.ljust(datatype.size_bytes or 0, _FILL[datatype.padding])


def bytes_from_base64(text: str) -> bytes:
    """Return the bytes that base64 stands for. Raises ``InvalidAttributesError``."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidAttributesError(f"not base64: {show_value(text)}") from error

"""Text as a quoted field of a table, by RFC 4180 and in UTF-8."""

from __future__ import annotations


def quote_text(text: bytes) -> bytes:
    """Return text in quotes. Bytes that are not UTF-8 are taken for Latin-1; no null is written."""
    return b'"' + escape_text(text) + b'"'


def escape_text(text: bytes) -> bytes:
    """Return text as it stands between the quotes of a field."""
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            text = text.decode("latin-1").encode("utf-8")
    if b"\0" in text:
        text = text.replace(b"\0", b"\\0")
    return text.replace(b'"', b'""')

"""Single attributes changed in the text of an ``.attrs.json`` file. Pure: no I/O, no h5py."""

from __future__ import annotations

from collections.abc import Mapping

from h5fs.errors import InvalidAttributesError, NoAttributeError, show_path
from h5fs.projection.json.attribute_file import (
    LIBRARY_NAMES,
    TYPES,
    UNREADABLE,
    attribute_key,
    implied_type,
)
from h5fs.projection.json.strict_json import JsonValue, parse_json, write_indented, write_json

_STRING_CLASS = "H5T_STRING"
_NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity")  # numbers that JSON does not have


def change_attributes(text: bytes, changes: Mapping[bytes, bytes | None]) -> bytes:
    """Return the text of an ``.attrs.json`` file with some attributes set, or removed by None.

    A value is taken as text where the attribute is a string now. Elsewhere it is JSON if it can be
    read as such, and text if not; a new attribute may also be a number that is not finite. What is
    a JSON string, in double quotes, is that string, always. A changed attribute has no ``$types``
    entry any more: its type follows from the new value, or from the attribute that is there. Only
    what is not JSON, for an attribute that is no string, has to be what its type can hold. Returns
    ``text`` itself when nothing changes. Raises ``InvalidAttributesError``, and
    ``NoAttributeError`` for one that is to be removed and is not there.
    """
    document = parse_json(text) if text.strip() else {}
    types = document.get(TYPES, {}) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(types, dict):
        raise InvalidAttributesError("the attributes that are there are no JSON object")
    is_changed = False
    for name, given in changes.items():
        key = attribute_key(name)
        is_string = isinstance(document.get(key), str) and _is_string(types.get(key))
        value = None if given is None else _parse(name, given, is_string=is_string)
        if key in document and given is not None and _is_equal(document[key], value):
            continue
        if given is None and key not in document:
            raise NoAttributeError(_explain_missing(document, name, key))
        is_changed = True
        entry = types.pop(key, None)
        if key in document and given is not None and _is_bare(given, value) and not is_string:
            insisted = _type_of(entry, document[key])
            if insisted is not None:
                types[key] = insisted
                document[TYPES] = types
        if key not in document and given in _NOT_FINITE:
            types[key] = "<f8"
            document[TYPES] = types
        document[key] = value
        if given is None and name not in LIBRARY_NAMES:
            del document[key]  # (for LIBRARY_NAMES only null means that the attribute goes)
    if not is_changed:
        return text
    if types:
        document[TYPES] = document.pop(TYPES)  # which comes last
    else:
        document.pop(TYPES, None)
    return write_indented(document).encode() + b"\n"


def holds_attribute(text: bytes, name: bytes) -> bool:
    """Whether the text of an ``.attrs.json`` file has a value for an attribute."""
    document = parse_json(text) if text.strip() else {}
    return isinstance(document, dict) and attribute_key(name) in document


def _explain_missing(document: Mapping[str, JsonValue], name: bytes, key: str) -> str:
    unreadable = document.get(UNREADABLE, {})
    if isinstance(unreadable, dict) and key in unreadable:
        return f"attribute {show_path(name)} cannot be read, and stays as it is"
    return f"no attribute {show_path(name)}"


def _is_string(entry: JsonValue | None) -> bool:
    """Whether an entry of ``$types`` is that of a string whose value is its text, not base64."""
    if isinstance(entry, dict) and "encoding" in entry:
        return False
    if isinstance(entry, dict) and isinstance(entry.get("type"), dict):
        entry = entry["type"]
    return entry is None or (isinstance(entry, dict) and entry.get("class") == _STRING_CLASS)


def _is_bare(given: bytes, value: JsonValue) -> bool:
    """Whether a value is text for want of being JSON."""
    return isinstance(value, str) and not given.startswith(b'"')


def _type_of(entry: JsonValue | None, value: JsonValue) -> JsonValue:
    """Return the ``$types`` entry of a type alone, from an attribute's entry and value; None for
    what has neither."""
    if entry is None:
        return None if value is None else implied_type(value)
    if isinstance(entry, dict) and "class" not in entry:  # the type is one of several keys
        return entry.get("type")
    return entry


def _is_equal(old: JsonValue, new: JsonValue) -> bool:
    return type(old) is type(new) and write_json(old) == write_json(new)


def _parse(name: bytes, given: bytes, *, is_string: bool) -> JsonValue:
    try:
        text = given.decode()
    except UnicodeDecodeError:
        raise InvalidAttributesError(
            f"attribute {show_path(name)}: the value is not UTF-8; write it by .attrs.json"
        ) from None
    if is_string and not text.startswith('"'):
        return text
    try:
        return parse_json(given)
    except InvalidAttributesError:
        return text

"""Single attributes changed in the text of an ``.attrs.json`` file. Pure: no I/O, no h5py."""

from __future__ import annotations

from collections.abc import Mapping

from h5fs.errors import InvalidAttributesError, show_path
from h5fs.projection.json.attribute_file import LIBRARY_NAMES, TYPES, attribute_key
from h5fs.projection.json.strict_json import JsonValue, parse_json, write_indented, write_json

_STRING_CLASS = "H5T_STRING"
_NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity")  # numbers that JSON does not have


def change_attributes(text: bytes, changes: Mapping[bytes, bytes | None]) -> bytes:
    """Return the text of an ``.attrs.json`` file with some attributes set, or removed by None.

    A value is taken as text where the attribute is a string now. Elsewhere it is JSON if it can be
    read as such, and text if not; a new attribute may also be a number that is not finite. What is
    a JSON string, in double quotes, is that string, always. A changed attribute has no other
    ``$types`` entry any more: its type follows from the new value, or from the attribute that is
    there. Returns ``text`` itself when nothing changes. Raises ``InvalidAttributesError``.
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
            continue
        is_changed = True
        types.pop(key, None)
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


def _is_string(entry: JsonValue | None) -> bool:
    """Whether an entry of ``$types`` is that of a string whose value is its text, not base64."""
    if isinstance(entry, dict) and "encoding" in entry:
        return False
    if isinstance(entry, dict) and isinstance(entry.get("type"), dict):
        entry = entry["type"]
    return entry is None or (isinstance(entry, dict) and entry.get("class") == _STRING_CLASS)


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

"""The attributes of one object as a ``.attrs.json`` file, and back. Pure: no I/O, no h5py.

The file is one JSON object in UTF-8, a line per attribute, in the order that HDF5 iterates them.
The values are plain (`elements`, `scalars` say how each type is spelled); nested lists show the
shape. Keys are attribute names, percent-encoded where they are not UTF-8 (`strict_json`); a name
that begins with ``$`` gets one more ``$``. Two keys, at the end, are reserved:

- ``"$unreadable"``: the names of attributes that could not be read, and why. It is ignored when the
  file is written: such an attribute stays as it is unless a value is given for it.
- ``"$types"``: the HDF5 type of each attribute whose value alone would create another type. An
  entry is a type (`datatype_documents`), or an object with that as its ``"type"`` and beside it:
  ``"shape"``, where the nesting does not tell the shape (a list of dimensions, ``"H5S_NULL"`` for a
  null dataspace); ``"encoding": "base64"``, when strings in the value are not UTF-8 and therefore
  in base64; ``"stored"``, the base64 of all fixed-length strings in the value, when the file holds
  more than their text and padding (`strings`): a string whose text was not edited keeps its bytes.

A value without an entry creates int64, float64, h5py's boolean enumeration, a variable-length UTF-8
string, or an array of one of these; an empty list creates an empty float64 array, and null creates
a null dataspace of float64. For the names in ``LIBRARY_NAMES``, null without an entry means that
the attribute is removed: a text that just does not name such an attribute leaves it as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from msgspec import Struct, structs

from h5fs.errors import AttributeTooLargeError, InvalidAttributesError
from h5fs.model.datatype_rules import MAX_ATTRIBUTES, MAX_ELEMENTS, MAX_RANK
from h5fs.model.datatypes import (
    ByteOrder,
    CharacterSet,
    Datatype,
    EnumType,
    StringPadding,
    StringType,
    count_values,
)
from h5fs.model.objects import Attribute, UnreadableAttribute
from h5fs.projection.json.datatype_documents import (
    check_new_datatype,
    datatype_from_json,
    datatype_to_json,
)
from h5fs.projection.json.elements import (
    element_depth,
    elements_from_json,
    elements_to_json,
    json_depth,
)
from h5fs.projection.json.nesting import Shape, flatten, nest, shape_of
from h5fs.projection.json.numpy_spelling import BOOLEAN, standard_float, standard_integer
from h5fs.projection.json.rounded_numbers import RoundedNumbers
from h5fs.projection.json.scalars import SPECIAL_FLOATS
from h5fs.projection.json.strict_json import (
    MAX_NESTING,
    JsonValue,
    encode_text,
    name_to_text,
    parse_json,
    show_value,
    text_to_name,
    write_json,
)
from h5fs.projection.json.strings import NotTextError, StringSpelling, bytes_from_base64

TYPES: Final = "$types"
UNREADABLE: Final = "$unreadable"
NULL: Final = "H5S_NULL"
LIBRARY_NAMES: Final = frozenset(
    [
        *(b"CLASS", b"NAME", b"DIMENSION_LIST", b"REFERENCE_LIST", b"DIMENSION_LABELS"),
        *(b"_Netcdf4Dimid", b"_Netcdf4Coordinates", b"_NCProperties", b"_nc3_strict"),
    ]
)
"""Attributes that HDF5's high-level library and netCDF-C keep for themselves."""
_DEEPEST: Final = MAX_NESTING - 1  # the document is the first level
BASE64: Final = "base64"

INT64: Final = standard_integer(8, ByteOrder.LITTLE, signed=True)
FLOAT64: Final = standard_float(8, ByteOrder.LITTLE)
TEXT: Final = StringType(None, StringPadding.NULL_TERMINATED, CharacterSet.UTF8)
"""What h5py makes of ``str``."""


class _Form(Struct, frozen=True):
    """Everything about an attribute except its name and elements."""

    type: Datatype
    shape: Shape | None
    in_base64: bool = False
    stored: bytes = b""


def attributes_to_json(attributes: Sequence[Attribute | UnreadableAttribute]) -> bytes:
    """Return the content of the ``.attrs.json`` file that shows these attributes."""
    values: dict[str, JsonValue] = {}
    types: dict[str, JsonValue] = {}
    unreadable: dict[str, JsonValue] = {}
    for attribute in attributes:
        key = attribute_key(attribute.name)
        if isinstance(attribute, UnreadableAttribute):
            unreadable[key] = attribute.reason
            continue
        if len(attribute.shape or ()) + json_depth(attribute.type) > _DEEPEST:
            unreadable[key] = "its elements are nested too deeply for JSON"
            continue
        values[key], form = _show(attribute)
        is_removal = values[key] is None and attribute.name in LIBRARY_NAMES
        if is_removal or form != _implied_form(values[key]):
            types[key] = _form_to_json(form, values[key])
    lines = [f"{write_json(key)}: {write_json(value)}" for key, value in values.items()]
    lines += [_section(name, entries) for name, entries in _sections(unreadable, types) if entries]
    return ("{\n  " + ",\n  ".join(lines) + "\n}\n").encode() if lines else b"{}\n"


def attributes_from_json(
    data: bytes, existing: Sequence[Attribute | UnreadableAttribute] = ()
) -> tuple[Attribute, ...]:
    """Return the attributes that the content of a ``.attrs.json`` file means, in its order.

    The type of a value is that of its ``$types`` entry; else that of the attribute of its name in
    ``existing``, if that type can hold the value exactly; else the type that the value alone
    implies. A value that shows what an existing attribute shows gives that very attribute, bits
    outside of the data included; so does a value whose numbers are the existing ones rounded to
    float64 (`rounded_numbers`). A text that is longer than an existing attribute's strings of fixed
    length, with the same type in its entry, makes them longer. Existing attributes of
    ``LIBRARY_NAMES`` that the text does not name come last.

    Raises ``InvalidAttributesError``, naming the attribute, and ``AttributeTooLargeError`` for more
    than h5fs could read again.
    """
    document = parse_json(data)
    if not isinstance(document, dict):
        raise InvalidAttributesError("not a JSON object")
    types = document.pop(TYPES, {})
    unreadable = document.pop(UNREADABLE, {})
    if not isinstance(types, dict) or not isinstance(unreadable, dict):
        raise InvalidAttributesError(f"{TYPES} or {UNREADABLE} is not a JSON object")
    if len(document) > MAX_ATTRIBUTES:
        raise AttributeTooLargeError(f"{len(document)} attributes, more than {MAX_ATTRIBUTES}")
    known = {old.name: old for old in existing if isinstance(old, Attribute)}
    rounded = RoundedNumbers(document)
    attributes, named = [], set()
    for key, value in document.items():
        name = _name(key)
        named.add(name)
        if value is None and name in LIBRARY_NAMES and key not in types:
            continue
        try:
            attribute = _read(name, value, types.get(key), known.get(name), rounded)
            if name not in known or known[name].type != attribute.type:
                check_new_datatype(attribute.type)
            attributes.append(attribute)
        except InvalidAttributesError as error:
            raise InvalidAttributesError(f"attribute {show_value(key)}: {error}") from error
    if sum(attribute.value_count for attribute in attributes) > MAX_ELEMENTS:
        raise AttributeTooLargeError(f"more than {MAX_ELEMENTS} elements in the attributes")
    kept = (known[name] for name in known if name in LIBRARY_NAMES - named)
    return (*attributes, *kept)


def _show(attribute: Attribute) -> tuple[JsonValue, _Form]:
    if attribute.shape is None:
        return None, _Form(attribute.type, None)
    strings = StringSpelling()
    try:
        values = elements_to_json(attribute.elements, attribute.type, strings)
    except NotTextError:
        strings = StringSpelling(in_base64=True)
        values = elements_to_json(attribute.elements, attribute.type, strings)
    form = _Form(attribute.type, attribute.shape, strings.in_base64, strings.stored)
    return nest(values, attribute.shape), form


def _read(
    name: bytes,
    value: JsonValue,
    entry: JsonValue | None,
    old: Attribute | None,
    rounded: RoundedNumbers,
) -> Attribute:
    if old is None:
        form = _form_from_json(entry, value) if entry is not None else None
    else:
        plain, old_form = _show(old)
        shown = _reread(plain)
        if entry is not None:
            entry = rounded.undo(entry, _reread(_form_to_json(old_form, plain)))
        form = _form_from_json(entry, value) if entry is not None else None
        if form is None or form.type == old.type:
            value = rounded.undo(value, shown)
        if form in (None, old_form) and _is_same(shown, value):
            return old
        if form is not None:
            form = _lengthened(form, value, old)
        if form is None:
            attribute = _try_type_of(old, name, value)
            if attribute is not None:
                return attribute
            _check_no_float(value, old)
    form = form or _implied_form(value)
    if form is None:
        shown_value = show_value(value)
        raise InvalidAttributesError(f"no type follows from {shown_value}; {TYPES} must say it")
    return _make(name, value, form)


def _try_type_of(old: Attribute, name: bytes, value: JsonValue) -> Attribute | None:
    """Return the value in an existing attribute's type, None when that cannot hold it exactly."""
    shape = shape_of(value, element_depth(old.type))
    try:
        attribute = _make(name, value, _Form(old.type, shape))
    except InvalidAttributesError:
        return Attribute(name, old.type, None, ()) if value is None else None
    shown, form = _show(attribute)
    if isinstance(old.type, EnumType) and any(type(item) is int for item in _flat(shown)):
        return None  # the enumeration could store the integer, but has no member for it
    is_exact = not form.in_base64 and _is_same(_reread(shown), value, one_spelling=False)
    return attribute if is_exact else None


def _check_no_float(value: JsonValue, old: Attribute) -> None:
    """Raise where a number that is no float would become text, as what floats alone can be."""
    found = next((item for item in _flat(value) if item in SPECIAL_FLOATS), None)
    if found is not None and not isinstance(old.type, StringType):
        raise InvalidAttributesError(
            f"{show_value(found)}, and the attribute is no float; {TYPES} must say its new type"
        )


def _lengthened(form: _Form, value: JsonValue, old: Attribute) -> _Form:
    """Return the form with strings long enough for the value, if its type is the old one.

    Whoever edits a text edits no length: netCDF-C makes fixed-length strings of nearly all texts.
    """
    strings = form.type
    if not isinstance(strings, StringType) or strings.size_bytes is None or form.in_base64:
        return form
    longest = max((len(encode_text(text)) for text in _flat(value) if type(text) is str), default=0)
    if strings != old.type or longest <= strings.size_bytes:
        return form
    if strings.padding is StringPadding.NULL_TERMINATED and all(
        isinstance(element, bytes) and b"\0" in element for element in old.elements
    ):
        longest += 1  # netCDF-C ends its texts without a null, others with one
    return _Form(structs.replace(strings, size_bytes=longest), form.shape)


def _flat(value: JsonValue) -> list[JsonValue]:
    return [item for each in value for item in _flat(each)] if isinstance(value, list) else [value]


def _make(name: bytes, value: JsonValue, form: _Form) -> Attribute:
    if form.shape is None:
        if value is not None:
            raise InvalidAttributesError(f"a value in a null dataspace: {show_value(value)}")
        return Attribute(name, form.type, None, ())
    flat = flatten(value, form.shape)
    count = len(flat) * count_values(form.type)
    if count > MAX_ELEMENTS:
        raise AttributeTooLargeError(f"{count} elements, more than {MAX_ELEMENTS}")
    strings = StringSpelling(in_base64=form.in_base64, stored=form.stored)
    elements = elements_from_json(flat, form.type, strings)
    return Attribute(name, form.type, form.shape, tuple(elements))


def implied_type(value: JsonValue) -> JsonValue:
    """Return the entry of ``$types`` that says the type of a plain value; None for no type."""
    form = _implied_form(value)
    return None if form is None else datatype_to_json(form.type)


def _implied_form(value: JsonValue) -> _Form | None:
    """Return the type and shape that a plain value alone implies, None when there is none."""
    if value is None:
        return _Form(FLOAT64, None)
    shape = shape_of(value, 0)
    try:
        kinds = {type(item) for item in flatten(value, shape)}
    except InvalidAttributesError:
        return None
    if len(shape) > MAX_RANK:
        return None
    if kinds == {bool}:
        return _Form(BOOLEAN, shape)
    if kinds == {int}:
        return _Form(INT64, shape)
    if kinds <= {int, float, Decimal}:
        return _Form(FLOAT64, shape)
    if kinds in ({str}, {str, type(None)}):
        return _Form(TEXT, shape)
    return None


def _form_to_json(form: _Form, value: JsonValue) -> JsonValue:
    entry: dict[str, JsonValue] = {"type": datatype_to_json(form.type)}
    if form.shape is None:
        entry["shape"] = NULL
    elif form.shape != shape_of(value, element_depth(form.type)):
        entry["shape"] = list(form.shape)
    if form.in_base64:
        entry["encoding"] = BASE64
    if form.stored:
        entry["stored"] = base64.b64encode(form.stored).decode("ascii")
    return entry if len(entry) > 1 else entry["type"]


def _form_from_json(entry: JsonValue, value: JsonValue) -> _Form:
    if not isinstance(entry, dict) or "class" in entry:
        entry = {"type": entry}
    unknown = set(entry) - {"type", "shape", "encoding", "stored"}
    if "type" not in entry or unknown or entry.get("encoding", BASE64) != BASE64:
        raise InvalidAttributesError(f"not an entry of {TYPES}: {show_value(entry)}")
    datatype = datatype_from_json(entry["type"])
    shape = entry.get("shape")
    if shape is None:
        shape = shape_of(value, element_depth(datatype))
    elif shape == NULL:
        shape = None
    elif (
        isinstance(shape, list)
        and len(shape) <= MAX_RANK
        and all(type(size) is int and 0 <= size < 1 << 63 for size in shape)
    ):
        shape = tuple(shape)
    else:
        raise InvalidAttributesError(f"not a shape: {show_value(shape)}")
    stored = entry.get("stored", "")
    if not isinstance(stored, str):
        raise InvalidAttributesError(f"not base64: {show_value(stored)}")
    return _Form(datatype, shape, "encoding" in entry, bytes_from_base64(stored))


def _reread(shown: JsonValue) -> JsonValue:
    """Return a value as a reader gets it that is written to JSON and parsed again."""
    if isinstance(shown, float):
        return Decimal(float.__repr__(shown))  # a NumPy float has a repr of its own
    if isinstance(shown, list):
        return [_reread(item) for item in shown]
    if isinstance(shown, dict):
        return {key: _reread(item) for key, item in shown.items()}
    return shown


def _is_same(left: JsonValue, right: JsonValue, *, one_spelling: bool = True) -> bool:
    """Compare values as read; 1 and 1.0 are the same, but -0.0 is not 0 and true is not 1.

    Without ``one_spelling``, values of different kinds count as the same, such as an enumeration's
    name and its integer: the caller knows that the type has accepted both.
    """
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(
            _is_same(*pair, one_spelling=one_spelling) for pair in pairs
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            _is_same(left[key], right[key], one_spelling=one_spelling) for key in left
        )
    kinds = [Decimal if type(item) is int else type(item) for item in (left, right)]
    if kinds[0] is not kinds[1]:
        return not one_spelling
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return left == right and left.is_signed() == right.is_signed()
    return bool(left == right)


def _sections(
    unreadable: Mapping[str, JsonValue], types: Mapping[str, JsonValue]
) -> list[tuple[str, Mapping[str, JsonValue]]]:
    return [(UNREADABLE, unreadable), (TYPES, types)]


def _section(name: str, entries: Mapping[str, JsonValue]) -> str:
    lines = [f"{write_json(key)}: {write_json(value)}" for key, value in entries.items()]
    return f"{write_json(name)}: " + "{\n    " + ",\n    ".join(lines) + "\n  }"


def attribute_key(name: bytes) -> str:
    """Return the key that stands for an attribute's name."""
    text = name_to_text(name)
    return f"${text}" if text.startswith("$") else text


def _name(key: str) -> bytes:
    if key.startswith("$") and not key.startswith("$$"):
        raise InvalidAttributesError(
            f"{show_value(key)} is a reserved key; that of an attribute has one more $"
        )
    name = text_to_name(key.removeprefix("$"))
    if not name:
        raise InvalidAttributesError("an attribute without a name")
    return name

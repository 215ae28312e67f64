"""Attributes of the service as plain values. Pure."""

from __future__ import annotations

import math

from h5fs.errors import H5fsError, UnreadableError
from h5fs.model.datatype_rules import MAX_ATTRIBUTE_BYTES, MAX_ELEMENTS
from h5fs.model.datatypes import count_values, size_in_memory
from h5fs.model.objects import Attribute, UnreadableAttribute
from h5fs.store.hsds.answers import AttributeAnswer
from h5fs.store.hsds.datatype_json import parse_datatype
from h5fs.store.hsds.unpacking import TargetOf, elements_of_attribute


def make_attribute(
    answer: AttributeAnswer, target_of: TargetOf
) -> Attribute | UnreadableAttribute:
    """Return an attribute, or why it cannot be read."""
    name = answer.name.encode("utf-8", "surrogatepass")
    try:
        datatype = parse_datatype(answer.type)
        shape = answer.shape.shape()
        if shape is None:
            return Attribute(name, datatype, None, ())
        size = math.prod(shape) * size_in_memory(datatype)
        if size > MAX_ATTRIBUTE_BYTES:
            raise UnreadableError(f"{size} bytes, more than {MAX_ATTRIBUTE_BYTES}")
        if math.prod(shape) * count_values(datatype) > MAX_ELEMENTS:
            raise UnreadableError(f"more than {MAX_ELEMENTS} elements")
        is_encoded = answer.encoding == "base64"
        elements = elements_of_attribute(answer.value, is_encoded, datatype, shape, target_of)
        return Attribute(name, datatype, shape, elements)
    except H5fsError as error:
        return UnreadableAttribute(name, str(error))

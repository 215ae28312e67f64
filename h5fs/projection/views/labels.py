"""What attributes say to people: texts, numbers, references, and the labels made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from h5fs.model.datatypes import FloatType, IntegerType
from h5fs.model.objects import Attribute, Element
from h5fs.projection.json.floats import read_float

_MOST_CHARACTERS = 80
_LARGEST = 2**1023  # about that of a float


class Labels(Struct, frozen=True):
    """An object's attributes by name. What is missing, or of another type, reads as empty."""

    attributes: Mapping[bytes, Attribute]

    def text(self, name: bytes) -> str:
        """Return an attribute's text, the first one of several."""
        elements = self._elements(name)
        if not elements or not isinstance(elements[0], bytes) or self._is_number(name):
            return ""
        text = elements[0].partition(b"\0")[0].decode("utf-8", "replace")
        return " ".join(text.split())

    def numbers(self, name: bytes) -> list[float]:
        """Return an attribute's numbers."""
        attribute = self.attributes.get(name)
        if attribute is None:
            return []
        if isinstance(attribute.type, IntegerType):
            values = map(attribute.type.value, attribute.elements)
            return [float(max(min(value, _LARGEST), -_LARGEST)) for value in values]
        if isinstance(attribute.type, FloatType):
            numbers = [read_float(stored, attribute.type) for stored in attribute.elements]
            return [float(n) for n in numbers if n is not None and math.isfinite(float(n))]
        return []

    def targets(self, name: bytes) -> list[bytes]:
        """Return the HDF5 paths that an attribute of references has; of each list the first."""
        elements = self._elements(name)
        first = [each[0] if isinstance(each, tuple) and each else each for each in elements]
        return [each for each in first if isinstance(each, bytes) and each.startswith(b"/")]

    def label(self, name: bytes) -> str:
        """Return the label of an axis that shows the object: name and unit."""
        unit = self.text(b"units") or self.text(b"unit")
        called = self.text(b"long_name") or name.decode("utf-8", "replace")
        return shorten(f"{called} ({unit})" if unit else called)

    def _elements(self, name: bytes) -> tuple[Element, ...]:
        attribute = self.attributes.get(name)
        return attribute.elements if attribute is not None else ()

    def _is_number(self, name: bytes) -> bool:
        return isinstance(self.attributes[name].type, (IntegerType, FloatType))


def shorten(text: str) -> str:
    """Return text that can be drawn: dashes for unknown characters, and not too long."""
    text = "".join(c if c.isprintable() else "-" for c in text)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"

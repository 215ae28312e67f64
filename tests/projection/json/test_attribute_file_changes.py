"""Single attributes that are set or removed in the text of an attribute file."""

from __future__ import annotations

import pytest

from h5fs.errors import NoAttributeError
from h5fs.projection.json.attribute_file_changes import change_attributes

TEXT = b'{"old": 1, "$unreadable": {"damaged": "no such type"}}\n'


@pytest.mark.semantics("C10")
@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (TEXT, b"nope", "no attribute nope"),
        (b"", b"nope", "no attribute nope"),
        (TEXT, b"damaged", "attribute damaged cannot be read, and stays as it is"),
    ],
)
def test_what_is_not_there_cannot_be_removed(text: bytes, name: bytes, words: str) -> None:
    with pytest.raises(NoAttributeError, match=words):
        change_attributes(text, {b"old": b"2", name: None})

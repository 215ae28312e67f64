"""Tables of links: what is looked up in them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5fs.model.link_table import ROW, Links, LinkTable
from h5fs.model.objects import ObjectRef

NAMES = st.binary(min_size=1, max_size=2)


def table_of(names: list[bytes]) -> Links:
    stops = np.cumsum([len(name) for name in names], dtype="<u8").tobytes()
    rows = np.zeros(len(names), ROW).tobytes()
    return Links(LinkTable(ObjectRef(0, 96, b"/"), b"".join(names), stops, rows, (), {}))


@given(st.sets(NAMES), st.lists(NAMES))
def test_a_name_is_found_whatever_was_asked_for_before(names: set[bytes], asked: list[bytes]):
    in_order = sorted(names)
    links = table_of(in_order)
    for name in asked + in_order:
        assert links.find(name) == (in_order.index(name) if name in names else None)

"""Tables of links: what is looked up in them, and the memory they take."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5fs.model.link_table import ROW, Links, LinkTable
from h5fs.model.objects import ObjectRef

COUNT = 20_000
NAMES = st.binary(min_size=1, max_size=2)


def table_of(names: list[bytes]) -> LinkTable:
    stops = np.cumsum([len(name) for name in names], dtype="<u8").tobytes()
    rows = np.zeros(len(names), ROW).tobytes()
    return LinkTable(ObjectRef(0, 96, b"/"), b"".join(names), stops, rows, (), {})


@given(st.sets(NAMES), st.lists(NAMES))
def test_a_name_is_found_whatever_was_asked_for_before(
    names: set[bytes], asked: list[bytes]
) -> None:
    in_order = sorted(names)
    links = Links(table_of(in_order))
    assert links.names() == in_order
    assert len(links) == len(in_order)
    for name in asked + in_order + in_order[::-1]:
        index = links.find(name)
        assert index == (in_order.index(name) if name in names else None)
        assert index is None or links.name(index) == name


def test_a_link_costs_no_memory_beside_the_table() -> None:
    whole = table_of([b"sample-%07d" % number for number in range(COUNT)])
    tracemalloc.start()
    try:
        links = Links(whole)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < COUNT
    assert links.size_bytes == len(whole.names) + len(whole.rows) + len(whole.name_stops)

"""What a table of links takes, and what it finds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from h5fs.model.link_table import ROW, Links, LinkTable
from h5fs.model.objects import ObjectRef

COUNT = 20_000
NAMES = [b"sample-%07d" % number for number in range(COUNT)]


def table(names: list[bytes]) -> LinkTable:
    stops = np.cumsum([len(name) for name in names], dtype="<u8").tobytes()
    rows = np.zeros(len(names), ROW).tobytes()
    return LinkTable(ObjectRef(0, 1, b"/"), b"".join(names), stops, rows, (), {})


def test_a_link_costs_no_memory_beside_the_table() -> None:
    whole = table(NAMES)
    tracemalloc.start()
    try:
        links = Links(whole)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < COUNT
    assert links.size_bytes == len(whole.names) + len(whole.rows) + len(whole.name_stops)


@pytest.mark.parametrize("names", [[], [b"a"], [b"a", b"bc", b"def"], NAMES])
def test_names_are_found_in_any_order(names: list[bytes]) -> None:
    links = Links(table(names))
    assert links.names() == names
    assert len(links) == len(names)
    for index in [*range(len(names)), *range(len(names) - 1, -1, -997)]:
        assert links.find(names[index]) == index
        assert links.name(index) == names[index]
    assert links.find(b"missing") is None

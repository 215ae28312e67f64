"""The index of runs against a dictionary of pages."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from h5fs.store.log.runs import RunIndex

PAGE = 512
pages = st.integers(0, 60)
steps = st.one_of(
    st.tuples(st.just("insert"), pages, st.integers(1, 20)), st.tuples(st.just("cut"), pages)
)


@given(st.lists(steps), pages, pages)
def test_a_page_is_where_it_was_put_last(history: list[tuple], start: int, stop: int) -> None:
    index, model = RunIndex(PAGE), dict[int, int]()
    for number, step in enumerate(history):
        match step:
            case ("insert", first, count):
                offset = (number + 1) * 10**6
                index.insert(first, first + count, offset)
                model |= {first + i: offset + i * PAGE for i in range(count)}
            case ("cut", first):
                index.cut(first)
                model = {page: offset for page, offset in model.items() if page < first}
    assert {page: index.find(page) for page in range(100)} == {
        page: model.get(page) for page in range(100)
    }
    assert index.page_count == len(model)
    assert index.stop == max(model, default=-1) + 1
    found = {
        first + i: offset + i * PAGE
        for first, last, offset in index.overlap(start, stop)
        for i in range(last - first)
    }
    assert found == {page: at for page, at in model.items() if start <= page < stop}
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(index))

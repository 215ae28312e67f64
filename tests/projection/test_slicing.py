"""Ranges of a row-major array to hyperslabs."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5fs.projection.slicing import split_into_hyperslabs

SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)


@st.composite
def shapes_and_ranges(draw: st.DrawFn) -> tuple[tuple[int, ...], int, int]:
    shape = draw(SHAPES)
    start = draw(st.integers(0, prod(shape)))
    return shape, start, draw(st.integers(start, prod(shape)))


@pytest.mark.semantics("D2")
@given(shapes_and_ranges())
def test_hyperslabs_hold_just_the_range_in_order(
    given_range: tuple[tuple[int, ...], int, int],
) -> None:
    shape, start, stop = given_range
    array = np.arange(prod(shape)).reshape(shape)
    slabs = split_into_hyperslabs(shape, start, stop)
    pieces = [
        array[tuple(slice(s, s + c) for s, c in zip(slab.start, slab.count, strict=True))].ravel()
        for slab in slabs
    ]
    together = np.concatenate(pieces) if pieces else np.arange(0)
    assert together.tolist() == list(range(start, stop))
    assert all(len(slab.start) == len(slab.count) == len(shape) for slab in slabs)


@given(shapes_and_ranges())
def test_hyperslabs_are_at_most_two_for_each_dimension_less_one(
    given_range: tuple[tuple[int, ...], int, int],
) -> None:
    shape, start, stop = given_range
    slabs = split_into_hyperslabs(shape, start, stop)
    assert len(slabs) <= max(2 * len(shape) - 1, 1)
    assert all(prod(slab.count) > 0 for slab in slabs)


@given(SHAPES)
def test_a_whole_array_is_one_hyperslab(shape: tuple[int, ...]) -> None:
    slabs = split_into_hyperslabs(shape, 0, prod(shape))
    assert [(slab.start, slab.count) for slab in slabs] == (
        [((0,) * len(shape), shape)] if prod(shape) else []
    )


def test_an_array_of_any_size_costs_no_more() -> None:
    shape = (2**20, 2**20, 2**20)
    slabs = split_into_hyperslabs(shape, 1, prod(shape) - 1)
    assert sum(prod(slab.count) for slab in slabs) == prod(shape) - 2


@pytest.mark.parametrize(("start", "stop"), [(-1, 0), (0, 7), (4, 3)])
def test_a_range_outside_the_array_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not in an array"):
        split_into_hyperslabs((2, 3), start, stop)

"""Bands and blocks: chunks laid side by side are the array again."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from h5fs.store.chunks.geometry import Grid
from h5fs.store.chunks.scatter import fill, places_of, scatter, scatter_inside

Array = np.ndarray[Any, Any]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Arrays of up to four dimensions in chunks that need not divide them."""
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(rank))
    chunk_shape = tuple(draw(st.integers(1, 9)) for _ in range(rank))
    return Grid(shape, chunk_shape, draw(st.sampled_from([1, 2, 3, 8])))


def array_of(grid: Grid) -> Array:
    """Return an array of different bytes: shape, and an element's bytes last."""
    values = np.random.default_rng(1)
    return values.integers(0, 256, (*grid.shape, grid.item_bytes), "u1")


def chunk_of(grid: Grid, array: Array, number: int) -> Array:
    """Return a whole decoded chunk of the array, what sticks out as it comes."""
    chunk = np.full((*grid.chunk_shape, grid.item_bytes), 170, "u1")
    box = grid.box(number)
    inside = tuple(slice(0, count) for count in box.count)
    where = tuple(slice(s, s + c) for s, c in zip(box.start, box.count, strict=True))
    chunk[inside] = array[where]
    return chunk.ravel()


def shared_buffer_mapper(shared_buffer: Array) -> Any:
    return lambda start, stop: shared_buffer[start:stop]


@given(grids(), st.sampled_from([1, 20, 200]), st.booleans(), st.sampled_from([1, 2**20]))
def test_the_chunks_of_blocks_put_together_are_the_array(
    grid: Grid, block_bytes: int, by_boxes: bool, window: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        grid = replace(grid, wanted_block_bytes=block_bytes)
        patch.setattr("h5fs.store.chunks.scatter._PART_BYTES", window)
        array = array_of(grid)
        expected = array.tobytes()
        got, seen = b"", []
        for number in range(grid.block_of(grid.data_bytes - 1) + 1):
            block = grid.block(number)
            start, stop = block.start, block.stop
            assert start == len(got)
            assert stop - start <= grid.block_bytes
            shared_buffer = np.zeros(stop - start, "u1")
            chunks = block.chunks
            for chunk in chunks:
                places = places_of(
                    grid, grid.box(chunk), chunks[0], shared_buffer_mapper(shared_buffer)
                )
                whole = chunk_of(grid, array, chunk)
                if by_boxes:
                    box = grid.box(chunk)
                    inside = whole.reshape(*grid.chunk_shape, grid.item_bytes)
                    inside = inside[tuple(slice(0, count) for count in box.count)]
                    scatter_inside(grid, box, np.ascontiguousarray(inside).ravel(), places)
                else:
                    scatter(grid, grid.box(chunk), whole, places)
            seen += chunks
            got += shared_buffer.tobytes()
        assert got == expected
        assert seen == list(range(grid.chunk_count))


@given(grids(), st.data())
def test_the_chunks_under_a_range_are_those_that_hold_it(grid: Grid, data: st.DataObject) -> None:
    count = prod(grid.shape)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    numbers = np.zeros(grid.shape, int)
    for chunk in range(grid.chunk_count):
        box = grid.box(chunk)
        numbers[tuple(slice(s, s + c) for s, c in zip(box.start, box.count, strict=True))] = chunk
    needed = set(numbers.ravel()[start:stop].tolist())
    named = [chunk for under in grid.chunks_under(start, stop) for chunk in under]
    assert needed <= set(named)
    if len(grid.shape) <= 2:  # in more dimensions those further behind are taken whole
        bands = {chunk // grid.chunks_per_band for chunk in needed}
        assert {chunk // grid.chunks_per_band for chunk in named} == bands
        if stop - start == 1:
            assert set(named) == needed


@given(grids())
def test_an_element_is_in_the_band_that_says_so(grid: Grid) -> None:
    for band in range(grid.band_count):
        start, stop = grid.band_start(band), grid.band_start(band + 1)
        assert start < stop
        assert {grid.band_of(element) for element in (start, stop - 1)} == {band}
        assert (stop - start) * grid.item_bytes <= grid.band_bytes
    assert grid.band_start(grid.band_count) == prod(grid.shape)


@given(grids(), st.binary(min_size=8, max_size=8))
def test_a_chunk_that_was_never_written_is_fill_values(grid: Grid, value: bytes) -> None:
    value = value[: grid.item_bytes]
    block = grid.block(0)
    start, stop = block.start, block.stop
    shared_buffer = np.zeros(stop - start, "u1")

    def places(chunk: int) -> Iterator[tuple[slice, Any]]:
        return places_of(grid, grid.box(chunk), 0, shared_buffer_mapper(shared_buffer))

    for chunk in block.chunks:
        fill(grid, value, places(chunk))
    assert shared_buffer.tobytes() == value * ((stop - start) // grid.item_bytes)

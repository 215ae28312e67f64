"""Band files: what is gathered, or read in pieces, from chunks that lie one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5fs.store.chunks.band_files import (
    band_file_bytes,
    gather,
    pieces_under,
    place_in_band_file,
    row_grid,
    slab_grid,
)
from h5fs.store.chunks.destinations import InSlab
from h5fs.store.chunks.geometry import Grid

Array = np.ndarray[Any, Any]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Arrays of up to four dimensions in chunks that need not divide them; any axis of bands."""
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(rank))
    short = draw(st.integers(0, rank - 1))
    chunk_shape = tuple(1 if i < short else draw(st.integers(1, 9)) for i in range(rank))
    item_bytes = draw(st.sampled_from([1, 2, 3, 8]))
    return Grid(shape, chunk_shape, item_bytes, draw(st.sampled_from([1, 20, 200])))


def make_band_files(grid: Grid) -> tuple[bytes, list[Array]]:
    """Return the bytes of an array, and its band files."""
    values = np.random.default_rng(1)
    array = values.integers(0, 256, (*grid.shape, grid.item_bytes), "u1")
    size = band_file_bytes(grid) + 5  # as it is mapped: whole pages
    files = [np.full(size, 170, "u1") for _ in range(grid.band_count)]
    for chunk in range(grid.chunk_count):
        box = grid.box(chunk)
        where = tuple(slice(s, s + c) for s, c in zip(box.start, box.count, strict=True))
        inside = np.ascontiguousarray(array[where]).ravel()
        band = chunk // grid.chunks_per_band
        start = place_in_band_file(grid, band * grid.chunks_per_band, chunk)
        files[band][start : start + len(inside)] = inside
    return array.tobytes(), files


@given(grids(), st.booleans())
def test_the_blocks_of_rows_put_together_are_the_array(grid: Grid, is_mapped: bool) -> None:
    expected, files = make_band_files(grid)
    rows = row_grid(grid)
    got = b""
    while len(got) < len(expected):
        number = rows.block_of(len(got))
        block = rows.block(number)
        assert block.start == len(got)
        assert block.size_bytes <= rows.block_bytes
        assert {rows.block_of(each) for each in (block.start, block.stop - 1)} == {number}
        first, last = block.start // grid.item_bytes, block.stop // grid.item_bytes
        assert list(rows.chunks_under(first, last)) == [block.chunks]
        band, numbers = rows.band_and_rows(number)
        # No block spans two bands.
        assert grid.block_of(block.start) == grid.block_of(block.stop - 1)
        file = files[band]

        def read(offset: int, into: Array, file: Array = file) -> None:
            into[:] = file[offset : offset + len(into)]

        out = np.zeros(block.size_bytes, "u1")
        gather(grid, numbers, file if is_mapped else None, read, out)
        got += out.tobytes()
    assert got == expected


@given(grids(), st.data())
def test_the_pieces_of_a_range_are_its_bytes(grid: Grid, data: st.DataObject) -> None:
    expected, files = make_band_files(grid)
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    got, chunks = b"", set()
    for chunk, offset, size in pieces_under(grid, start, stop):
        band, number = divmod(chunk, grid.chunks_per_band)
        place = number * grid.chunk_bytes + offset
        got += files[band][place : place + size].tobytes()
        chunks.add(chunk)
    assert got == expected[start:stop]
    if start < stop:
        ends = start // grid.item_bytes, -(-stop // grid.item_bytes)
        assert chunks <= {chunk for under in grid.chunks_under(*ends) for chunk in under}


@given(grids(), st.integers(1, 200), st.booleans())
def test_the_slabs_put_together_are_the_array(grid: Grid, slab_bytes: int, is_whole: bool) -> None:
    values = np.random.default_rng(1).integers(0, 256, (*grid.shape, grid.item_bytes), "u1")
    slabs = slab_grid(grid, slab_bytes)
    got = b""
    while len(got) < values.nbytes:
        number = slabs.block_of(len(got))
        block = slabs.block(number)
        assert block.start == len(got)
        ends = block.start // grid.item_bytes, block.stop // grid.item_bytes
        assert [chunk for part in slabs.chunks_under(*ends) for chunk in part] == [*block.chunks]
        out = np.full(block.size_bytes, 170, "u1")
        _, rows = slabs.band_and_rows(number)
        slab = InSlab(grid, rows, lambda start, stop, out=out: out[start:stop])
        for chunk in block.chunks:
            box = grid.box(chunk)
            where = tuple(slice(s, s + c) for s, c in zip(box.start, box.count, strict=True))
            if is_whole:
                decoded = np.full((*grid.chunk_shape, grid.item_bytes), 171, "u1")
                decoded[tuple(map(slice, box.count))] = values[where]
                slab.put(chunk, box, decoded.ravel())
            else:
                slab.fill(chunk, box, bytes(range(grid.item_bytes)))
                slab.put_inside(chunk, box, values[where].ravel())
        got += out.tobytes()
    assert got == values.tobytes()


@given(grids(), st.integers(1, 200))
def test_a_slab_of_one_value_is_filled(grid: Grid, slab_bytes: int) -> None:
    slabs = slab_grid(grid, slab_bytes)
    block = slabs.block(slabs.block_of(grid.data_bytes - 1))
    out = np.full(block.size_bytes, 170, "u1")
    _, rows = slabs.band_and_rows(block.number)
    slab = InSlab(grid, rows, lambda start, stop: out[start:stop])
    value = bytes(range(grid.item_bytes))
    for chunk in block.chunks:
        slab.fill(chunk, grid.box(chunk), value)
    assert out.tobytes() == value * (block.size_bytes // grid.item_bytes)


def test_where_chunks_are_as_wide_as_the_array_a_piece_is_as_long_as_the_chunk() -> None:
    grid = Grid((10, 4, 6), (5, 4, 8), 2)
    assert [size for *_, size in pieces_under(grid, 0, grid.data_bytes)] == [240, 240]
    assert [size for *_, size in pieces_under(grid, 7, 250)] == [233, 10]


def test_blocks_of_rows_are_of_one_size_as_far_as_that_goes() -> None:
    rows = row_grid(Grid((8192, 8192), (8192, 50), 4))
    assert (rows.rows_per_block, rows.block_bytes) == (128, 2**22)
    rows = row_grid(Grid((8000, 8000), (8000, 50), 4))
    assert {rows.block(number).size_bytes for number in range(61)} == {130 * 32_000}
    assert rows.block(rows.block_of(8000 * 32_000 - 1)).stop == 8000 * 32_000

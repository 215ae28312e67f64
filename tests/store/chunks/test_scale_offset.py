"""Chunks of scale-offset integers, decoded here, against what h5py reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z
from hypothesis import example, given
from hypothesis import strategies as st

from h5fs.model.objects import Filter
from h5fs.store.chunks import scale_offset
from h5fs.store.chunks.decodable import DEFLATE, FLETCHER32, SCALE_OFFSET, SHUFFLE, can_decode
from h5fs.store.chunks.filters import Pipeline
from h5fs.store.chunks.scale_offset import UnusualChunkError

pytestmark = pytest.mark.skipif(
    not scale_offset.IS_INSTALLED, reason="imagecodecs is not installed"
)

DTYPES = [f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)]
CHUNK = 1000


@pytest.fixture(scope="module")
def file() -> Iterator[h5py.File]:
    with h5py.File("memory", "w", driver="core", backing_store=False) as opened:
        yield opened


def make(
    file: h5py.File, dtype: str, items: int, fill: int, *, bits: int = 0, summed: bool = False
) -> h5d.DatasetID:
    """Return a dataset of one chunk, which the library decodes at each read."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk((items,))
    creation.set_scaleoffset(h5z.SO_INT, bits)
    if summed:
        creation.set_fletcher32()
    creation.set_fill_value(np.array(fill, dtype))
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_chunk_cache(1, 0, 0.75)
    kind = h5t.py_create(np.dtype(dtype))
    return h5d.create(file.id, None, kind, h5s.create_simple((items,)), creation, access)


def pipeline_of(dataset: h5d.DatasetID) -> Pipeline:
    creation = dataset.get_create_plist()
    found = [creation.get_filter(index) for index in range(creation.get_nfilters())]
    filters = tuple(Filter(code, tuple(options)) for code, _, options, _ in found)
    item_bytes = dataset.get_type().get_size()
    assert can_decode(filters, item_bytes)
    return Pipeline(filters, item_bytes, prod(creation.get_chunk()) * item_bytes)


def check(dataset: h5d.DatasetID, values: np.ndarray[Any, Any]) -> None:
    """Compare; codes of 33 to 63 bits the library alone can unpack."""
    kind = dataset.get_type()
    dataset.write(h5s.ALL, h5s.ALL, values, kind)
    mask, raw = dataset.read_direct_chunk((0,))
    expected = np.empty(len(values), values.dtype)
    dataset.read(h5s.ALL, h5s.ALL, expected, kind)
    pipeline = pipeline_of(dataset)
    if raw[0] in range(33, 64):
        with pytest.raises(UnusualChunkError):
            pipeline.decode(raw, mask)
        return
    assert pipeline.decode(raw, mask).tobytes() == expected.tobytes()
    out = np.full(values.nbytes, 0xA5, np.uint8)
    assert pipeline.decode(raw, mask, out) is out
    assert out.tobytes() == expected.tobytes()


@st.composite
def walks(draw: st.DrawFn, dtype: str) -> np.ndarray[Any, Any]:
    """Integers of a type that lie within some bits of each other, anywhere in its range."""
    limits = np.iinfo(dtype)
    items = draw(st.integers(1, CHUNK))
    span = (1 << draw(st.integers(0, limits.bits))) - 1
    low = draw(st.integers(limits.min, limits.max - span))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random.integers(low, low + span, items, np.dtype(dtype).newbyteorder("="),
                           endpoint=True).astype(dtype)  # fmt: skip


@given(data=st.data(), dtype=st.sampled_from(DTYPES), summed=st.booleans())
def test_a_chunk_decodes_to_what_h5py_reads(
    file: h5py.File, data: st.DataObject, dtype: str, summed: bool
) -> None:
    values = data.draw(walks(dtype))
    limits = np.iinfo(dtype)
    fill = data.draw(
        st.just(0) | st.integers(limits.min, limits.max) | st.sampled_from(values.tolist())
    )
    if data.draw(st.booleans()):  # some elements are that value
        values[:: data.draw(st.integers(1, 7))] = fill
    # Too few bits lose some: what is read is what the library makes of them.
    bits = data.draw(st.just(0) | st.integers(1, limits.bits - 1))
    check(make(file, dtype, len(values), fill, bits=bits, summed=summed), values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_bits_decodes_to_what_h5py_reads(file: h5py.File, dtype: str) -> None:
    limits = np.iinfo(dtype)
    for bits in range(limits.bits + 1):
        for items in (1, 7, 64, 501):
            steps = np.arange(items, dtype=np.uint64) * 0x9E3779B97F4A7C15 >> np.uint64(3)
            span = (1 << max(bits - 1, 0)) - 1
            offsets = steps.astype(object) % (span + 1)
            values = np.array([limits.min + int(n) for n in offsets], dtype)
            for fill in (0, limits.max):
                check(make(file, dtype, items, fill), values)


def small(file: h5py.File) -> tuple[Pipeline, bytes]:
    """Return what decodes a chunk of a hundred elements, and the chunk."""
    dataset = make(file, "<i4", 100, 0)
    dataset.write(h5s.ALL, h5s.ALL, np.arange(1000, 1100, dtype="<i4"))
    return pipeline_of(dataset), dataset.read_direct_chunk((0,))[1]


@given(at=st.integers(0, 20), value=st.integers(0, 255), kept=st.integers(0, 120))
@example(at=4, value=4, kept=120)
@example(at=0, value=33, kept=120)
@example(at=0, value=31, kept=120)
def test_a_damaged_header_is_left_to_the_library_or_decodes(
    file: h5py.File, at: int, value: int, kept: int
) -> None:
    pipeline, raw = small(file)
    damaged = bytearray(raw[:kept])
    damaged[at : at + 1] = bytes([value])[: len(damaged[at : at + 1])]
    try:
        assert len(pipeline.decode(bytes(damaged))) == 400
    except UnusualChunkError:
        assert bytes(damaged) != raw


def test_codes_that_are_cut_off_are_left_to_the_library(file: h5py.File) -> None:
    pipeline, raw = small(file)
    with pytest.raises(UnusualChunkError):
        pipeline.decode(raw[:-20])


def options(**changed: int) -> tuple[int, ...]:
    """Return options of ``<i4``, some of them changed: by their place, as ``_3=1``."""
    found = [2, 0, 100, 0, 4, 1, 0, 1, *[0] * 12]
    for place, value in changed.items():
        found[int(place[1:])] = value
    return tuple(found)


@pytest.mark.parametrize(
    "steps",
    [
        (Filter(SCALE_OFFSET, ()),),
        (Filter(SCALE_OFFSET, options()[:-1]),),
        (Filter(SCALE_OFFSET, options(_0=0, _3=1)),),  # floats
        (Filter(SCALE_OFFSET, options(_3=1)),),
        (Filter(SCALE_OFFSET, options(_4=8)),),
        (Filter(SCALE_OFFSET, options(_6=2)),),
        (Filter(SCALE_OFFSET, options(_1=32)),),  # it does nothing
        (Filter(SHUFFLE, (4,)), Filter(SCALE_OFFSET, options())),
        (Filter(SCALE_OFFSET, options()), Filter(DEFLATE, (1,))),
    ],
)
def test_what_is_no_packing_of_integers_is_left_to_the_library(steps: tuple[Filter, ...]) -> None:
    assert can_decode((Filter(SCALE_OFFSET, options()), Filter(FLETCHER32, ())), 4)
    assert not can_decode(steps, 4)

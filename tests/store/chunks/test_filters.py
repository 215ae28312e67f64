"""Chunks decoded here, against what h5py reads of them."""

from __future__ import annotations

import contextlib
import importlib.util
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5p, h5s, h5t
from hypothesis import assume, example, given
from hypothesis import strategies as st

from h5fs.errors import UnreadableError
from h5fs.model.objects import Filter
from h5fs.store import chunks
from h5fs.store.chunks import filters as module
from h5fs.store.chunks import packages, shuffle
from h5fs.store.chunks.decodable import (
    BLOSC,
    DEFLATE,
    FLETCHER32,
    LZ4,
    LZF,
    SHUFFLE,
    ZSTD,
    can_decode,
)
from h5fs.store.chunks.filters import LongChunkError, Pipeline

SZIP, NBIT, SCALEOFFSET, BITSHUFFLE, BLOSC2 = 4, 5, 6, 32008, 32026
HAS_IMAGECODECS = packages.imagecodecs is not None
needs_imagecodecs = pytest.mark.skipif(not HAS_IMAGECODECS, reason="imagecodecs is not installed")

OPTIONS: dict[int, list[tuple[int, ...]]] = {
    SHUFFLE: [()],
    FLETCHER32: [()],
    DEFLATE: [(0,), (1,), (4,), (9,)],
    LZF: [()],
    LZ4: [(), (64,), (100,)],  # the size of a block
    ZSTD: [(1,), (9,)],
    BLOSC: [
        tuple(hdf5plugin.Blosc(cname=name, shuffle=shuffle).filter_options)
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle in (0, 1, 2)
    ],
}
COMPRESSORS = [DEFLATE, *([LZF, LZ4, ZSTD, BLOSC] if HAS_IMAGECODECS else [])]
PADDED = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [2, 24],
                   "itemsize": 40})  # fmt: skip
DTYPES = [np.dtype(d) for d in ("u1", "S1", "<u2", ">i2", "S3", "<f4", ">i4", "<f8", ">u8", "S12",
                                "<c16", "S33", "V100")] + [PADDED]  # fmt: skip

Steps = list[tuple[int, tuple[int, ...]]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chunks") / "one.h5"


@pytest.fixture(scope="module")
def file() -> Iterator[h5py.File]:
    with h5py.File("memory", "w", driver="core", backing_store=False) as opened:
        yield opened


def create(
    file: h5py.File, steps: Steps, dtype: np.dtype[Any], shape: Sequence[int], chunk: Sequence[int]
) -> h5py.Dataset:
    """Return a new dataset without a name."""
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_chunk(tuple(chunk))
    for code, options in steps:
        if code == SHUFFLE:
            creation.set_shuffle()
        else:
            # Optional, as h5py has it: what a filter cannot make smaller, it leaves out.
            creation.set_filter(code, h5py.h5z.FLAG_OPTIONAL, options)
    space = h5s.create_simple(tuple(shape))
    kind = h5t.py_create(dtype)
    return h5py.Dataset(h5py.h5d.create(file.id, None, kind, space, creation))


@contextlib.contextmanager
def stored_as(
    path: Path, steps: Steps, dtype: np.dtype[Any], items: int, raw: bytes, mask: int
) -> Iterator[h5py.Dataset]:
    """Yield a dataset of one chunk that is stored as ``raw``.

    The file is opened anew: the library reads a chunk that was written directly by the size and
    the mask that it remembers, not by those of the file.
    """
    with h5py.File(path, "w") as file:
        dataset = create(file, steps, dtype, (items,), (items,))
        file["d"] = dataset
        dataset.id.write_direct_chunk((0,), raw, mask)
    with h5py.File(path, "r") as file:
        yield file["d"]


def filters_of(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    creation = dataset.id.get_create_plist()
    found = [creation.get_filter(index) for index in range(creation.get_nfilters())]
    return tuple(Filter(code, tuple(options)) for code, _, options, _ in found)


def pipeline_of(dataset: h5py.Dataset) -> Pipeline:
    item_bytes = dataset.id.get_type().get_size()
    return Pipeline(filters_of(dataset), item_bytes, prod(dataset.chunks) * item_bytes)


def read_raw(dataset: h5py.Dataset, start: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return what h5py reads of one chunk, as bytes, without conversion."""
    count = tuple(min(c, s - o) for c, s, o in zip(dataset.chunks, dataset.shape, start,
                                                   strict=True))  # fmt: skip
    kind = dataset.id.get_type()
    found = np.zeros((*count, kind.get_size()), np.uint8)
    space = dataset.id.get_space()
    space.select_hyperslab(tuple(start), count)
    dataset.id.read(h5s.create_simple(count), space, found, kind)
    return found


def inside(dataset: h5py.Dataset, start: Sequence[int], chunk: Any) -> np.ndarray[Any, Any]:
    """Return the part of a decoded chunk that is in the array."""
    whole = np.frombuffer(chunk, np.uint8).reshape(*dataset.chunks, -1)
    return whole[tuple(slice(s - o) for s, o in zip(dataset.shape, start, strict=True))]


def stored_chunks(dataset: h5py.Dataset) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda chunk: found.append(tuple(chunk.chunk_offset)))
    return found


@st.composite
def pipelines(draw: st.DrawFn, codes: Sequence[int] = COMPRESSORS) -> Steps:
    """Filters in any order, with one compressor at most."""
    chosen = draw(st.lists(st.sampled_from([SHUFFLE, FLETCHER32]), max_size=2, unique=True))
    chosen += draw(st.lists(st.sampled_from(codes), max_size=1))
    return [(c, draw(st.sampled_from(OPTIONS[c]))) for c in draw(st.permutations(chosen))]


@st.composite
def contents(draw: st.DrawFn, size: int) -> bytes:
    """Bytes that compress well, badly, or not at all."""
    seed = draw(st.integers(0, 2**32 - 1))
    least, most = draw(st.sampled_from([(0, 0), (255, 255), (0, 1), (0, 15), (0, 255)]))
    random = np.random.default_rng(seed).integers(least, most + 1, size, np.uint8)
    return random.tobytes()


@st.composite
def extents(draw: st.DrawFn, max_chunk_items: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and chunk shape of an array of few chunks."""
    rank = draw(st.integers(1, 3))
    top = max(1, int(max_chunk_items ** (1 / rank)))
    chunk = tuple(draw(st.integers(1, top)) for _ in range(rank))
    return tuple(draw(st.integers(c, 2 * c)) for c in chunk), chunk


def fill(dataset: h5py.Dataset, content: bytes) -> None:
    kind = dataset.id.get_type()
    dataset.id.write(h5s.ALL, h5s.ALL, np.frombuffer(content, np.uint8), kind)


@given(data=st.data(), steps=pipelines(), dtype=st.sampled_from(DTYPES))
def test_a_chunk_decodes_to_what_h5py_reads(
    file: h5py.File, data: st.DataObject, steps: Steps, dtype: np.dtype[Any]
) -> None:
    shape, chunk = data.draw(extents(20000 // dtype.itemsize))
    dataset = create(file, steps, dtype, shape, chunk)
    fill(dataset, data.draw(contents(prod(shape) * dtype.itemsize)))
    pipeline = pipeline_of(dataset)
    out = np.empty(prod(chunk) * dtype.itemsize, np.uint8)
    for start in stored_chunks(dataset):
        mask, raw = dataset.id.read_direct_chunk(start)
        expected = read_raw(dataset, start)
        assert np.array_equal(inside(dataset, start, pipeline.decode(raw, mask)), expected)
        assert pipeline.decode(memoryview(raw), mask, out) is out
        assert np.array_equal(inside(dataset, start, out), expected)


@given(data=st.data(), steps=pipelines(), dtype=st.sampled_from(DTYPES))
def test_a_filter_that_was_left_out_is_not_undone(
    file: h5py.File, path: Path, data: st.DataObject, steps: Steps, dtype: np.dtype[Any]
) -> None:
    mask = data.draw(st.integers(0, 2 ** len(steps) - 1))
    items = data.draw(st.integers(1, 500))
    shape = (items,)
    applied = [step for index, step in enumerate(steps) if not mask >> index & 1]
    source = create(file, applied, dtype, shape, shape)
    fill(source, data.draw(contents(items * dtype.itemsize)))
    skipped, raw = source.id.read_direct_chunk((0,))
    assume(not skipped)
    expected = read_raw(source, (0,))
    with stored_as(path, steps, dtype, items, raw, mask) as dataset:
        assert np.array_equal(read_raw(dataset, (0,)), expected)
        found = pipeline_of(dataset).decode(raw, mask)
        assert np.array_equal(inside(dataset, (0,), found), expected)


@pytest.mark.parametrize(
    "item_bytes", [1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 31, 32, 33, 40, 255, 256, 1000, 70000]
)
@pytest.mark.parametrize("size_bytes", [1, 4, 70001, 2**20 + 6])
def test_any_item_size_unshuffles(file: h5py.File, item_bytes: int, size_bytes: int) -> None:
    count = max(1, size_bytes // item_bytes)
    # The checksum comes first, so that four bytes are left over of whole items.
    steps: Steps = [(FLETCHER32, ()), (SHUFFLE, ())]
    dataset = create(file, steps, np.dtype((np.void, item_bytes)), (count,), (count,))
    content = np.random.default_rng(0).integers(0, 256, count * item_bytes, np.uint8)
    fill(dataset, content.tobytes())
    mask, raw = dataset.id.read_direct_chunk((0,))
    decoded = Pipeline(filters_of(dataset), item_bytes, len(content)).decode(raw, mask)
    assert np.array_equal(decoded, content)


@given(item_bytes=st.integers(2, 300), size_bytes=st.integers(1, 5000), seed=st.integers(0, 99))
def test_unshuffling_undoes_shuffling(item_bytes: int, size_bytes: int, seed: int) -> None:
    content = np.random.default_rng(seed).integers(0, 256, size_bytes, np.uint8)
    whole = size_bytes // item_bytes * item_bytes
    planes = content[:whole].reshape(-1, item_bytes).T.reshape(-1)
    shuffled = np.concatenate([planes, content[whole:]])
    room = np.zeros(shuffle.ROOM_BYTES, np.uint8)
    out = np.zeros(size_bytes, np.uint8)
    shuffle.unshuffle(shuffled, item_bytes, out, lambda data: np.concatenate([room, data]))
    assert np.array_equal(out, content)
    out[:] = 0
    shuffle.unshuffle_with_numpy(shuffled, item_bytes, out)
    assert np.array_equal(out, content)


def test_a_result_stays_until_the_next_call_only_and_chunks_do_not_mix(file: h5py.File) -> None:
    dataset = create(file, [(SHUFFLE, ()), (DEFLATE, (4,))], np.dtype("<i4"), (3000,), (1000,))
    dataset[...] = np.arange(3000)
    pipeline = pipeline_of(dataset)
    found = [pipeline.decode(dataset.id.read_direct_chunk((start,))[1]).tobytes()
             for start in (0, 1000, 2000, 0)]  # fmt: skip
    expected = [np.arange(s, s + 1000, dtype="<i4").tobytes() for s in (0, 1000, 2000, 0)]
    assert found == expected


# --- checksums


def fletcher32(content: bytes) -> bytes:
    """Return the checksum as H5checksum.c computes it, slowly."""
    content += bytes(len(content) % 2)
    first = second = 0
    for high, low in zip(content[::2], content[1::2], strict=True):
        first += high << 8 | low
        first = (first & 0xFFFF) + (first >> 16)
        second += first
        second = (second & 0xFFFF) + (second >> 16)
    return struct.pack("<I", second << 16 | first)


@given(size=st.integers(1, 9000), byte=st.sampled_from([0, 1, 255, None]), seed=st.integers(0, 99))
@example(size=2**18, byte=255, seed=0)
@example(size=2**18 + 1, byte=None, seed=0)
def test_the_checksum_is_the_library_s(size: int, byte: int | None, seed: int) -> None:
    random = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    content = random if byte is None else bytes([byte]) * size
    pipeline = Pipeline((Filter(FLETCHER32, ()),), 1, size)
    right = fletcher32(content)
    assert pipeline.decode(content + right).tobytes() == content
    historical = bytes([right[1], right[0], right[3], right[2]])
    assert pipeline.decode(content + historical).tobytes() == content
    for wrong in (right[::-1], right[2:] + right[:2], bytes([right[0] ^ 1]) + right[1:]):
        if wrong not in (right, historical):
            with pytest.raises(UnreadableError, match="fletcher32"):
                pipeline.decode(content + wrong)


# --- damage


def damage(draw: st.DrawFn, raw: bytes) -> bytes:
    damaged = bytearray(raw)
    for _ in range(draw(st.integers(0, 3))):
        # Headers are where the interesting bytes are.
        index = draw(st.integers(0, min(30, len(raw) - 1)) | st.integers(0, len(raw) - 1))
        damaged[index] = draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    end = draw(st.sampled_from(["same", "same", "cut", "more"]))
    if end == "cut":
        del damaged[draw(st.integers(0, len(raw))) :]
    elif end == "more":
        damaged += draw(st.binary(min_size=1, max_size=40))
    return bytes(damaged)


@pytest.fixture(params=["deflate", "zlib"])
def inflater(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to inflate."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zlib":
            patch.setattr(module, "deflate", None)
        elif module.deflate is None:
            pytest.skip("deflate is not installed")
        yield


@pytest.mark.usefixtures("inflater")
@given(
    data=st.data(),
    steps=pipelines([DEFLATE, *([LZF] if HAS_IMAGECODECS else [])]),
    items=st.integers(1, 300),
)
def test_what_is_accepted_of_a_damaged_chunk_is_what_h5py_reads(
    file: h5py.File, path: Path, data: st.DataObject, steps: Steps, items: int
) -> None:
    dataset = create(file, steps, np.dtype("<i4"), (items,), (items,))
    fill(dataset, data.draw(contents(4 * items)))
    mask, raw = dataset.id.read_direct_chunk((0,))
    raw = damage(data.draw, raw)
    assume(raw)
    pipeline = pipeline_of(dataset)
    try:
        found = pipeline.decode(raw, mask)
    except UnreadableError:
        return  # the library accepts more: it reads what lies behind a chunk that is too short
    with stored_as(path, steps, dataset.dtype, items, raw, mask) as damaged:
        assert np.array_equal(inside(damaged, (0,), found), read_raw(damaged, (0,)))


@given(data=st.data(), steps=pipelines(), items=st.integers(1, 300))
def test_damage_is_an_error_or_a_chunk_of_the_right_size(
    file: h5py.File, data: st.DataObject, steps: Steps, items: int
) -> None:
    dataset = create(file, steps, np.dtype("<f8"), (items,), (items,))
    fill(dataset, data.draw(contents(8 * items)))
    mask, raw = dataset.id.read_direct_chunk((0,))
    guarded = np.full(8 * items + 128, 0xA5, np.uint8)
    with contextlib.suppress(UnreadableError):
        pipeline_of(dataset).decode(damage(data.draw, raw), mask, guarded[64:-64])
    assert (guarded[:64] == 0xA5).all()
    assert (guarded[-64:] == 0xA5).all()


def peak_bytes(pipeline: Pipeline, raw: bytes, error: type[Exception]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(error):
            pipeline.decode(raw)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_decompression_bomb_takes_no_more_memory_than_a_chunk(shuffle: bool) -> None:
    steps = (Filter(SHUFFLE, (4,)),) * shuffle + (Filter(DEFLATE, (9,)),)
    pipeline = Pipeline(steps, 4, 2**20)
    assert peak_bytes(pipeline, zlib.compress(bytes(2**26)), LongChunkError) < 4 * 2**20


@pytest.mark.usefixtures("inflater")
def test_a_stream_that_ends_early_or_late_is_an_error_and_what_follows_it_is_not() -> None:
    pipeline = Pipeline((Filter(DEFLATE, (1,)),), 4, 400)
    content = np.random.default_rng(0).integers(0, 256, 400, np.uint8).tobytes()
    stream = zlib.compress(content)
    assert pipeline.decode(stream + b"more").tobytes() == content
    with pytest.raises(LongChunkError):
        pipeline.decode(zlib.compress(content + b"x"))
    for short in (zlib.compress(content[:-1]), zlib.compress(b""), stream[:-1], stream[:50], b""):
        with pytest.raises(UnreadableError) as caught:
            pipeline.decode(short)
        assert not isinstance(caught.value, LongChunkError)
    with pytest.raises(UnreadableError):
        pipeline.decode(stream[:-1] + bytes([stream[-1] ^ 1]))


@needs_imagecodecs
@pytest.mark.parametrize("claimed", [0, 1, 399, 401, 2**31, 2**32 - 1])
def test_a_size_that_a_header_claims_is_not_believed(file: h5py.File, claimed: int) -> None:
    for code, layout, offset in ((LZ4, ">Q", 0), (BLOSC, "<I", 4), (BLOSC, "<I", 12)):
        dataset = create(file, [(code, OPTIONS[code][0])], np.dtype("<i4"), (100,), (100,))
        dataset[...] = 7
        raw = bytearray(dataset.id.read_direct_chunk((0,))[1])
        struct.pack_into(layout, raw, offset, claimed)
        assert peak_bytes(pipeline_of(dataset), bytes(raw), UnreadableError) < 2**20


def test_a_chunk_that_is_stored_in_far_too_many_bytes_is_an_error() -> None:
    pipeline = Pipeline((Filter(DEFLATE, (1,)),), 4, 400)
    with pytest.raises(UnreadableError):
        pipeline.decode(zlib.compress(bytes(400)) + bytes(pipeline.max_stored_bytes))


@pytest.mark.parametrize("codes", [(), (SHUFFLE,)])
def test_an_uncompressed_chunk_has_exactly_its_size(codes: tuple[int, ...]) -> None:
    pipeline = Pipeline(tuple(Filter(code, (4,)) for code in codes), 4, 40)
    assert len(pipeline.decode(bytes(40))) == 40
    with pytest.raises(LongChunkError):
        pipeline.decode(bytes(41))
    with pytest.raises(UnreadableError):
        pipeline.decode(bytes(39))


# --- what is handled


@pytest.mark.parametrize("code", [SZIP, NBIT, SCALEOFFSET, BITSHUFFLE, BLOSC2, 305, 70000])
def test_other_filters_are_left_to_the_library(code: int) -> None:
    assert not can_decode((Filter(code, ()),), 4)
    assert not can_decode((Filter(SHUFFLE, (4,)), Filter(code, ())), 4)
    with pytest.raises(UnreadableError):
        Pipeline((Filter(code, ()),), 4, 400)


@pytest.mark.parametrize(
    "steps",
    [
        (Filter(DEFLATE, ()),),
        (Filter(DEFLATE, (10,)),),
        (Filter(DEFLATE, (1, 1)),),
        (Filter(SHUFFLE, ()),),
        (Filter(SHUFFLE, (0,)),),
        (Filter(SHUFFLE, (8,)),),
        (Filter(DEFLATE, (1,)), Filter(DEFLATE, (1,))),
    ],
)
def test_options_that_no_writer_uses_are_left_to_the_library(steps: tuple[Filter, ...]) -> None:
    assert not can_decode(steps, 4)


def test_without_the_optional_packages_fewer_filters_are_handled() -> None:
    assert module.__file__ is not None
    spec = importlib.util.spec_from_file_location("bare_filters", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    bare = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "deflate", None)
        patch.setitem(sys.modules, "imagecodecs", None)
        for name in ("packages", "shuffle"):
            patch.delitem(sys.modules, f"{chunks.__name__}.{name}")
            patch.setattr(chunks, name, None)
        patch.setitem(sys.modules, f"{chunks.__name__}.filters", bare)
        spec.loader.exec_module(bare)
        assert not any(bare.can_decode((Filter(code, ()),), 4) for code in (LZF, LZ4, ZSTD, BLOSC))
        steps = (Filter(SHUFFLE, (4,)), Filter(DEFLATE, (1,)), Filter(FLETCHER32, ()))
        assert bare.can_decode(steps, 4)
    stream = zlib.compress(bytes(range(40)))
    found = bare.Pipeline(steps, 4, 40).decode(stream + fletcher32(stream))
    assert found.tobytes() == np.arange(40, dtype=np.uint8).reshape(4, 10).T.tobytes()


# --- other people's files


def chunked_datasets(file: h5py.File) -> list[h5py.Dataset]:
    """Return the chunked datasets of fixed-size elements (others lie elsewhere in the file)."""
    found: list[h5py.Dataset] = []

    def note(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            with contextlib.suppress(TypeError, ValueError):  # no numpy type
                if not item.dtype.hasobject:
                    found.append(item)

    # Of a damaged file, what was found before the damage will do.
    with contextlib.suppress(RuntimeError, KeyError, ValueError):
        file.visititems(note)
    return found


def check_all_chunks(dataset: h5py.Dataset) -> None:
    pipeline = pipeline_of(dataset)
    for start in stored_chunks(dataset):
        if all(o < s for o, s in zip(start, dataset.shape, strict=True)):
            mask, raw = dataset.id.read_direct_chunk(start)
            found = inside(dataset, start, pipeline.decode(raw, mask))
            assert np.array_equal(found, read_raw(dataset, start)), f"{dataset}: {start}"


def test_chunks_of_other_people_s_files_decode_to_what_h5py_reads(corpus: Path) -> None:
    compared = 0
    for path in sorted(corpus.rglob("*")):
        if "cve" in str(path.relative_to(corpus)).lower() or not path.is_file():
            continue
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(h5py.File(path, "r"))
            except OSError:
                continue  # no HDF5 file, or none that opens
            for dataset in chunked_datasets(file):
                if can_decode(filters_of(dataset), dataset.id.get_type().get_size()):
                    check_all_chunks(dataset)
                    compared += bool(dataset.id.get_storage_size())
    assert compared > 250

"""Pictures in a tree: images as the HDF5 Image specification says, line plots, hostile arrays."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.png import decode_png
from support.stores import open_store
from tree.test_views import ALL, opened, read_all

from h5fs.errors import H5fsError, NotFoundError
from h5fs.model.settings import Mode, StoreOptions, View, ViewOptions
from h5fs.tree import Tree, WritableTree
from h5fs.tree.contents import picture_content

Attributes = dict[str, Any]
LINE = (26, 95, 180)  # the colour of a plot's line

GREY = np.arange(20, dtype="u1").reshape(4, 5)
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), "u1")
PALETTE = np.random.default_rng(1).integers(0, 256, (20, 3), "u1")


def image(subclass: str, **more: Any) -> Attributes:
    return {
        "CLASS": np.bytes_("IMAGE"), "IMAGE_VERSION": np.bytes_("1.2"),
        "IMAGE_SUBCLASS": np.bytes_(f"IMAGE_{subclass}"), **more,
    }  # fmt: skip


def scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    return np.clip((values - low) * 255.0 / (high - low), 0, 255).astype("u1")


def true_colour(mode: str) -> Attributes:
    return image("TRUECOLOR", INTERLACE_MODE=np.bytes_(f"INTERLACE_{mode}"))


IMAGES: dict[str, tuple[npt.NDArray[Any], Attributes, npt.NDArray[Any]]] = {
    "grey": (GREY, image("GRAYSCALE"), GREY),
    "bitmap": (GREY % 2 * 255, image("BITMAP", IMAGE_WHITE_IS_ZERO=np.uint8(0)), GREY % 2 * 255),
    "white is zero": (GREY, image("GRAYSCALE", IMAGE_WHITE_IS_ZERO=np.uint8(1)), 255 - GREY),
    "range": (
        GREY, image("GRAYSCALE", IMAGE_MINMAXRANGE=np.array([5, 15], "u1")),
        scaled(GREY.astype(float), 5, 15),
    ),
    "range the wrong way": (
        GREY, image("GRAYSCALE", IMAGE_MINMAXRANGE=np.array([15, 5], "u1")), GREY
    ),
    "float range": (
        GREY / 19, image("GRAYSCALE", IMAGE_MINMAXRANGE=np.array([0.0, 1.0])), GREY / 19 * 255
    ),
    "one component": (GREY[:, :, None], image("GRAYSCALE"), GREY),
    "one component first": (GREY[None], image("GRAYSCALE"), GREY),
    "lower left": (GREY, image("GRAYSCALE", DISPLAY_ORIGIN=np.bytes_("LL")), GREY[::-1]),
    "upper right": (GREY, image("GRAYSCALE", DISPLAY_ORIGIN="UR"), GREY[:, ::-1]),
    "lower right": (COLOURS, image("TRUECOLOR", DISPLAY_ORIGIN="LR"), COLOURS[::-1, ::-1]),
    "pixel": (COLOURS, true_colour("PIXEL"), COLOURS),
    "plane": (COLOURS.transpose(2, 0, 1), true_colour("PLANE"), COLOURS),
    "line": (COLOURS.transpose(0, 2, 1), true_colour("LINE"), COLOURS),
    "16 bits": (COLOURS.astype("u2") * 257, true_colour("PIXEL"), COLOURS),
    "plane that is none": (COLOURS, true_colour("PLANE"), COLOURS),
    "indexed": (GREY, image("INDEXED", PALETTE="palette"), PALETTE[GREY]),
    "indexed beyond": (GREY + 10, image("INDEXED", PALETTE="palette"),
                       PALETTE[np.minimum(GREY + 10, 19)]),
    "grey with palette": (GREY, image("GRAYSCALE", PALETTE="wide",
                          IMAGE_MINMAXRANGE=np.array([0, 255], "u1")), GREY),
    "palette of floats": (GREY, image("INDEXED", PALETTE="floats"), PALETTE[GREY]),
    "palette nowhere": (GREY, image("INDEXED", PALETTE="gone"), GREY),
    "palette a group": (GREY, image("INDEXED", PALETTE="group"), GREY),
    "palette of text": (GREY, image("INDEXED", PALETTE="text"), GREY),
    "palette of hues": (GREY, image("INDEXED", PALETTE="hues"), GREY),
    "no palette": (GREY, image("INDEXED", PALETTE=b"none"), GREY),
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    path = tmp_path_factory.mktemp("images") / "f.h5"
    with h5py.File(path, "w") as f:
        palettes = {
            "palette": f.create_dataset("p/palette", data=PALETTE),
            "floats": f.create_dataset("p/floats", data=PALETTE / 255.0),
            "wide": f.create_dataset(
                "p/wide", data=np.arange(65536).repeat(3).reshape(-1, 3) // 256
            ),
            "group": f.create_group("p/group"),
            "text": f.create_dataset("p/text", data=[["a", "b", "c"]]),
            "hues": f.create_dataset("p/hues", data=PALETTE),
            "gone": f.create_dataset("p/gone", data=PALETTE),
        }
        palettes["hues"].attrs["PAL_COLORMODEL"] = np.bytes_("HSV")
        for name, (array, attributes, _) in IMAGES.items():
            dataset = f.create_dataset(name, data=array)
            for key, value in attributes.items():
                is_name = key == "PALETTE" and isinstance(value, str)
                references = [palettes[value].ref] if is_name else []
                dataset.attrs[key] = np.array(references, h5py.ref_dtype) if is_name else value
        del f["p/gone"]
    with opened(path, workers=0) as tree:
        yield tree


@pytest.mark.semantics("V11")
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_shown_as_its_attributes_say(images: Tree, name: str) -> None:
    expected = IMAGES[name][2].astype("u1")
    path = f"/{name}.png".encode()
    file = read_all(images, path)
    assert len(file) == images.get_status(path).size_bytes
    if expected.ndim == 2:
        expected = np.repeat(expected[:, :, None], 3, axis=2)
    pixels = decode_png(file)
    assert (pixels[:, :, 3] == 255).all()
    difference = np.abs(pixels[:, :, :3].astype(int) - expected)
    # Of floats one of 256 shades is for what is transparent.
    assert difference.max() <= (1 if IMAGES[name][0].dtype.kind == "f" else 0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")), pixels)


@pytest.mark.semantics("V11")
def test_the_transparent_index_is_transparent(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as f:
        dataset = f.create_dataset("d", data=np.arange(256, dtype="u1").reshape(16, 16))
        dataset.attrs.update(image("INDEXED", IMAGE_TRANSPARENCY=np.uint32(7)))
        f["p"] = np.random.default_rng(2).integers(0, 256, (256, 3), "u1")
        dataset.attrs["PALETTE"] = f["p"].ref
    with opened(tmp_path / "f.h5", workers=0) as tree:
        alphas = decode_png(read_all(tree, b"/d.png"))[:, :, 3].reshape(-1)
    assert np.flatnonzero(alphas == 0).tolist() == [7]


# --- line plots


def is_line(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where a plot shows its line."""
    near = np.abs(pixels[:, :, :3].astype(int) - LINE).max(axis=2) < 40
    return near[60:500, 60:]  # beside the labels


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.h5"
    with h5py.File(path, "w") as f:
        values = np.ones(1_000_000)
        values[700_000] = 2
        values[300_000:400_000] = np.nan
        f.create_dataset("spike", data=values, chunks=(2**16,), compression="gzip")
        f.create_dataset("large", (10**9,), "f4", chunks=(2**14,), fillvalue=1)
        f["scale"] = np.linspace(5, 1, 50)
        f["scale"].make_scale("time")
        f["scale"].attrs["units"] = "s"
        f["along"] = np.arange(50)
        f["along"].dims[0].attach_scale(f["scale"])
    return path


@pytest.mark.semantics("V12")
def test_a_line_shows_each_spike_and_a_gap_where_nothing_is_finite(lines: Path) -> None:
    # In a worker: Pillow is imported there, after it was confined.
    with opened(lines, ViewOptions(frozenset({View.PICTURE})), workers=1) as tree:
        file = read_all(tree, b"/spike.png")
        assert len(file) == tree.get_status(b"/spike.png").size_bytes
    shown = is_line(decode_png(file))
    columns = np.flatnonzero(shown.any(axis=0))
    first, last = columns[0], columns[-1]
    spike = np.flatnonzero(shown.sum(axis=0) > 300)  # from the lowest to the highest value
    assert abs(spike.mean() - (first + 0.7 * (last - first))) < 2
    gap = np.flatnonzero(np.diff(columns) > 1)
    assert len(gap) == 1
    assert abs(columns[gap[0]] - (first + 0.3 * (last - first))) < 3
    assert abs(columns[gap[0] + 1] - (first + 0.4 * (last - first))) < 3


@pytest.mark.semantics("V12")
def test_of_a_large_array_few_whole_chunks_are_read_and_the_picture_says_so(lines: Path) -> None:
    with opened(lines, ALL, workers=0) as tree:
        store: Any = tree._store
        touched: list[tuple[int, int]] = []
        orders: list[Any] = []
        read_into, make_view = store.read_into, store.make_view

        def note(ref: Any, dataset: Any, part: Any, offset: int, buffer: memoryview) -> None:
            touched.append((offset // 4, len(buffer) // 4))
            read_into(ref, dataset, part, offset, buffer)

        def note_order(ref: Any, order: Any, data: bytes, buffer: memoryview) -> None:
            orders.append(order)
            make_view(ref, order, data, buffer)

        store.read_into, store.make_view = note, note_order
        assert is_line(decode_png(read_all(tree, b"/large.png"))).any()
        assert len(touched) == 128
        assert (touched[0][0], sum(touched[-1])) == (0, 10**9)
        assert all(start % 2**14 == 0 and count == 2**14 for start, count in touched[:-1])
        (large,) = orders
        assert (large.labels.title, large.labels.x) == ("large", "index")
        read_all(tree, b"/along.png")
        assert (orders[1].labels.title, orders[1].labels.x) == ("along", "scale (s)")
        assert np.frombuffer(orders[1].scale, orders[1].scale_dtype)[-1] == 1


@pytest.mark.semantics("V12")
def test_without_pillow_there_are_no_line_plots_and_one_sentence_says_so(
    lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert picture_content.missing_for(ALL) == ""
    monkeypatch.setattr(picture_content, "_can_draw", lambda: False)
    assert "h5fs[views]" in picture_content.missing_for(ALL)
    assert picture_content.missing_for(ViewOptions(frozenset({View.TABLE}))) == ""
    with opened(lines, workers=0) as tree:
        assert not any(d.name.endswith(b".png") for d in tree.list_folder(b"/"))
        with pytest.raises(NotFoundError):
            tree.get_status(b"/spike.png")


# --- what may be in any file


@pytest.mark.semantics("V7")
def test_hostile_arrays_cost_an_error_each_and_their_neighbours_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w", libver="latest") as f:
        f.create_dataset("wide", (2**31, 2**31), "u1", chunks=(2**10, 2**10))
        f.create_dataset("long", (2**62,), "u1", chunks=(2**20,))
        f.create_dataset("tall", (2**40, 2), "f8", chunks=(1000, 2))
        f.create_dataset("deep", (2**40, 8, 8), "u1", chunks=(1, 8, 8), fillvalue=3)
        f.create_dataset("row", (1, 2**31), "u1", chunks=(1, 2**20), fillvalue=3)
        f["members"] = np.zeros(3, [(f"m{i}", "i1") for i in range(3000)])
        f["text"] = np.zeros((4, 5, 3), "S2")
        f["nothing"] = np.zeros((0, 5, 3))
        broken = f.create_dataset("broken", (100, 100), "f8", chunks=(10, 10), compression="gzip")
        broken.id.write_direct_chunk((50, 50), b"no deflate stream")
        f["fine"] = np.eye(5)
        f["fine"].attrs["DIMENSION_LIST"] = 5
        f["line"] = np.arange(5)
        f["line"].attrs["DIMENSION_LIST"] = np.array([f["fine"].ref] * 3, h5py.ref_dtype)
        f["line"].attrs["units"] = "\x07" * 1000
    with opened(path, workers=1) as tree:
        names = {d.name for d in tree.list_folder(b"/")}
        shown = {name[:-4] for name in names if name.endswith(b".png")}
        assert shown == {b"long", b"deep", b"row", b"broken", b"fine", b"line"}
        with pytest.raises(H5fsError):
            read_all(tree, b"/broken.png")
        for name in sorted(shown - {b"broken"}):
            picture = Image.open(io.BytesIO(read_all(tree, b"/" + name + b".png")))
            assert max(picture.size) <= 1024
        monkeypatch.setattr(picture_content, "_MOST_SECONDS", -1)  # four others were made since
        with pytest.raises(H5fsError, match="takes more than"):
            read_all(tree, b"/deep.png")
        assert read_all(tree, b"/members.csv").count(b",") == 4 * 2999


@pytest.mark.semantics("V9", "V11")
def test_a_picture_follows_its_attributes_and_its_palette(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["d"], f["p"] = GREY, PALETTE
        f["d"].attrs.update(image("INDEXED", PALETTE=f["p"].ref))
    store: Any = open_store(StoreOptions(tmp_path / "f.h5", mode=Mode.UPDATE))
    tree = WritableTree(store, views=ALL, leftovers=tmp_path / "left")

    def change(path: bytes, make: Callable[[bytes], bytes]) -> None:
        data = make(read_all(tree, path))
        handle = tree.open(path, os.O_WRONLY | os.O_TRUNC)
        tree.write(handle, memoryview(data), 0)
        tree.flush(handle, 0)
        tree.release(handle)

    def shown() -> npt.NDArray[Any]:
        return decode_png(read_all(tree, b"/d.png"))[:, :, :3]

    try:
        assert np.array_equal(shown(), PALETTE[GREY])
        change(b"/d.attrs.json", lambda text: text.replace(b"{", b'{"DISPLAY_ORIGIN": "LL",', 1))
        assert np.array_equal(shown(), PALETTE[GREY][::-1])
        change(b"/p.npy", lambda npy: npy[:-1] + bytes([npy[-1] ^ 255]))
        assert np.array_equal(shown()[-1, :4], PALETTE[GREY][0, :4])
        assert shown()[0, -1, 2] == PALETTE[19, 2] ^ 255
        for path, place in ((b"/d.npy", 128), (b"/p.npy", 128 + 3 * int(GREY[0, 0]))):
            before = shown()
            handle = tree.open(path, os.O_RDWR)  # in place
            (old,) = tree.read(handle, 1, place)
            tree.write(handle, memoryview(bytes([old ^ 16])), place)
            assert not np.array_equal(shown(), before)
            tree.write(handle, memoryview(bytes([old])), place)
            assert np.array_equal(shown(), before)
            tree.release(handle)
    finally:
        tree.close()
        store.close()

"""Pictures: files of known size, that show the elements they should."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.png import decode_png

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.pictures import picture_size, project_picture, render_picture
from h5fs.projection.views.png import encode_png, png_size
from h5fs.projection.views.view_requests import ImageLook, Interlace


def picture_of(
    array: npt.NDArray[Any], size: int = 1024, look: ImageLook | None = None
) -> npt.NDArray[np.uint8]:
    described = DatasetInfo(array.shape, array.dtype, 0)
    picture = project_picture(described, size, look)
    planes = array.reshape(-1, picture.rows, *picture.row_items)
    shown = planes[list(picture.stored_planes)][:, :: picture.step, :, :: picture.step]
    size_bytes = picture_size(described, size)
    file = render_picture(picture, array.dtype, shown.tobytes(), look, size_bytes)
    assert len(file) == size_bytes
    pixels = decode_png(file)
    assert max(pixels.shape[:2]) <= max(size, picture.across)
    return pixels


@pytest.mark.semantics("V7")
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (300, 400), (1, 65_535)])
def test_a_png_has_its_pixels_and_the_size_that_its_dimensions_say(
    height: int, width: int, channels: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    palette = np.random.default_rng(1).integers(0, 256, (256, 4), np.uint8)
    expected = palette[pixels[:, :, 0]] if channels == 1 else pixels
    for more in (0, 12, 1000):
        size = png_size(width, height, channels)
        file = encode_png(pixels, palette, size + more)
        assert len(file) == size + more
        assert np.array_equal(decode_png(file)[:, :, : expected.shape[2]], expected)
    opened = Image.open(io.BytesIO(file)).convert("RGBA")  # another decoder, padding and all
    assert np.array_equal(np.asarray(opened)[:, :, : expected.shape[2]], expected)


@pytest.mark.semantics("V7")
@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.sampled_from(["u1", ">i2", "<f4", "?", "<c8", "f2"]),
    st.sampled_from([16, 50, 1024]),
    st.sampled_from([None, *(ImageLook(interlace=each) for each in Interlace)]),
)
def test_pictures_of_any_array_have_the_size_that_was_said(
    shape: list[int], dtype: str, size: int, look: ImageLook | None
) -> None:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    data = (np.arange(count) * 7 % 256).astype(np.uint8)
    picture_of(data.view(dtype).reshape(shape), size, look)


@pytest.mark.semantics("V7")
def test_contrast_is_that_of_most_elements_and_nan_is_transparent() -> None:
    array = np.linspace(0, 1, 10_000).reshape(100, 100)
    array[0, 0], array[50, 50] = 1e9, np.nan
    pixels = picture_of(array)
    assert (pixels[0, 0, 0], pixels[99, 99, 0], pixels[0, 1, 0]) == (255, 255, 0)
    assert (pixels[50, 50, 3], pixels[50, 51, 3]) == (0, 255)
    assert 100 < pixels[49, 0, 0] < 150


@pytest.mark.semantics("V7")
def test_colours_are_as_they_are_and_stacks_are_sheets_of_nine() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(picture_of(colours)[:, :, :3], colours)
    stack = np.arange(36, dtype="u2")[:, None, None] + np.zeros((36, 50, 60), "u2")
    sheet = picture_of(stack)
    assert sheet.shape == (154, 184, 4)
    shades = sheet[25::52, 30::62, 0].reshape(-1).tolist()
    assert shades == sorted(shades) and shades[0] == 0 and shades[-1] == 255
    large = project_picture(DatasetInfo((36, 2048, 2048), np.dtype("u2"), 0), 1024)
    assert (large.planes, large.tile) == ((18,), (1024, 1024))


@pytest.mark.semantics("V7")
def test_what_has_no_picture() -> None:
    for shape, dtype in (((5,), "f8"), ((2, 0), "f8"), ((2, 2), "S3"), ((2,) * 5, "f8")):
        with pytest.raises(UnsupportedTypeError):
            project_picture(DatasetInfo(shape, np.dtype(dtype), 0), 1024)
    with pytest.raises(TooLargeError):
        project_picture(DatasetInfo((10**6, 10**6), np.dtype("f8"), 0), 1024)


@pytest.mark.semantics("V7")
@pytest.mark.parametrize("dtype", ["f2", "f8", "c16", ">f4"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_arrays_without_a_finite_element_are_transparent(dtype: str, value: float) -> None:
    assert not picture_of(np.full((5, 4), value, dtype))[:, :, 3].any()


@pytest.mark.semantics("V7")
def test_the_whole_range_of_floats_has_shades() -> None:
    array = np.linspace(-1, 1, 100).reshape(10, 10) * 1.7e308
    shades = picture_of(array)[:, :, 0].reshape(-1).tolist()
    assert shades == sorted(shades) and shades[0] == 0 and shades[-1] == 255


@pytest.mark.semantics("V7")
def test_a_last_dimension_of_one_is_no_dimension() -> None:
    array = np.arange(15, dtype="u1").reshape(3, 5)
    assert np.array_equal(picture_of(array[:, :, None]), picture_of(array))
    assert np.array_equal(picture_of(array[None]), picture_of(array))

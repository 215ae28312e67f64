"""Pictures: files of known size, that show the elements they should."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5fs.errors import TooLargeError, UnsupportedTypeError
from h5fs.model.objects import DatasetInfo
from h5fs.projection.views.pictures import project_picture, render_picture
from h5fs.projection.views.png import encode_png, png_size

CHANNELS = {0: 1, 4: 2, 2: 3, 6: 4}


def decode(file: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of a PNG file with filter 0, checking every checksum."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, header = 8, b"", b""
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        name, body = file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", file, at + 8 + length)[0] == zlib.crc32(name + body)
        header = body if name == b"IHDR" else header
        data += body if name == b"IDAT" else b""
        at += 12 + length
    assert name == b"IEND"
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", header)
    assert (depth, rest) == (8, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, CHANNELS[colour_type])


def picture_of(array: npt.NDArray[Any], size: int = 1024) -> npt.NDArray[np.uint8]:
    picture = project_picture(DatasetInfo(array.shape, array.dtype, 0), size)
    planes = array.reshape(-1, picture.rows, picture.columns, picture.colours)
    shown = planes[list(picture.planes)][:, :: picture.step, :: picture.step]
    file = render_picture(picture, array.dtype, shown.tobytes())
    assert len(file) == picture.size_bytes
    pixels = decode(file)
    assert max(pixels.shape[:2]) <= max(size, picture.across)
    return pixels


@pytest.mark.semantics("V7")
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (300, 400), (1, 65_535)])
def test_a_png_has_its_pixels_and_the_size_that_its_dimensions_say(
    height: int, width: int, channels: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    file = encode_png(pixels)
    assert len(file) == png_size(width, height, channels)
    assert np.array_equal(decode(file), pixels)


@pytest.mark.semantics("V7")
@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.sampled_from(["u1", ">i2", "<f4", "?", "<c8", "f2"]),
    st.sampled_from([16, 50, 1024]),
)
def test_pictures_of_any_array_have_the_size_that_was_said(
    shape: list[int], dtype: str, size: int
) -> None:
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    data = (np.arange(count) * 7 % 256).astype(np.uint8)
    picture_of(data.view(dtype).reshape(shape), size)


@pytest.mark.semantics("V7")
def test_contrast_is_that_of_most_elements_and_nan_is_transparent() -> None:
    array = np.linspace(0, 1, 10_000).reshape(100, 100)
    array[0, 0], array[50, 50] = 1e9, np.nan
    pixels = picture_of(array)
    assert pixels.shape == (100, 100, 2)
    assert (pixels[0, 0, 0], pixels[99, 99, 0], pixels[0, 1, 0]) == (255, 255, 0)
    assert (pixels[50, 50, 1], pixels[50, 51, 1]) == (0, 255)
    assert 100 < pixels[49, 0, 0] < 150


@pytest.mark.semantics("V7")
def test_colours_are_as_they_are_and_stacks_are_sheets_of_nine() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(picture_of(colours), colours)
    stack = np.arange(36, dtype="u2")[:, None, None] + np.zeros((36, 50, 60), "u2")
    sheet = picture_of(stack)
    assert sheet.shape == (150, 180, 1)
    shades = sheet[25::50, 30::60, 0].reshape(-1).tolist()
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

"""Soft links whose names end as a file's: what the stored path says, and that HDF5 skips it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5fs.errors import InvalidNameError
from h5fs.projection.names import Projection
from h5fs.projection.soft_links import endings_of, mark, unmarked, with_ups, without_ups

ENDINGS = [each for each in Projection if each is not Projection.FOLDER]
COMPONENTS = st.lists(st.sampled_from([b"a", b"g", b"..x", b"x.npy", b".hidden"]), max_size=3)
PATHS = st.builds(
    lambda parts, is_absolute: (b"/" if is_absolute else b"") + (b"/".join(parts) or b"."),
    COMPONENTS, st.booleans(),
)  # fmt: skip


@given(PATHS, st.sampled_from(ENDINGS), st.booleans())
def test_a_stored_path_says_both_endings_and_is_the_path_without(
    path: bytes, own: Projection, is_same: bool
) -> None:
    target = own if is_same else Projection.FOLDER
    stored = mark(path, own, target)
    assert endings_of(stored) == (own, target)
    assert unmarked(stored) == path
    assert stored.startswith(b"/") == path.startswith(b"/")
    assert mark(stored, Projection.FOLDER, target) == path
    assert mark(stored, own, own) == mark(path, own, own)


@given(PATHS, st.integers(0, 3))
def test_what_other_programs_store_says_nothing(path: bytes, dots: int) -> None:
    stored = b"./" * dots + path.lstrip(b"/")
    assert endings_of(stored) == (Projection.FOLDER, None)
    assert unmarked(stored) == stored


def test_more_dots_than_there_are_endings_say_nothing() -> None:
    assert endings_of(b"./" * 13 + b"x")[0] is Projection.DATATYPE
    assert endings_of(b"./" * 14 + b"x")[0] is Projection.FOLDER


def test_two_unlike_endings_are_refused() -> None:
    with pytest.raises(InvalidNameError, match=r"\.npy"):
        mark(b"/x", Projection.ARRAY, Projection.ATTRIBUTES)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_hdf5_follows_every_one(tmp_path: Path, is_absolute: bool) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["g/real"] = np.arange(3)
        for own in ENDINGS:
            for target in (own, Projection.FOLDER):
                stored = mark(b"/g/real" if is_absolute else b"real", own, target)
                file["g/link"] = h5py.SoftLink(stored.decode())
                assert file.get("g/link", getlink=True).path == stored.decode()
                assert file["g/link"] == file["g/real"]
                del file["g/link"]


UPS = [b"..", b"%2E%2E", b"%252E%2E", b"%25252E%2E", b".", b"", b"a", b"...", b"%2E%2Ex"]


@given(st.lists(st.sampled_from(UPS), max_size=6).map(b"/".join))
def test_a_path_is_spelled_without_ups_and_read_back(path: bytes) -> None:
    text = without_ups(path)
    assert b".." not in text.split(b"/")
    assert with_ups(text) == path

"""Attributes that programs write as a whole set, or one by one: without a mount."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from support.trees import save, writable_tree


@pytest.fixture
def scales(tmp_path: Path) -> Path:
    """A file with a dataset ``t``, whose one dimension is ``lat``, as netCDF-C writes it."""
    file = tmp_path / "f.nc"
    with h5py.File(file, "w") as opened:
        opened["lat"], opened["t"] = np.arange(3.0), np.arange(3)
        opened["lat"].attrs["title"] = "old"
        opened["lat"].attrs["_Netcdf4Dimid"] = np.int32(0)
        opened["lat"].make_scale("lat")
        opened["t"].dims[0].attach_scale(opened["lat"])
        opened["t"].dims[0].label = "latitude"
    return file


def check_scales(file: Path) -> None:
    with h5py.File(file) as opened:
        assert opened["lat"].is_scale
        assert opened["t"].dims[0][0] == opened["lat"]
        assert opened["t"].dims[0].label == "latitude"
        assert opened["lat"].attrs["_Netcdf4Dimid"] == 0
        assert [opened[each[0]].name for each in opened["lat"].attrs["REFERENCE_LIST"]] == ["/t"]


@pytest.mark.semantics("A6", "R11")
def test_dimension_scales_stay_when_a_written_set_does_not_name_them(scales: Path) -> None:
    with writable_tree(scales) as tree:
        save(tree, b"/lat.attrs.json", b'{"units": "degC"}')
        save(tree, b"/t.attrs.json", b"{}")
    check_scales(scales)
    with h5py.File(scales) as opened:
        assert opened["lat"].attrs["units"] == "degC"
        assert "title" not in opened["lat"].attrs


@pytest.mark.semantics("A6", "R11")
def test_dimension_scales_stay_when_an_editor_moves_the_old_text_away_first(scales: Path) -> None:
    with writable_tree(scales) as tree:
        tree.rename(b"/lat.attrs.json", b"/lat.attrs.json~")
        save(tree, b"/lat.attrs.json", b'{"units": "degC"}')
        tree.unlink(b"/lat.attrs.json~")
    check_scales(scales)


@pytest.mark.semantics("A6")
def test_what_the_library_keeps_is_removed_when_it_is_named_null(scales: Path) -> None:
    with writable_tree(scales) as tree:
        save(tree, b"/t.attrs.json", b'{"DIMENSION_LIST": null, "DIMENSION_LABELS": null}')
    with h5py.File(scales) as opened:
        assert not opened["t"].attrs

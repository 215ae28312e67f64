"""A handful of other people's files, by ``cp -a`` out of one mount and into another."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.round_trip import BAD_RESULTS, check_round_trip
from support.waiting import PATIENCE_SECONDS

HDF5 = "lrknox__hdf5"
FILES = [
    f"{HDF5}/tools/test/h5dump/testfiles/tloop.h5",  # hard links in a circle
    f"{HDF5}/HDF5Examples/C/H5G/h5ex_g_traverse.h5",
    f"{HDF5}/tools/test/h5dump/testfiles/textlinksrc.h5",  # external links, dangling ones
    f"{HDF5}/tools/test/h5repack/testfiles/h5repack_layouto.h5",  # beyond what off_t holds
    "HDFGroup__hdf5-json/data/hdf5/bitfield_dset.h5",
    "PyTables__PyTables/tables/tests/attr-u16.h5",  # an attribute that h5py cannot read
    "HDFGroup__hdfview/hdfview/src/test/resources/uitest/tfloat8.h5",
    "HDFGroup__hdfview/hdfview/src/test/resources/uitest/HDF5UITests/BugFixTests/"
    "bug0365_dset_degree_sign.h5",  # Latin-1 link names
]


@pytest.mark.parametrize("name", FILES)
def test_what_could_be_read_is_equal_after_two_copies(corpus: Path, name: str) -> None:
    outcomes = check_round_trip(corpus / name, seconds=4 * PATIENCE_SECONDS)
    assert [each for each in outcomes if each.result in BAD_RESULTS] == []
    assert any(each.result == "equal" for each in outcomes)

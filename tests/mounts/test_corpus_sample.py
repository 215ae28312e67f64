"""A handful of other people's files that bite, checked object by object with scripts/corpus.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent.parent / "scripts" / "corpus.py"
HDF5_TOOLS = "lrknox__hdf5/tools/test"
QUICK_FILES = [
    f"{HDF5_TOOLS}/h5dump/testfiles/tloop.h5",  # hard links in a circle
    "lrknox__hdf5/HDF5Examples/C/H5G/h5ex_g_traverse.h5",
    f"{HDF5_TOOLS}/h5dump/testfiles/textlinksrc.h5",  # external links, chains of them
    f"{HDF5_TOOLS}/h5dump/testfiles/tudlink.h5",  # user-defined links
    f"{HDF5_TOOLS}/h5repack/testfiles/h5repack_int32le_2d_ex.h5",  # raw data outside
    f"{HDF5_TOOLS}/h5repack/testfiles/h5repack_layouto.h5",  # beyond what off_t holds
    "HDFGroup__hdf5-json/data/hdf5/bitfield_dset.h5",
    "HDFGroup__hdfview/hdfview/src/test/resources/uitest/tfloat8.h5",
    "HDFGroup__hdfview/hdfview/src/test/resources/uitest/HDF5UITests/BugFixTests/"
    "bug0365_dset_degree_sign.h5",  # Latin-1 link names
    "PyTables__PyTables/tables/tests/attr-u16.h5",  # an attribute that h5py cannot read
]


@pytest.mark.semantics("D1", "D13", "E2", "E4")
def test_files_that_bite_are_equal_or_rightly_refused(corpus: Path) -> None:
    files = [corpus / name for name in QUICK_FILES]
    missing = [str(file) for file in files if not file.is_file()]
    assert not missing
    done = subprocess.run(
        [sys.executable, PROGRAM, "--verbose", *files],
        capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

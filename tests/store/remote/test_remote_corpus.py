"""A handful of other people's files at a web server, compared by scripts/corpus_remote.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "scripts" / "corpus_remote.py"
HDF5_TOOLS = "lrknox__hdf5/tools/test"
QUICK_FILES = [
    f"{HDF5_TOOLS}/h5dump/testfiles/tloop.h5",
    "lrknox__hdf5/HDF5Examples/C/H5G/h5ex_g_traverse.h5",
    f"{HDF5_TOOLS}/h5dump/testfiles/textlinksrc.h5",
    f"{HDF5_TOOLS}/h5repack/testfiles/h5repack_int32le_2d_ex.h5",
    f"{HDF5_TOOLS}/h5repack/testfiles/h5repack_layouto.h5",
    "HDFGroup__hdf5-json/data/hdf5/bitfield_dset.h5",
    "HDFGroup__hdfview/hdfview/src/test/resources/uitest/tfloat8.h5",
    "PyTables__PyTables/tables/tests/attr-u16.h5",
]


@pytest.mark.semantics("Z42")
def test_files_that_bite_are_at_a_server_what_they_are_here(corpus: Path) -> None:
    files = [corpus / name for name in QUICK_FILES]
    assert all(file.is_file() for file in files)
    done = subprocess.run(
        [sys.executable, PROGRAM, *files], capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Large new arrays that programs fill by a map, as ``np.lib.format.open_memmap`` lets them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy_format
from support.mounts import needs_libfuse_3
from support.reference import npy_bytes
from support.writing import make_file, written

MB = 2**20


@needs_libfuse_3
@pytest.mark.semantics("U17", "R6")
def test_a_large_array_that_is_mapped_and_filled_is_not_written_to_the_log(tmp_path: Path) -> None:
    file = make_file(tmp_path / "f.h5")
    array = np.arange(16 * MB // 8).reshape(-1, 1024)
    with written(file) as mount:
        path = mount.path / "new.npy"
        mapped = npy_format.open_memmap(path, "w+", array.dtype, array.shape)
        assert not np.load(path).any()
        for start in range(0, len(array), 256):
            mapped[start : start + 256] = array[start : start + 256]
        mapped.flush()
        assert file.with_name("f.h5.h5fs-log").stat().st_size < 4 * MB
        assert path.read_bytes() == npy_bytes(array)
        mapped[100, 7] = -5
        mapped.flush()
        del mapped
        array[100, 7] = -5
        assert path.read_bytes() == npy_bytes(array)
    with h5py.File(file) as opened:
        assert npy_bytes(opened["new"][()]) == npy_bytes(array)

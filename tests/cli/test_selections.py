"""Parts of arrays on the command line."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest

from h5fs.cli import main
from h5fs.cli.commands.selections import read_selection, split_selection
from h5fs.cli.commands.without_mount import opened_tree
from h5fs.errors import H5fsError, MountError, UsageError
from h5fs.model.settings import StoreOptions

ARRAY = np.arange(4 * 5 * 6, dtype="<i4").reshape(4, 5, 6)


@pytest.mark.semantics("C2")
def test_a_part_of_an_array_is_what_numpy_selects(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["a"] = ARRAY
        opened.create_dataset("large", (2**33,), "u1", chunks=(2**20,), fillvalue=7)
        opened["one"] = 5.0
        opened.attrs["title"] = "x"
        pairs = opened.create_dataset("pairs", (2,), np.dtype(("<i4", (2,))))
        pairs[...] = [[1, 2], [3, 4]]
        lists = opened.create_dataset("lists", (2,), h5py.vlen_dtype("<i4"))
        lists[0], lists[1] = [1], [2, 3]
    parts = ("0", "-1", ":", "1:3", "::-1", "3:0:-2", "5:2", "...", "::3")
    with opened_tree(StoreOptions(file)) as tree:
        for count in (1, 2, 3):
            for chosen in itertools.product(parts, repeat=count):
                text = ", ".join(chosen)
                if text.count("...") > 1:
                    continue
                expected = eval(f"ARRAY[{text}]")
                found = read_selection(tree, b"/a.npy", text)
                assert found.dtype == expected.dtype and found.shape == expected.shape, text
                assert (found == expected).all(), text
        assert read_selection(tree, b"/one.npy", "...") == 5
        # Were more read than it needs, this would take minutes.
        assert (read_selection(tree, b"/large.npy", "1::4294967296") == [7, 7]).all()
        for text in ("4", "-5", "0,0,0,0"):
            with pytest.raises(MountError):
                read_selection(tree, b"/a.npy", text)
        for text in ("", "x", "::0", "...,...", "1.5", "None", "1:2:3:4"):
            with pytest.raises(UsageError):
                read_selection(tree, b"/a.npy", text)
        assert (read_selection(tree, b"/pairs.npy", "1, 0") == 3).all()
        assert (read_selection(tree, b"/lists.offsets.npy", "-1") == 3).all()
        with pytest.raises(H5fsError, match="not a"):
            read_selection(tree, b"/.attrs.json", "0")
    assert main.main(["cat", f"{file}:/a[1,:2]"]) == 0
    written = capfdbinary.readouterr().out
    assert (np.load(io.BytesIO(written)) == ARRAY[1, :2]).all()
    tables = []
    places = ["--csv", "a.npy[0]"], ["--csv", "one.npy"], ["one.csv"]
    for *options, place in places:
        status = main.main(["cat", *options, f"{file}:/{place}"])
        tables.append((status, capfdbinary.readouterr().out))
    assert tables[0] == (2, b"")
    assert tables[1] == tables[2] and b"5.0" in tables[1][1]


def test_brackets_elsewhere_than_at_the_end_are_part_of_the_name() -> None:
    assert split_selection(b"/a[0].npy") == (b"/a[0].npy", None)
    assert split_selection(b"/a[0].npy[1:2]") == (b"/a[0].npy", "1:2")

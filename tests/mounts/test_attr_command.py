"""``h5fs attr``: attributes of one object, without a mount."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import run_h5fs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w") as opened:
        opened["g/d"] = np.arange(3)
        opened["g/d"].attrs["old"] = np.float32(1)
        opened["g/d"].make_scale("d")
        opened["g"].attrs["title"] = "t"
    return file


@pytest.mark.semantics("C10")
def test_attributes_are_set_removed_and_shown(file: Path) -> None:
    done = run_h5fs("attr", f"{file}:/g/d", "units=degC", "n=[1, 2]", "flag=true", "old=")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run_h5fs("attr", f"{file}:/g/d.npy", "units=a=b").returncode == 0
    assert run_h5fs("attr", str(file), "count=3").returncode == 0
    with h5py.File(file) as opened:
        attributes = opened["g/d"].attrs
        assert opened["g/d"].is_scale
        assert set(attributes) == {"CLASS", "NAME", "units", "n", "flag"}
        assert attributes["units"] == "a=b"
        assert attributes["n"].tolist() == [1, 2]
        assert attributes["flag"] is np.True_
        assert opened.attrs["count"] == 3
    assert json.loads(run_h5fs("attr", f"{file}:/g").stdout) == {"title": "t"}
    assert not Path(f"{file}.h5fs-log").exists()


@pytest.mark.semantics("C10")
@pytest.mark.parametrize(
    ("place", "change", "status", "words"),
    [
        (":/g/x", "a=1", 1, "no such object; h5fs tree"),
        (":/g/d", "a", 2, "a is no NAME=VALUE"),
        (":/g/d", "a=[1, {}]", 1, "no type follows"),
        (":/g/d", "old=high", 1, """(to make it text: 'old="high"')"""),
        (":/g/d", "nope=", 1, "/g/d: no attribute nope"),
        ("", "nope=", 1, "/: no attribute nope"),
        (".none", "a=1", 1, "no such file"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    file: Path, place: str, change: str, status: int, words: str
) -> None:
    before = file.read_bytes()
    done = run_h5fs("attr", f"{file}{place}", "units=degC", change)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert file.read_bytes() == before


@pytest.mark.semantics("C10")
def test_an_empty_text_is_no_removal(file: Path) -> None:
    assert run_h5fs("attr", f"{file}:/g", 'title=""', 'new=""').returncode == 0
    with h5py.File(file) as opened:
        assert dict(opened["g"].attrs) == {"title": "", "new": ""}

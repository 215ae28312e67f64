"""Views through real mounts: what `ls`, `cp`, `tail` and CSV readers see."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import mounted, needs_libfuse_3, run_h5fs

import h5fs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        values = np.random.default_rng(1).normal(size=(20_000, 3))
        values[7, 1] = np.nan
        values[8] = np.nan
        f.create_dataset("table", data=values, chunks=(1000, 3), compression="gzip")
        f["group/text"] = ["abc", "x, y"]
    return path


@pytest.mark.semantics("V1", "V3", "V4")
@pytest.mark.parametrize("option", ["views=csv", "views=all"])
def test_a_table_is_a_file_of_its_size_with_the_values_of_the_array(
    file: Path, tmp_path: Path, option: str
) -> None:
    with mounted(file, options=["-o", option]) as mount:
        table = mount.path / "table.csv"
        array = np.load(mount.path / "table.npy")
        copy = tmp_path / "copy"
        subprocess.run(["cp", "-r", mount.path, copy], check=True)
        data = (copy / "table.csv").read_bytes()
        assert len(data) == table.stat().st_size
        last = subprocess.run(["tail", "-n", "1", table], capture_output=True, check=True).stdout
        assert data.endswith(last) and last.count(b"\n") == 1
        with (copy / "table.csv").open(newline="") as lines:
            names, *rows = csv.reader(lines)
        assert names == ["row", "0", "1", "2"]
        assert np.array_equal(np.array(rows, float)[:, 1:], array, equal_nan=True)
        with pytest.raises(OSError, match="Read-only"):
            table.open("r+")
        assert sorted(p.name for p in copy.rglob("*")) == [
            "group", "table.csv", "table.npy", *(["table.png"] if option == "views=all" else []),
            "text.csv", "text.npy", *(["text.txt"] if option == "views=all" else []),
        ]  # fmt: skip


@pytest.mark.semantics("V1")
@pytest.mark.parametrize("views", ["csv,txt", ["csv", "txt"], ("txt", "csv")])
def test_a_program_mounts_with_views(file: Path, views: str | Sequence[str]) -> None:
    with h5fs.mount(file, views=views) as path:
        assert (path / "group/text.csv").read_text().splitlines()[0] == "row,value"
        assert (path / "group/text.txt").is_file() and not (path / "table.png").exists()


@pytest.mark.semantics("V8")
def test_views_without_a_mount(file: Path, tmp_path: Path) -> None:
    said = run_h5fs("cat", f"{file}:/group/text.csv").stdout
    assert said == 'row,value\n 0,"abc"\n1,"x, y"\n'
    assert run_h5fs("cp", f"{file}:/group/text.csv", tmp_path).returncode == 0
    assert (tmp_path / "text.csv").read_text() == said
    assert run_h5fs("cp", f"{file}:/", tmp_path / "all").returncode == 0
    assert not list((tmp_path / "all").rglob("*.csv"))
    assert ".csv" not in run_h5fs("tree", str(file)).stdout


@needs_libfuse_3
@pytest.mark.semantics("V9")
def test_copying_out_of_a_mount_that_writes_and_back_in_takes_the_arrays(
    file: Path, tmp_path: Path
) -> None:
    with mounted(file, options=["--mode", "r+", "-o", "views=csv"]) as mount:
        copy = tmp_path / "copy"
        subprocess.run(["cp", "-r", mount.path, copy], check=True)
        subprocess.run(["cp", "-r", f"{copy}/.", mount.path], check=True)
        np.save(mount.path / "new.npy", np.arange(4))
        assert (mount.path / "new.csv").read_text().split() == ["value", "0", "1", "2", "3"]
        with pytest.raises(OSError, match="Read-only"):
            (mount.path / "table.csv").write_text("1")
        subprocess.run(["rm", "-r", mount.path / "group"], check=True)


@needs_libfuse_3
@pytest.mark.semantics("V9")
@pytest.mark.parametrize("options", [[], ["-o", "views=all"]])
def test_a_copy_of_listed_views_goes_in_without_them_and_the_log_says_what_to_do(
    file: Path, tmp_path: Path, options: list[str]
) -> None:
    target = ["--mode", "w", *options]
    with (
        mounted(file, options=["-o", "views=csv"]) as shown,
        mounted(tmp_path / "new.h5", options=target) as mount,
    ):
        (mount.path / "group").mkdir()
        done = subprocess.run(
            ["cp", "-r", f"{shown.path}/group", mount.path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        views = sorted(path.name for path in (shown.path / "group").glob("*.csv"))
        assert views
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == len(views)
        others = sorted(path.name for path in (shown.path / "group").glob("*[!v]"))
        assert sorted(path.name for path in (mount.path / "group").iterdir()) == others
        told = [line for line in mount.log.read_text().splitlines() if "out of a copy" in line]
        assert len(told) == len(views)


@needs_libfuse_3
@pytest.mark.semantics("V9", "R20")
@pytest.mark.parametrize("way", ["save", "rename", "in place"])
def test_an_open_table_beside_a_program_that_writes_the_array(tmp_path: Path, way: str) -> None:
    def values(table: bytes) -> set[float]:
        return {float(line.rpartition(b",")[2]) for line in table.splitlines()[1:]}

    file = tmp_path / "f.h5"
    old, new = np.zeros(50_000), np.full(50_000, 100.0)
    with h5py.File(file, "w") as opened:
        opened["d"] = old
    with mounted(file, options=["--mode", "r+", "-o", "views=csv"]) as mount:
        with open(mount.path / "d.csv", "rb", buffering=0) as reader:
            table = reader.read(4096)
            if way == "save":
                np.save(mount.path / "d.npy", new)
            elif way == "rename":
                with open(mount.path / ".new", "wb") as written:
                    np.save(written, new)
                (mount.path / ".new").rename(mount.path / "d.npy")
            else:
                with open(mount.path / "d.npy", "r+b") as written:
                    written.seek(128)
                    written.write(new.tobytes())
            table += reader.read()
            assert os.fstat(reader.fileno()).st_size == (mount.path / "d.csv").stat().st_size
        assert values(table) == ({0.0, 100.0} if way == "in place" else {0.0})
        assert values((mount.path / "d.csv").read_bytes()) == {100.0}

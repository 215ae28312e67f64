"""The commands that need no mount, on what is deep, odd, unreadable, or not in the locale."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5g
from support.mounts import mounted, run_h5fs
from support.users import public_folder, run_h5fs_as_nobody, why_not_another_user

from h5fs.cli.commands.cp import walk_local

NUMBERS = np.arange(10.0)
ASCII = {
    "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"
}  # fmt: skip
DEPTH = 990
NOT_NOBODY = why_not_another_user()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of nearly as many nested groups as `max_depth` allows, a dataset at the end."""
    path = tmp_path_factory.mktemp("deep") / "f.h5"
    with h5py.File(path, "w") as opened:
        group = opened.id
        for _ in range(DEPTH):
            group = h5g.create(group, b"g")
        h5py.Group(group)["d"] = NUMBERS
    return path


@pytest.mark.semantics("C1")
def test_a_tree_of_groups_as_deep_as_they_may_be_is_listed(deep: Path) -> None:
    done = run_h5fs("tree", deep)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == DEPTH + 2
    assert "d.npy" in done.stdout
    by_size = run_h5fs("tree", deep, "--sort", "size", "--json")
    assert (by_size.returncode, by_size.stderr) == (0, "")
    opened = by_size.stdout.count('"entries": [')
    assert opened == DEPTH == by_size.stdout.count('"kind": "group"')
    assert by_size.stdout.count("[") == by_size.stdout.count("]")
    # Each group is as large as what is in it.
    assert by_size.stdout.count('"size_bytes": 208') == DEPTH + 1


@pytest.mark.semantics("C1")
def test_a_group_deeper_than_may_be_is_a_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        group = opened.id
        for _ in range(1100):
            group = h5g.create(group, b"g")
    done = run_h5fs("tree", tmp_path / "f.h5")
    assert (done.returncode, done.stderr) == (1, "")
    assert "max_depth" in done.stdout.splitlines()[-1]


@pytest.mark.semantics("C2", "C4")
def test_what_is_deep_is_read_and_checked(deep: Path) -> None:
    place = f"{deep}:{'/g' * DEPTH}/d.npy"
    done = subprocess.run(
        [sys.executable, "-m", "h5fs", "cat", place], capture_output=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 208
    checked = run_h5fs("check", deep)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "1 file of the tree, 208 bytes, 0 errors" in checked.stdout


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where something deep may go; Python's own rmtree could not remove it."""
    yield tmp_path / "out"
    subprocess.run(["rm", "-rf", tmp_path / "out"], check=True, timeout=240)


@pytest.mark.semantics("C3")
def test_what_is_deep_is_copied_out_and_in(deep: Path, out: Path, tmp_path: Path) -> None:
    done = run_h5fs("cp", f"{deep}:/", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(f"{out}{'/g' * DEPTH}/d.npy").stat().st_size == 208
    assert len(list(walk_local(out))) == DEPTH + 2
    below = "/g" * (DEPTH - 40)  # a change costs a look at each group above it
    back = run_h5fs("cp", f"{out}{below}", f"{tmp_path}/new.h5:/")
    assert (back.returncode, back.stderr) == (0, "")
    with h5py.File(tmp_path / "new.h5") as opened:
        assert np.array_equal(opened["g" + "/g" * 40 + "/d"], NUMBERS)


@pytest.mark.semantics("W5", "E4")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_mount_is_as_deep_as_its_file(deep: Path, mode: str) -> None:
    with mounted(deep, options=["--mode", mode]) as mount:
        done = subprocess.run(
            ["find", ".", "-name", "d.npy", "-size", "208c"], cwd=mount.path,
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "." + "/g" * DEPTH + "/d.npy\n"
        assert mount.log_lines() == []


@pytest.mark.semantics("C1")
def test_json_of_a_wide_and_nested_tree_is_what_python_reads(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number in range(2000):
            opened.create_group(f"{number % 20}/{number}")
        opened.create_group("empty")
        opened["0/d"] = NUMBERS
        opened["lost"] = h5py.SoftLink('/é"\\')
    found = json.loads(run_h5fs("tree", tmp_path / "f.h5", "--json").stdout)
    assert len(found) == 22
    by_name = {entry["name"]: entry for entry in found}
    assert by_name["empty"]["entries"] == []
    assert by_name["lost"]["target"] == 'é"\\'
    assert [len(by_name[str(number)]["entries"]) for number in range(20)] == [101] + [100] * 19
    assert by_name["0"]["entries"][-1]["shape"] == [10]
    assert run_h5fs("tree", f"{tmp_path}/f.h5:/empty", "--json").stdout == "[]\n"


@pytest.mark.semantics("C3")
def test_what_cannot_be_copied_in_is_a_line_each(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    np.save(source / "a.npy", NUMBERS)
    np.save(source / "sub/z.npy", NUMBERS)
    os.mkfifo(source / "pipe.npy")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(source)
        listener.bind("s.npy")
    (source / "bad.npy").write_bytes(b"no array")
    (source / "gone").symlink_to("nowhere")
    done = run_h5fs("cp", source, f"{tmp_path}/f.h5:/")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line for line in lines if "pipe.npy: a named pipe" in line]
    assert [line for line in lines if "s.npy: a socket" in line]
    assert [line for line in lines if "bad.npy: not a .npy file" in line]
    assert len(lines) == 3
    with h5py.File(tmp_path / "f.h5") as opened:
        assert sorted(opened["source"]) == ["a", "gone", "sub"]
        assert np.array_equal(opened["source/sub/z"], NUMBERS)
    only = run_h5fs("cp", source / "pipe.npy", f"{tmp_path}/f.h5:/")
    assert (only.returncode, len(only.stderr.splitlines())) == (1, 1)


@pytest.mark.semantics("C3")
@pytest.mark.skipif(NOT_NOBODY is not None, reason=str(NOT_NOBODY))
def test_what_may_not_be_read_is_a_line_each() -> None:
    with public_folder() as place:
        source = place / "source"
        for name in ("closed", "open"):
            (source / name).mkdir(parents=True)
            np.save(source / name / "x.npy", NUMBERS)
        np.save(source / "secret.npy", NUMBERS)
        (source / "secret.npy").chmod(0)
        (source / "closed").chmod(0o700)
        done = run_h5fs_as_nobody("cp", source, f"{place}/f.h5:/")
        assert done.returncode == 1
        lines = sorted(done.stderr.splitlines())
        assert len(lines) == 2, lines
        assert "closed: Permission denied" in lines[0]
        assert "secret.npy: Permission denied" in lines[1]
        with h5py.File(place / "f.h5") as opened:
            assert sorted(opened["source"]) == ["closed", "open"]
            assert np.array_equal(opened["source/open/x"], NUMBERS)


@pytest.mark.semantics("C3")
def test_what_cannot_be_copied_out_is_a_line_each(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for name in ("a", "folder/d", "linked/d", "sub/pipe", "sub/z"):
            opened[name] = NUMBERS
        opened["link"] = h5py.SoftLink("/a")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    os.mkfifo(out / "sub/pipe.npy")
    (out / "folder").write_bytes(b"in the way")
    (out / "linked").symlink_to(elsewhere)
    (out / "a.npy").symlink_to(elsewhere / "a.npy")
    (out / "link").symlink_to("old")
    done = run_h5fs("cp", f"{tmp_path}/f.h5:/", out)
    assert done.returncode == 1
    lines = sorted(done.stderr.splitlines())
    assert [line.split(": ")[1] for line in lines] == [
        str(out / name) for name in ("a.npy", "folder", "linked", "sub/pipe.npy")
    ]
    assert os.readlink(out / "link") == "a.npy"
    assert np.array_equal(np.load(out / "sub/z.npy"), NUMBERS)
    assert list(elsewhere.iterdir()) == []


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "größe.h5"
    with h5py.File(path, "w") as opened:
        opened["größe/Δ"] = NUMBERS
        opened["größe/lost"] = h5py.ExternalLink("ü.h5", "/ö")
        opened["größe"].attrs["ß"] = "ü"
    return path


@pytest.mark.semantics("C1", "C2", "C3", "C4", "C5", "C20")
@pytest.mark.parametrize(
    "words",
    [
        ["tree", "F"], ["tree", "F:/größe", "--json"], ["check", "F"], ["cp", "F:/", "T"],
        ["recover", "F"], ["cat", "F:/größe/.attrs.json"], ["status"],
        ["cat", "F:/größe/ß"], ["tree", "F:/größe/ß"], ["cp", "T/ß", "F:/"], ["umount", "T/ß"],
        ["tree", "T/ß"], ["check", "T/ß"], ["recover", "T/ß"], ["status", "T/ß"], ["T/ß", "T"],
        ["--help"], ["tree", "--help"], ["completion", "bash"], ["bogüs"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_locale_without_characters_is_no_error(
    foreign: Path, tmp_path: Path, words: list[str]
) -> None:
    meant = {"F": str(foreign), "T": str(tmp_path / "out"), "T/": f"{tmp_path}/"}
    # Only where a word begins: the folders' names have letters by chance.
    given = [re.sub("^(F|T$|T/)", lambda found: meant[found[0]], word) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "h5fs", *given],
        capture_output=True, timeout=240, check=False, env={**os.environ, **ASCII},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    is_wrong = any("/ß" in word for word in words) or words == ["bogüs"]
    assert bool(done.returncode) == is_wrong, done
    # `h5fs status` also tells of mounts that have ended: those of tests that run at the same time.
    lines = [line for line in done.stderr.splitlines() if b" has ended: " not in line]
    assert len(lines) == is_wrong, done.stderr
    if words[0] != "cat":
        assert done.stdout.isascii()
        assert done.stderr.isascii()
    if words == ["tree", "F"]:
        assert b"`-- gr\\xf6\\xdfe" in done.stdout


@pytest.mark.semantics("C1")
def test_a_name_that_is_not_utf_8_is_no_error(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.h5"
    with h5py.File(path, "w") as opened:
        opened["d"] = NUMBERS
    done = subprocess.run(
        [sys.executable, "-m", "h5fs", "tree", path], capture_output=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"d.npy" in done.stdout

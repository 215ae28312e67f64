"""The commands that need no mount, beside a mount of the same file."""

from __future__ import annotations

import filecmp
import json
import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5f, h5p
from support.kill_writing import kill
from support.mounts import end_mount, mounted, run_h5fs
from support.trees import killed_tree, save
from support.waiting import PATIENCE_SECONDS

from h5fs.cli import main
from h5fs.store.log.log_path import log_path

NUMBERS = np.arange(600.0).reshape(20, 30)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as opened:
        opened.create_dataset("g/zip", data=NUMBERS, chunks=(5, 30), compression="gzip")
        opened["g/zip"].attrs["units"] = "m"
        opened["g/h/text"] = np.array(["a", "bcd"], h5py.string_dtype())
        opened["link"] = h5py.SoftLink("/g/zip")
        opened["twin"] = opened["g/zip"]
        opened.attrs["title"] = "x"
        opened["type"] = np.dtype("<f4")
    return path


def succeed(*words: str | Path) -> str:
    """Run the command, which must succeed and complain of nothing; return what it printed."""
    done = run_h5fs(*words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.semantics("C1")
def test_tree_has_the_names_of_a_mount_and_what_is_known_of_each(file: Path) -> None:
    listed = succeed("tree", file)
    assert listed.splitlines()[0] == str(file)
    for text in ("zip.npy", "20 x 30  float64", "chunked 5x30", "1 attribute", "-> g/zip.npy"):
        assert text in listed, text
    found = json.loads(succeed("tree", f"{file}:/g", "--json"))
    assert [entry["name"] for entry in found] == ["h", "zip.npy"]
    (zipped,) = (entry for entry in found if entry["name"] == "zip.npy")
    assert zipped["shape"] == [20, 30] and zipped["chunks"] == [5, 30]
    assert zipped["stored_bytes"] < zipped["size_bytes"] == NUMBERS.nbytes + 128
    assert "text.npy" not in succeed("tree", file, "--depth", "2")
    by_size = json.loads(succeed("tree", file, "--json", "--sort", "size"))
    sizes = [entry.get("size_bytes", 0) for entry in by_size]
    assert sizes == sorted(sizes, reverse=True)
    assert "\033[" in succeed("tree", file, "--color", "always")
    assert "\033[" not in listed


@pytest.mark.semantics("C1")
def test_tree_shows_attributes_and_names_of_dimensions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"{tmp_path}/d.h5"
    with h5py.File(file, "w") as opened:
        opened["g/time"] = np.arange(3)
        opened["g/time"].make_scale("time")
        field = opened.create_dataset("g/t", data=np.zeros((3, 2, 1)))
        field.dims[0].attach_scale(opened["g/time"])
        field.dims[1].label = "lat\x1b"
        field.attrs["units"] = "K"
        field.attrs["by"] = "Zoë\x1b\x9b"
    assert main.main(["tree", file, "--attrs"]) == 0
    text = capsys.readouterr().out
    assert 'by = "Zoë\\u001b\\x9b"' in text
    assert "3 x 2 x 1 (time, lat\\x1b, -)" in text and 'units = "K"' in text
    assert main.main(["tree", f"{file}:/g/t"]) == 0  # one dataset, by its name in HDF5
    alone = capsys.readouterr().out
    assert 'units = "K"' in alone and "time.npy" not in alone
    assert main.main(["tree", f"{file}:/g/t.npy", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["dimensions"] == ["time", "lat\x1b", None] and entry["attrs"]["units"] == "K"


@pytest.mark.semantics("C1")
@pytest.mark.parametrize(("place", "title"), [("", "root"), (":/g", "group")])
def test_tree_shows_the_attributes_of_the_group_itself(
    place: str, title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"{tmp_path}/d.h5"
    with h5py.File(file, "w") as opened:
        opened.attrs["title"] = "root"
        opened["g/x"] = 1
        opened["g"].attrs["title"] = "group"
    assert main.main(["tree", file + place, "--attrs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [file + place, f'title = "{title}"']
    assert main.main(["tree", file + place, "--attrs", "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)
    assert (group["kind"], group["attrs"]) == ("group", {"title": title})
    assert [each["name"] for each in group["entries"]] == (["x.npy"] if place else ["g"])
    assert main.main(["tree", file + place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == ("x.npy" if place else "g")
    assert main.main(["tree", file + place]) == 0
    assert "title" not in capsys.readouterr().out


@pytest.mark.semantics("C2", "C3")
def test_cat_and_cp_give_what_a_mount_gives(file: Path, tmp_path: Path) -> None:
    with mounted(file) as mount:
        shutil.copytree(mount.path, tmp_path / "by mount", symlinks=True)
    succeed("cp", f"{file}:/", tmp_path / "by command")
    assert same_trees(tmp_path / "by mount", tmp_path / "by command")
    for path in ("g/zip.npy", ".attrs.json", "g/h/text.npy"):
        done = subprocess.run(
            [sys.executable, "-m", "h5fs", "cat", f"{file}:/{path}"],
            capture_output=True, timeout=240, check=True,
        )  # fmt: skip
        assert done.stdout == (tmp_path / "by mount" / path).read_bytes()


@pytest.mark.semantics("C2")
def test_cat_follows_symbolic_links_as_a_mount_does(file: Path, tmp_path: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened["folder"] = h5py.SoftLink("/g")
        opened["g/h/up"] = h5py.SoftLink("/link")
        opened["loop"] = h5py.SoftLink("/loop")
        opened["nowhere"] = h5py.SoftLink("/g/none")
    for name in ("link", "folder/zip.npy", "folder/h/up", "folder/h/../zip.npy", "g/zip.npy"):
        done = subprocess.run(
            [sys.executable, "-m", "h5fs", "cat", f"{file}:/{name}"],
            capture_output=True, timeout=PATIENCE_SECONDS, check=True,
        )  # fmt: skip
        np.save(tmp_path / "zip.npy", NUMBERS)
        assert done.stdout == (tmp_path / "zip.npy").read_bytes(), name
    assert succeed("cat", "--csv", f"{file}:/link") == succeed("cat", f"{file}:/g/zip.csv")
    refused = run_h5fs("cat", f"{file}:/loop")
    assert refused.returncode == 1 and "too many symbolic links" in refused.stderr
    refused = run_h5fs("cat", f"{file}:/nowhere")
    assert refused.returncode == 1 and f"{file}:/g/none: no such file" in refused.stderr


@pytest.mark.semantics("C3")
def test_cp_into_a_file_makes_what_a_mount_would_make(file: Path, tmp_path: Path) -> None:
    succeed("cp", f"{file}:/", tmp_path / "out")
    succeed("cp", tmp_path / "out", f"{tmp_path}/new.h5:/")
    assert not log_path(tmp_path / "new.h5").exists()
    with mounted(tmp_path / "new.h5") as mount:
        assert filecmp.cmp(mount.path / "out/g/zip.npy", tmp_path / "out/g/zip.npy", shallow=False)
        assert (mount.path / "out/g/zip.attrs.json").is_file()
        assert (np.load(mount.path / "out/link") == NUMBERS).all()
    np.save(tmp_path / "x.npy", NUMBERS)
    succeed("cp", tmp_path / "x.npy", f"{tmp_path}/new.h5:/y.npy")
    with h5py.File(tmp_path / "new.h5") as opened:
        assert (opened["y"][()] == NUMBERS).all()
    (tmp_path / "notes.txt").write_text("no")
    done = run_h5fs("cp", tmp_path / "notes.txt", f"{tmp_path}/new.h5:/")
    assert done.returncode == 1 and "notes.txt" in done.stderr


def same_trees(left: Path, right: Path) -> bool:
    """Compare two folders: names, link texts, bytes."""
    names = [sorted(p.relative_to(root) for p in root.rglob("*")) for root in (left, right)]
    if names[0] != names[1]:
        return False
    for name in names[0]:
        one, other = left / name, right / name
        if one.is_symlink() or other.is_symlink():
            if os.readlink(one) != os.readlink(other):
                return False
        elif one.is_file() and one.read_bytes() != other.read_bytes():
            return False
    return True


@pytest.mark.semantics("C4")
def test_check_reads_all_and_says_what_is_wrong(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    said = succeed("check", file)
    for text in ("log: none", "marked open for write: no", "opens: yes", "0 errors"):
        assert text in said
    with h5py.File(file, "r+") as opened:
        offset = opened["g/zip"].id.get_chunk_info(1).byte_offset
    damaged = bytearray(before)
    damaged[offset : offset + 16] = bytes(16)
    (tmp_path / "damaged.h5").write_bytes(damaged)
    done = run_h5fs("check", tmp_path / "damaged.h5")
    assert (
        done.returncode == 1
        and "/g/zip.npy: " in done.stdout
        and done.stdout.endswith(" 1 error\n")
    )
    assert (tmp_path / "damaged.h5").read_bytes() == damaged
    (tmp_path / "text.h5").write_text("no HDF5")
    done = run_h5fs("check", tmp_path / "text.h5")
    assert done.returncode == 1 and "not an HDF5 file" in done.stderr


@pytest.mark.semantics("C4", "C5")
def test_recover_brings_the_log_into_the_file(file: Path) -> None:
    with mounted(file, options=["--mode", "r+"]) as mount:
        np.save(mount.path / "new.npy", NUMBERS)
        done = run_h5fs("recover", file)
        assert done.returncode == 1 and "locked" in done.stderr
        kill(mount.pid, "all", 0)
        end_mount(mount.path)
    assert "1 commit" in succeed("check", file)
    assert "brought into the file" in succeed("recover", file)
    assert not log_path(file).exists()
    with h5py.File(file) as opened:
        assert (opened["new"][()] == NUMBERS).all()
    assert "log: none" in succeed("recover", file)


@pytest.mark.semantics("C3", "C5", "U15")
def test_what_waits_since_a_kill_is_saved_by_recover_and_by_cp(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", NUMBERS)
    for number, command in enumerate(
        (["recover", file], ["cp", tmp_path / "other.npy", f"{file}:/other.npy"])
    ):
        with killed_tree(file) as tree:
            if number == 0:
                tree.rename(b"/twin.npy", b"/twin.npy~")
            save(tree, b"/waits.attrs.json", b'{"a": 1}')
        done = run_h5fs(*command)
        left = file.with_name("f.h5.h5fs-left" + number * ".1")
        assert (
            f"/waits.attrs.json is not in the HDF5 file: its object is missing; saved as {left}"
            in done.stderr
        ), done
        assert (done.returncode, done.stdout.count("brought into")) == ((1, 1), (0, 0))[number]
        assert json.loads((left / "waits.attrs.json").read_bytes()) == {"a": 1}
        assert number or (np.load(left / "twin.npy~") == NUMBERS).all()
        with h5py.File(file) as opened:
            assert set(opened) - {"other"} == {"g", "link", "type"}
    assert not log_path(file).exists()


@pytest.mark.semantics("C5")
def test_the_mark_of_a_dead_writer_is_refused_with_the_way_out_which_clears_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "f.h5"
    program = (
        "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='v114');"
        "f['d'] = [1, 2, 3]; f.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, file], check=True, timeout=240)
    (tmp_path / "mnt").mkdir()
    for words in (["check", file], [file, tmp_path / "mnt"]):
        done = run_h5fs(*words)
        assert done.returncode == 1
        assert "h5fs recover --clear-flag" in done.stdout + done.stderr, done
    assert "mark: cleared" in succeed("recover", "--clear-flag", file)
    with h5py.File(file) as opened:
        assert opened["d"][()].tolist() == [1, 2, 3]
    assert "mark: none" in succeed("recover", "--clear-flag", file)


@pytest.mark.semantics("C4", "C5", "M6")
@pytest.mark.parametrize(
    ("place", "value"), [(8, 4), (8, 9), (8, ord("x")), (9, 7), (11, 0x41), (20, 0xEE), (47, 1)]
)
def test_a_superblock_that_is_not_wholly_understood_is_not_written(
    tmp_path: Path, place: int, value: int
) -> None:
    file = tmp_path / "f.h5"
    with h5py.File(file, "w", libver="v114") as opened:
        opened["d"] = [1]
        opened.flush()
        marked = bytearray(file.read_bytes())
    assert marked[11] == 1
    marked[place] = value
    file.write_bytes(marked)
    for words in (["recover", "--clear-flag", file], ["recover", file], ["check", file]):
        done = run_h5fs(*words)
        assert done.returncode == 1 and len(done.stderr.splitlines()) <= 1, done
        assert "unexpected" not in done.stdout + done.stderr, done
        if place == 8:
            assert f"version {value}" in done.stderr and "open for write" not in done.stderr, done
    done = run_h5fs("recover", "--clear-flag", file)
    assert "nothing is changed" in done.stderr, done
    assert file.read_bytes() == marked


@pytest.mark.semantics("M6")
@pytest.mark.parametrize("driver", ["family", "family, second", "split", "split, raw"])
def test_a_part_of_a_file_in_several_is_called_that(tmp_path: Path, driver: str) -> None:
    name = driver.partition(",")[0]
    access = h5p.create(h5p.FILE_ACCESS)
    if name == "family":
        access.set_fapl_family(4096, h5p.create(h5p.FILE_ACCESS))
        whole, part = "fam%d.h5", "fam1.h5" if "second" in driver else "fam0.h5"
    else:
        plain = h5p.create(h5p.FILE_ACCESS)
        access.set_fapl_split(b"-m.h5", plain, b"-r.h5", plain)
        whole, part = "s", "s-r.h5" if "raw" in driver else "s-m.h5"
    file_id = h5f.create(os.fsencode(tmp_path / whole), h5f.ACC_TRUNC, fapl=access)
    with h5py.File(file_id) as opened:
        opened["d"] = NUMBERS
    assert (tmp_path / part).exists(), os.listdir(tmp_path)
    for words in (["tree", tmp_path / part], ["check", tmp_path / part]):
        done = run_h5fs(*words)
        assert done.returncode == 1 and "cut short" not in done.stderr, done
        if "raw" not in driver:
            assert f"{name} " in done.stderr and "make one file" in done.stderr, done


@pytest.mark.semantics("C2", "C3")
@pytest.mark.parametrize(
    "words",
    [
        ["cat", "none.h5:/x.npy"], ["cat", "{file}:/none.npy"], ["cp", "{file}:/none.npy", "x"],
        ["tree", "{file}:/none"], ["check", "none.h5"], ["recover", "none.h5"],
        ["cp", "none.npy", "{file}:/"],
    ],
)  # fmt: skip
def test_what_is_not_there_is_one_line(file: Path, words: list[str]) -> None:
    done = run_h5fs(*(word.format(file=file) for word in words))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
    assert "none" in done.stderr


@pytest.mark.semantics("C25")
@pytest.mark.parametrize(
    "words",
    [
        ["tree", "{file}"], ["cat", "{file}:/g/zip.npy"], ["check", "{file}"],
        ["status", "{mount}"], ["--version"], ["--help"],
    ],
)  # fmt: skip
def test_a_reader_that_has_had_enough_is_no_error(file: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        with mounted(file) as mount:
            given = (word.format(file=file, mount=mount.path) for word in words)
            command = [sys.executable, "-m", "h5fs", *given]
            done = subprocess.run(
                command, check=False, stdout=write, stderr=subprocess.PIPE, timeout=240
            )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stdout_is_no_error(file: Path) -> None:
    command = [sys.executable, "-m", "h5fs", "check", str(file)]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command], check=False, stderr=subprocess.PIPE, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, b"")


def cat_on_terminal(*places: str) -> tuple[int, str]:
    """Run ``h5fs cat`` with a terminal as its stdout; return its status and what it showed."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "h5fs", "cat", *places], stdout=end, stderr=end
    ) as process:
        os.close(end)
        shown = b""
        with open(terminal, "rb", buffering=0) as screen, suppress(OSError):  # EIO at its end
            while piece := screen.read(4096):
                shown += piece
        return process.wait(PATIENCE_SECONDS), shown.decode().replace("\r\n", "\n")


@pytest.mark.semantics("C2")
def test_cat_prints_an_array_as_text_on_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "t.h5"
    with h5py.File(file, "w") as opened:
        opened["a"] = np.arange(6.0).reshape(2, 3)
        opened["words"] = ["one", "t\x1b[31mwo"]
        opened["bytes"] = np.array([b"x\x1b"])
        opened["big"] = np.zeros(2**21 + 1)
    assert cat_on_terminal(f"{file}:/a.npy") == (0, f"{np.arange(6.0).reshape(2, 3)}\n")
    assert cat_on_terminal(f"{file}:/words.npy") == (0, "one\nt\\x1b[31mwo\n")
    assert cat_on_terminal(f"{file}:/bytes.npy") == (0, "[b'x\\x1b']\n")
    status, shown = cat_on_terminal(f"{file}:/big.npy")
    assert status == 1
    assert "too large for a terminal" in shown

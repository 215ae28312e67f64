"""What people's tools make of a mount with links of every kind: they end, and are right."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mounts import mounted
from support.reference import npy_bytes, plain_dtype

SECONDS = 240


@dataclass(frozen=True)
class Tricky:
    """A mount, the content of each of its arrays and the text of each of its symbolic links."""

    path: Path
    log: Path
    arrays: dict[str, bytes] = field(repr=False)
    symbolic_links: dict[str, str]
    attribute_files: frozenset[str]

    @property
    def files(self) -> set[str]:
        return {*self.arrays, *self.attribute_files}


def saved(dataset: h5py.Dataset) -> bytes:
    """Return what np.save writes for a dataset's array."""
    return npy_bytes(dataset[()].astype(plain_dtype(dataset.dtype)))


@pytest.fixture(scope="module")
def tricky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tricky]:
    folder = tmp_path_factory.mktemp("tools")
    numbers = np.random.default_rng(3).standard_normal((300, 100))
    text = np.array([b"needle in a haystack", b"hay"])
    with h5py.File(folder / "other.h5", "w") as opened:
        opened["g/far"] = numbers + 1
        opened["g/back"] = h5py.ExternalLink("f.h5", "/")
        opened["g/soft"] = h5py.SoftLink("/g/far")
    with h5py.File(folder / "f.h5", "w") as opened:
        opened["d"] = numbers
        opened["d"].attrs["units"] = "m"
        opened.attrs["title"] = "a needle"
        opened["a/b/text"] = text
        opened["a/b/empty"] = np.zeros((0, 3))
        opened["a/b/twin"] = opened["d"]
        opened["a/third"] = opened["d"]
        opened.create_dataset("zip", data=np.zeros(2**18), chunks=(2**12,), compression="gzip")
        opened["a/b/root"] = opened["/"]
        opened["a/b/up"] = opened["a"]
        opened["a/self"] = opened["a"]
        opened["soft"] = h5py.SoftLink("/a/b/text")
        opened["a/relative"] = h5py.SoftLink("b/text")
        opened["a/to soft"] = h5py.SoftLink("/soft")
        opened["a/b/through"] = h5py.SoftLink("/a/b/up/third")
        opened["dangling"] = h5py.SoftLink("/no such")
        opened["loop"] = h5py.SoftLink("/loop")
        opened["external"] = h5py.ExternalLink("other.h5", "/g")
        opened["lost"] = h5py.ExternalLink("gone.h5", "/x")
        opened["a/spaß & $x"] = text
        opened.create_group("void")
        names = ["d", "a/b/text", "a/b/empty", "a/b/twin", "a/third", "zip", "a/spaß & $x"]
        arrays = {f"{name}.npy": saved(opened[name]) for name in names}
        for name in ("far", "soft"):
            arrays[f"external/{name}.npy"] = saved(opened[f"external/{name}"])
    symbolic_links = {
        "a/b/root": "../..", "a/b/up": "..", "a/self": ".", "soft": "a/b/text.npy",
        "a/relative": "b/text.npy", "a/to soft": "../soft", "a/b/through": "../../a/b/up/third.npy",
        "dangling": "no such", "loop": "loop", "external/back": "..", "lost": "external:gone.h5:/x",
    }  # fmt: skip
    attribute_files = frozenset(
        {".attrs.json", "d.attrs.json", "a/third.attrs.json", "a/b/twin.attrs.json"}
    )
    with mounted(folder / "f.h5") as mount:
        yield Tricky(mount.path, mount.log, arrays, symbolic_links, attribute_files)


def run(*command: str | Path, cwd: Path | None = None, status: int = 0) -> bytes:
    """Run a tool to its end; it must exit with ``status`` and, if that is 0, without complaint."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, timeout=SECONDS, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr.decode()
    if status == 0:
        assert done.stderr == b""
    return done.stdout


def check_copy(copy: Path, tricky: Tricky) -> None:
    """Everything is there with the same bytes, and nothing else."""
    files, links = set(), {}
    for path in copy.rglob("*"):
        name = str(path.relative_to(copy))
        if path.is_symlink():
            links[name] = os.readlink(path)
        elif path.is_file():
            files.add(name)
    assert files == tricky.files
    assert links == tricky.symbolic_links
    wrong = [name for name in tricky.arrays if (copy / name).read_bytes() != tricky.arrays[name]]
    assert not wrong
    for name in tricky.attribute_files:
        assert (copy / name).read_bytes() == (tricky.path / name).read_bytes()
    assert (copy / "void").is_dir()


@pytest.mark.semantics("E4", "L2")
@pytest.mark.parametrize("option", ["-r", "-a"])
def test_cp_copies_everything(tricky: Tricky, tmp_path: Path, option: str) -> None:
    run("cp", option, tricky.path, tmp_path / "copy")
    check_copy(tmp_path / "copy", tricky)
    if option == "-a":
        copies = [tmp_path / "copy" / name for name in ("d.npy", "a/b/twin.npy", "a/third.npy")]
        assert len({path.stat().st_ino for path in copies}) == 1
        original = (tricky.path / "zip.npy").stat()
        assert (tmp_path / "copy/zip.npy").stat().st_mtime == original.st_mtime


@pytest.mark.semantics("E4", "L2")
def test_tar_keeps_hard_links_and_symbolic_links(tricky: Tricky, tmp_path: Path) -> None:
    archive = run("tar", "c", ".", cwd=tricky.path)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        hard_links = {member.name for member in opened if member.islnk()}
    assert len(hard_links & {"./d.npy", "./a/b/twin.npy", "./a/third.npy"}) == 2
    assert len(hard_links) == 2
    (tmp_path / "copy").mkdir()
    subprocess.run(["tar", "x"], input=archive, cwd=tmp_path / "copy", check=True, timeout=SECONDS)
    check_copy(tmp_path / "copy", tricky)


@pytest.mark.semantics("E4")
def test_rsync_copies_everything_once(tricky: Tricky, tmp_path: Path) -> None:
    run("rsync", "-aH", f"{tricky.path}/", tmp_path / "copy")
    check_copy(tmp_path / "copy", tricky)
    again = run("rsync", "-aHi", f"{tricky.path}/", tmp_path / "copy")
    assert again == b""
    assert run("rsync", "-aci", f"{tricky.path}/", tmp_path / "copy") == b""


@pytest.mark.semantics("E4", "S1")
def test_find_sees_every_file_and_its_size(tricky: Tricky) -> None:
    found = run("find", ".", "-type", "f", "-size", "+0", "-print0", cwd=tricky.path)
    assert {name[2:] for name in found.decode().split("\0")[:-1]} == tricky.files
    links = run("find", ".", "-type", "l", "-printf", "%P\\0%l\\0", cwd=tricky.path)
    parts = links.decode().split("\0")[:-1]
    assert dict(zip(parts[::2], parts[1::2], strict=True)) == tricky.symbolic_links
    assert run("find", ".", "-type", "f", "-empty", cwd=tricky.path) == b""


@pytest.mark.semantics("E4")
def test_find_that_follows_links_names_the_loops_and_ends(tricky: Tricky) -> None:
    done = subprocess.run(
        ["find", "-L", ".", "-name", "text.npy"],
        cwd=tricky.path, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert "./a/b/text.npy" in done.stdout.splitlines()
    assert "File system loop detected" in done.stderr


@pytest.mark.semantics("S4", "E4")
def test_du_counts_what_is_stored(tricky: Tricky) -> None:
    stored = run("du", "-B512", "-s", ".", cwd=tricky.path)
    apparent = run("du", "-B1", "--apparent-size", "-s", ".", cwd=tricky.path)
    arrays = sum(map(len, tricky.arrays.values()))
    # zip.npy is 2 MiB of zeros in next to nothing; hard links count once, in both.
    assert int(stored.split()[0]) * 512 < int(apparent.split()[0]) - 1.9 * 2**20
    assert int(apparent.split()[0]) < arrays - 2 * len(tricky.arrays["d.npy"]) + 2**16


@pytest.mark.semantics("E4")
def test_grep_finds_what_is_in_arrays_and_attributes(tricky: Tricky) -> None:
    found = run("grep", "-rl", "--null", "needle", ".", cwd=tricky.path)
    assert set(found.decode().split("\0")[:-1]) == {
        "./.attrs.json", "./a/b/text.npy", "./a/spaß & $x.npy",
    }  # fmt: skip


@pytest.mark.semantics("E4")
def test_ls_lists_every_name_once(tricky: Tricky) -> None:
    listed = run("ls", "-AlRN", ".", cwd=tricky.path).decode()
    assert "?" not in listed
    for name in (*tricky.files, *tricky.symbolic_links):
        assert os.path.basename(name) in listed
    for name, target in tricky.symbolic_links.items():
        assert f" {os.path.basename(name)} -> {target}\n" in listed
    count = len(tricky.files) + len(tricky.symbolic_links)
    assert len([line for line in listed.splitlines() if line.startswith(("-", "l"))]) == count


def test_stat_names_the_types(tricky: Tricky) -> None:
    names = ["d.npy", "a", "soft", "a/b/empty.npy"]
    kinds = run("stat", "-c", "%F", *names, cwd=tricky.path).decode().splitlines()
    assert kinds == ["regular file", "directory", "symbolic link", "regular file"]


def test_cmp_and_sha256sum_agree_with_a_copy(tricky: Tricky, tmp_path: Path) -> None:
    for name, content in tricky.arrays.items():
        (tmp_path / "expected").write_bytes(content)
        run("cmp", tricky.path / name, tmp_path / "expected")
    sums = run("sha256sum", *tricky.arrays, cwd=tricky.path).splitlines()
    assert len(sums) == len(tricky.arrays)


@pytest.mark.semantics("A1")
def test_jq_reads_attributes(tricky: Tricky) -> None:
    assert run("jq", "-r", ".units", tricky.path / "d.attrs.json") == b"m\n"


def test_the_tools_have_left_one_line_in_the_log(tricky: Tricky) -> None:
    lines = tricky.log.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "link lost " not in line] == []
    assert len(lines) <= 1

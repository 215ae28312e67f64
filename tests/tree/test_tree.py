"""The tree over HDF5 files with links of every kind, without a mount."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5o
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import npy_bytes
from support.stores import open_store
from support.walking import check_listing, resolve, walk

from h5fs.errors import (
    BadHandleError,
    H5fsError,
    IsAGroupError,
    NotAGroupError,
    NotALinkError,
    NotFoundError,
    ReadOnlyError,
    TooLargeError,
)
from h5fs.model.settings import StoreOptions
from h5fs.tree import Tree


@contextmanager
def opened_tree(file: Path, workers: int = 0) -> Iterator[Tree]:
    tree = Tree(open_store(StoreOptions(file, workers=workers)))
    try:
        yield tree
    finally:
        tree.close()


def names(tree: Tree, path: bytes = b"/") -> set[bytes]:
    return {dentry.name for dentry in tree.list_folder(path)}


def read_all(tree: Tree, path: bytes) -> bytes:
    handle = tree.open(path, os.O_RDONLY)
    try:
        return bytes(tree.read(handle, tree.get_status(path).size_bytes + 1, 0))
    finally:
        tree.release(handle)


LINK_NAMES = st.sampled_from(["a", "b", "c", "..", "a.npy", "%41", "é", "x y", "~", "d.values"])
GROUPS = 4


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, int, str, str | int]]:
    """Return links: (kind, number of the group, name, target)."""
    where = st.integers(0, GROUPS - 1)
    steps = st.lists(st.one_of(LINK_NAMES, st.just(".")), max_size=3)
    paths = st.builds(
        lambda root, parts, end: root + "/".join(parts) + end,
        st.sampled_from(["", "/", "//"]), steps, st.sampled_from(["", "", "/"]),
    ).filter(bool)  # fmt: skip
    hard = st.tuples(st.just("hard"), where, LINK_NAMES, where)
    dataset = st.tuples(st.just("dataset"), where, LINK_NAMES, st.integers(0, 2))
    soft = st.tuples(st.just("soft"), where, LINK_NAMES, paths)
    return draw(st.lists(st.one_of(hard, hard, dataset, soft, soft), max_size=10))


def build(file: Path, links: list[tuple[str, int, str, str | int]]) -> None:
    """Write groups, all of them with a name in the root, and the links between them."""
    with h5py.File(file, "w") as opened:
        groups = [opened["/"], *(opened.create_group(f"g{i}") for i in range(1, GROUPS))]
        datasets: dict[str | int, h5py.Dataset] = {}
        for kind, where, name, target in links:
            group = groups[where]
            if name in group or group.get(name, getlink=True) is not None:
                continue
            if kind == "hard":
                group[name] = groups[int(target)]
            elif kind == "soft":
                group[name] = h5py.SoftLink(target)
            elif target in datasets:
                group[name] = datasets[target]
            else:
                datasets[target] = group.create_dataset(name, data=np.arange(3))


@pytest.mark.semantics("E4", "L3")
@given(graphs())
@settings(max_examples=150)
def test_every_walk_ends_and_every_dentry_answers(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, int, str, str | int]]
) -> None:
    file = tmp_path_factory.mktemp("walk") / "f.h5"
    build(file, links)
    with opened_tree(file) as tree:
        check_listing(tree, b"/")
        for path in walk(tree, at_most=20_000):
            status = tree.get_status(path)
            if stat.S_ISLNK(status.mode):
                assert len(tree.read_link(path)) == status.size_bytes
            if stat.S_ISDIR(status.mode):
                check_listing(tree, path)


@pytest.mark.semantics("S1", "S3")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_listing_knows_what_stat_says(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver=libver) as file:
        for number, dtype in enumerate(["i1", ">f8", "S5", "?", "c8", "(2,3)i2", "V7", "f2"]):
            file[f"plain {number}"] = np.zeros((number, 3), dtype)
        file.create_dataset("timed", data=np.arange(5), track_times=True)
        file["twice"] = file["timed"]
        file["scalar"], file["null"] = 5, h5py.Empty("f4")
        file.create_dataset("chunked", (10, 10), "i4", chunks=(3, 3), compression="gzip")
        file.create_dataset("empty", (0,), "i4")
        file.create_dataset("outside", (4,), "i4", external=[("raw", 0, 16)])
        file["strings"] = np.array(["a", "b"], object)
        file.create_dataset("sequences", (2,), h5py.vlen_dtype("i4"))[0] = [1, 2]
        file["named"], file["soft"] = np.dtype("i4"), h5py.SoftLink("/timed")
        for name in ("timed", "chunked", "named", "plain 1", "."):
            file[name].attrs["a"] = 1
        for number in range(20):
            file[f"more {number}"] = np.arange(number)
        for name in ("..", "a.npy", "%41", "é", "x" * 230, "x" * 300):
            file[name] = np.arange(7)
        for number in range(40):  # so that headers are scanned
            file[f"group/{number}"] = number
    with opened_tree(tmp_path / "f.h5") as tree:
        assert check_listing(tree, b"/") >= 30
        assert check_listing(tree, b"/group") == 40


@pytest.mark.semantics("L1")
@given(graphs())
@settings(max_examples=150)
def test_symbolic_links_lead_where_h5py_is_led(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, int, str, str | int]]
) -> None:
    file = tmp_path_factory.mktemp("links") / "f.h5"
    build(file, links)
    with h5py.File(file) as opened:
        expected = {
            (group_path.encode(), name.encode()): _object_name(opened[group_path], name)
            for group_path in ["/", *(f"/g{i}" for i in range(1, GROUPS))]
            for name in opened[group_path]
        }
        addresses = {
            name: h5o.get_info(opened[name].id).addr for name in set(expected.values()) if name
        }
    with opened_tree(file) as tree:
        for (group_path, name), target in expected.items():
            dentry = _dentry_of(tree, group_path, name)
            if target is None:
                with pytest.raises(H5fsError):
                    tree.get_status(resolve(tree, dentry))
            else:
                reached = tree.get_status(resolve(tree, dentry))
                assert reached.inode - addresses[target] == 2
                is_folder = target == "/" or target in {f"/g{i}" for i in range(1, GROUPS)}
                assert stat.S_ISDIR(reached.mode) == is_folder


def _object_name(group: h5py.Group, name: str) -> str | None:
    """Return a path of the object that h5py is led to, None where the link dangles."""
    try:
        found = group[name]
    except (KeyError, OSError, RuntimeError):
        return None
    for number in range(1, GROUPS):
        if found == group.file[f"g{number}"]:
            return f"/g{number}"
    return "/" if found == group.file["/"] else str(found.name)


def _dentry_of(tree: Tree, group_path: bytes, name: bytes) -> bytes:
    """Return the dentry of a link by looking for it among its siblings."""
    from h5fs.projection.names import Projection, encode_name

    shown = names(tree, group_path)
    found = [
        encode_name(name, kind)
        for kind in (Projection.FOLDER, Projection.ARRAY)
        if encode_name(name, kind) in shown
    ]
    assert len(found) == 1, (name, shown)
    return group_path.rstrip(b"/") + b"/" + found[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["d"] = np.arange(1000.0)
        opened["d"].attrs["units"] = "m"
        opened["g/inner"] = np.arange(4)
        opened["g"].attrs["title"] = "a group"
        opened["empty"] = h5py.Empty("f4")
        opened["t"] = np.dtype("<f4")
        opened["t"].attrs["note"] = "a type"
        opened["soft"] = h5py.SoftLink("/g/inner")
        opened["twin"] = opened["d"]
    return tmp_path / "f.h5"


@pytest.mark.semantics("N1", "N2")
def test_a_folder_lists_every_projection(file: Path) -> None:
    with opened_tree(file) as tree:
        assert names(tree) == {
            b"d.npy", b"d.attrs.json", b"twin.npy", b"twin.attrs.json", b"g", b"empty.npy",
            b"t.dtype.json", b"t.attrs.json", b"soft",
        }  # fmt: skip
        assert names(tree, b"/g") == {b"inner.npy", b".attrs.json"}


@pytest.mark.semantics("N7", "E1")
@pytest.mark.parametrize(
    "path",
    [
        b"/d", b"/x.npy", b"/d.values.npy", b"/d.offsets.npy", b"/d.dtype.json", b"/g.npy",
        b"/g.attrs.json", b"/g/inner.attrs.json", b"/.attrs.json", b"/soft.npy", b"/%64.npy",
        b"/%2E", b"/%2E%2E", b"/t.npy", b"/empty.attrs.json", b"/soft.attrs.json",
    ],
)  # fmt: skip
def test_what_is_not_listed_is_not_there(file: Path, path: bytes) -> None:
    with opened_tree(file) as tree, pytest.raises(NotFoundError):
        tree.get_status(path)


@pytest.mark.semantics("E1")
def test_each_misuse_has_its_error(file: Path) -> None:
    with opened_tree(file) as tree:
        with pytest.raises(NotAGroupError):
            tree.get_status(b"/d.npy/x")
        with pytest.raises(NotAGroupError):
            list(tree.list_folder(b"/d.npy"))
        with pytest.raises(IsAGroupError):
            tree.open(b"/g", os.O_RDONLY)
        with pytest.raises(NotALinkError):
            tree.read_link(b"/d.npy")
        with pytest.raises(BadHandleError):
            tree.read(12345, 1, 0)
        with pytest.raises(BadHandleError):
            tree.release(12345)


@pytest.mark.semantics("M11")
@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_opening_to_write_is_refused(file: Path, flags: int) -> None:
    with opened_tree(file) as tree, pytest.raises(ReadOnlyError):
        tree.open(b"/d.npy", flags)


@pytest.mark.semantics("S2", "D2")
def test_stat_and_listing_read_no_element(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = h5py.h5d.DatasetID.read

    with opened_tree(file) as tree:
        store = tree._store
        elements = store.read_elements  # type: ignore[attr-defined]

        def count(ref: object, part: object, start: int, stop: int) -> object:
            read.append((start, stop))
            return elements(ref, part, start, stop)

        monkeypatch.setattr(store, "read_elements", count)
        for path in walk(tree, at_most=100):
            tree.get_status(path)
        handle = tree.open(b"/d.npy", os.O_RDONLY)
        assert read == []
        header = tree.get_status(b"/d.npy").size_bytes - 8000
        tree.read(handle, 16, header + 801)
        assert read == [(100, 103)]
        tree.release(handle)
    assert original is h5py.h5d.DatasetID.read


@pytest.mark.semantics("S7")
def test_a_file_beyond_what_off_t_holds_is_listed_and_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("huge", shape=(2**60,), dtype="<f8", chunks=(2**10,))
        opened["small"] = [1]
    with opened_tree(tmp_path / "f.h5") as tree:
        assert b"huge.npy" in names(tree)
        for use in (tree.get_status, lambda path: tree.open(path, os.O_RDONLY)):
            with pytest.raises(TooLargeError):
                use(b"/huge.npy")
        assert read_all(tree, b"/small.npy") == npy_bytes(np.array([1]))


@pytest.mark.semantics("N6", "N3")
def test_names_of_every_length_are_found_again(tmp_path: Path) -> None:
    long_names = [f"{'n' * length}{tail}" for length in (200, 240, 250, 260, 900) for tail in "ab"]
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        for number, name in enumerate(long_names):
            opened[name] = number
            opened[name].attrs["n"] = number
            opened[f"{name}-group/x"] = number
    with opened_tree(tmp_path / "f.h5") as tree:
        shown = names(tree)
        assert len(shown) == 3 * len(long_names)
        values = {
            bytes(read_all(tree, b"/" + name))[-8:] for name in shown if name.endswith(b".npy")
        }
        assert values == {np.int64(number).tobytes() for number in range(len(long_names))}
        for path in walk(tree, at_most=1000):
            tree.get_status(path)


@pytest.mark.semantics("N8")
@pytest.mark.parametrize("name", [b".", b"a/"])
def test_a_link_that_hdf5_cannot_reach_is_not_listed_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: bytes
) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="earliest") as opened:
        opened["aa"] = [1]
        opened["other"] = [2]
    # No name like these can be given; symbol tables of old files have no checksum.
    content = (tmp_path / "f.h5").read_bytes()
    assert content.count(b"aa\0") == 1
    changed = name.ljust(2, b"\0")
    (tmp_path / "f.h5").write_bytes(content.replace(b"aa\0", changed + b"\0"))
    with opened_tree(tmp_path / "f.h5") as tree, caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert names(tree) == {b"other.npy"}
    assert len([r for r in caplog.records if "not listed" in r.getMessage()]) == 1


@pytest.mark.semantics("N8")
def test_a_user_defined_link_is_not_listed_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with h5py.File(tmp_path / "f.h5", "w", libver="earliest") as opened:
        opened["g/link"] = h5py.ExternalLink("some.h5", "/path")
        opened["g/other"] = [1]
    content = (tmp_path / "f.h5").read_bytes()
    # A link message of class external (64), in a header without checksum: 65 is user-defined.
    place = content.index(b"\x04link") if b"\x04link" in content else content.index(b"link") - 1
    start = content.rindex(b"\x40", 0, place)
    (tmp_path / "f.h5").write_bytes(content[:start] + b"\x41" + content[start + 1 :])
    with h5py.File(tmp_path / "f.h5") as opened:
        assert opened["g"].id.links.get_info(b"link").type == 65
    with opened_tree(tmp_path / "f.h5") as tree, caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert names(tree, b"/g") == {b"other.npy"}
    assert len([r for r in caplog.records if "user-defined" in r.getMessage()]) == 1


@pytest.mark.semantics("L1", "D10")
def test_a_soft_link_to_sequences_leads_to_one_of_their_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened.create_dataset("d", (2,), h5py.vlen_dtype("<i4"))
        opened["soft"] = h5py.SoftLink("/d")
    with opened_tree(tmp_path / "f.h5") as tree:
        tree.get_status(resolve(tree, b"/soft"))


@pytest.mark.semantics("S3")
def test_inode_numbers_come_from_addresses(file: Path) -> None:
    with h5py.File(file) as opened:
        addresses = {name: h5o.get_info(opened[name].id).addr for name in ("d", "g", "t")}
    with opened_tree(file) as tree:
        inodes = {path: tree.get_status(path).inode for path in walk(tree, at_most=100)}
        assert inodes[b"/d.npy"] == inodes[b"/twin.npy"]
        assert inodes[b"/d.attrs.json"] == inodes[b"/d.npy"] - 1
        assert inodes[b"/g/.attrs.json"] == inodes[b"/g"] - 1
        assert inodes[b"/t.attrs.json"] == inodes[b"/t.dtype.json"] - 1
        distances = {
            inodes[path] - addresses[name]
            for path, name in ((b"/d.npy", "d"), (b"/g", "g"), (b"/t.dtype.json", "t"))
        }
        assert len(distances) == 1
        of_dentries = {dentry.name: dentry.inode for dentry in tree.list_folder(b"/")}
        assert all(inodes[b"/" + name] == inode for name, inode in of_dentries.items())
    distinct = set(inodes) - {b"/twin.npy", b"/twin.attrs.json"}
    assert len({inodes[path] for path in distinct}) == len(distinct)

"""The text of every symbolic link of a hostile file leads nowhere outside of the mount."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5g
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.walking import walk

from h5fs.errors import H5fsError, InvalidNameError
from h5fs.model.objects import Link, LinkKind
from h5fs.model.settings import StoreOptions
from h5fs.projection.names import DentryName, Projection
from h5fs.store import open_store
from h5fs.tree import Tree
from h5fs.tree.link_targets import dangling_text
from h5fs.tree.writing.names.soft_targets import link_from_text

UP = b"/.." * 12
NAME = DentryName(Projection.FOLDER, b"x")
STEPS = st.sampled_from(
    [b"..", b".", b"", b"a", b"external", b"external:", b"external::", b"external:x:",
     b"external:f.h5:", b"external:x%3A:", b"external%3A", b"%2E%2E", b"..%2F..", b"..\\..",
     b"etc", b"hostname", b"x.npy", b"external:x.npy", b"\xc0\xae\xc0\xae", b"\xff", b"x" * 300]
)  # fmt: skip
NAMES = STEPS.filter(lambda name: name not in (b"", b"."))
PATHS = st.builds(
    lambda start, steps: start + b"/".join(steps),
    st.sampled_from(
        [
            b"",
            b"/",
            b"//",
            b"./././././",
            b"/././././",
            b"/../../..",
            UP + b"/etc/hostname",
            b"../" * 12,
        ]
    ),
    st.lists(STEPS, min_size=1, max_size=5),
).filter(bool)
FILES = st.sampled_from(
    [b"x", b"external", b":", b"x:", b"a:b.h5", b"..", b"/", b"/etc", b"../../..", b"%3A", b"%"]
)
LINKS = st.one_of(
    st.tuples(st.just("group"), NAMES),
    st.tuples(st.just("dataset"), NAMES),
    st.tuples(st.just("ancestor"), NAMES),
    st.tuples(st.just("soft"), NAMES, PATHS),
    st.tuples(st.just("external"), NAMES, FILES, PATHS),
    st.tuples(st.just("other"), NAMES, PATHS),
)


def leads_outside(tree: Tree, path: bytes, part: bytes = b"") -> bool:
    """Walk a path in a part as the kernel does; tell whether it leaves the mount on the way."""
    done: list[bytes] = []
    todo, left = path.split(b"/"), 40
    while todo:
        name = todo.pop(0)
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not done:
                return True
            done.pop()
            continue
        here = part + b"/" + b"/".join([*done, name])
        try:
            mode = tree.get_status(here).mode
        except H5fsError:
            return False
        if stat.S_ISLNK(mode):
            text = tree.read_link(here)
            left -= 1
            if text.startswith(b"/"):
                return True
            if not text or left < 0:
                return False
            todo = text.split(b"/") + todo
        elif stat.S_ISDIR(mode):
            done.append(name)
        else:
            return False
    return False


def write_hostile(file: Path, links: list[tuple[str, ...]], groups: list[bytes]) -> None:
    """Write the links into the root and into a chain of groups, and the same into another file."""
    for place in (file, file.with_name("other.h5")):
        with h5py.File(place, "w") as opened:
            group = opened.id
            fill(group, links)
            for name in groups:
                if not group.links.exists(name):
                    group = h5g.create(group, name)
                fill(group, links)


def fill(group: h5g.GroupID, links: list[tuple[str, ...]]) -> None:
    for kind, name, *target in links:
        if group.links.exists(name):
            continue
        if kind == "group":
            inner = h5g.create(group, name)
            inner.links.create_soft(b"away", UP[1:] + b"/etc/hostname")
        elif kind == "dataset":
            h5py.Group(group).create_dataset(name, data=np.arange(3))
        elif kind == "ancestor":
            group.links.create_hard(name, group, b".")
        elif kind == "soft":
            group.links.create_soft(name, *target)
        elif kind == "external":
            group.links.create_external(name, *target)
        else:
            group.links.create_external(name, b"other.h5", *target)


@pytest.mark.semantics("L5", "L1", "L4")
@given(st.lists(LINKS, max_size=8), st.lists(NAMES, max_size=2))
@example([("group", b"external:x:"), ("external", b"a", b"x", UP + b"/etc/hostname")], [])
@example([("soft", b"b", b"/x"), ("group", b"external::"), ("other", b"c", UP + b"/x")], [b".."])
@settings(max_examples=200, deadline=None)
def test_no_symbolic_link_leads_out_of_the_mount(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, ...]], groups: list[bytes]
) -> None:
    file = tmp_path_factory.mktemp("hostile") / "f.h5"
    write_hostile(file, links, groups)
    tree = Tree(open_store(StoreOptions(file, workers=0)))
    try:
        for path in walk(tree, at_most=20_000):
            if stat.S_ISLNK(tree.get_status(path).mode):
                assert not leads_outside(tree, path), (path, tree.read_link(path))
    finally:
        tree.close()


@pytest.mark.semantics("P3")
@given(st.lists(LINKS, max_size=8), st.lists(NAMES, max_size=2), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_no_symbolic_link_leads_out_of_a_part(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, ...]], groups: list[bytes],
    which: int,
) -> None:  # fmt: skip
    file = tmp_path_factory.mktemp("hostile") / "f.h5"
    write_hostile(file, [*links, ("group", b"g")], groups)
    store = open_store(StoreOptions(file, workers=0))
    whole = Tree(store)
    try:
        found = {path: whole.get_status(path).mode for path in walk(whole, at_most=20_000)}
        folders = sorted(path for path, mode in found.items() if stat.S_ISDIR(mode))
        part = folders[which % len(folders)]
        tree = Tree(store, part=part)
        for path, mode in found.items():
            if path.startswith(part + b"/") and stat.S_ISLNK(mode):
                assert not leads_outside(tree, path.removeprefix(part), part), path
    finally:
        whole.close()


@pytest.mark.semantics("P3")
def test_texts_in_a_part_lead_to_what_they_lead_to_in_the_whole_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["a/b/c/x"] = 1
        opened["a/bb/x"] = 1
        deep = opened["a/b/c"]
        for name, target in (
            ("in", "/a/b/c/x"), ("dots", "//a/./b//c/x"), ("part", "/a/b"), ("above", "/a"),
            ("beside", "/a/bb/x"), ("root", "/"), ("own", "c"), ("lost", "/a/b/none"),
        ):  # fmt: skip
            deep[name] = h5py.SoftLink(target)
        deep["ancestor"], deep["outside"] = opened["a/b"], opened["a"]
    tree = Tree(open_store(StoreOptions(tmp_path / "f.h5", workers=0)), part=b"/a/b")
    try:
        found = {name: tree.read_link(b"/a/b/c/" + name) for name in list_links(tree, b"/a/b/c")}
    finally:
        tree.close()
    assert found == {
        b"in": b"../c/x.npy", b"dots": b"../c/x.npy", b"part": b"..", b"above": b"external::/a",
        b"beside": b"external::/a/bb/x", b"root": b"external::/", b"own": b"c",
        b"lost": b"../none", b"ancestor": b"..", b"outside": b"external::/a",
    }  # fmt: skip


def list_links(tree: Tree, folder: bytes) -> list[bytes]:
    return [each.name for each in tree.list_folder(folder) if stat.S_ISLNK(each.mode)]


@pytest.mark.semantics("P5")
def test_texts_that_are_made_in_a_part_stay_in_it() -> None:
    def made(text: bytes, name: DentryName = NAME) -> bytes:
        return link_from_text(name, text, b"/a/b/c", b"/mnt", b"/a/b").soft_target

    assert made(b"x.npy") == b"x"
    assert made(b"../x.npy") == b"/a/b/x"
    assert made(b"..") == made(b"/mnt") == b"/a/b"
    assert made(b"/mnt/d/../x.npy") == b"/a/b/x"
    assert made(b"external::/other") == b"/other"
    for text in (b"../..", b"../../bb", b"/mnt/..", b"/a/b/x", b"/mnt/c/../../b"):
        with pytest.raises(InvalidNameError):
            made(text)


@pytest.mark.semantics("P3", "R15")
def test_a_text_that_leads_out_of_a_part_makes_that_link_again_under_a_files_name() -> None:
    name = DentryName(Projection.ARRAY, b"x")
    stored = link_from_text(name, b"external::/o/y", b"/g", b"/mnt").soft_target
    assert stored.replace(b"./", b"") == b"/o/y"
    link = Link(b"x", LinkKind.SOFT, soft_target=stored)
    assert link_from_text(name, dangling_text(link), b"/g", b"/mnt") == link


@pytest.mark.semantics("L5")
def test_a_link_that_may_not_be_followed_dangles_whatever_the_groups_are_called(
    tmp_path: Path,
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as opened:
        opened["external:gone.h5:/x"] = np.arange(3)
        opened["lost"] = h5py.ExternalLink("gone.h5", "/x")
    tree = Tree(open_store(StoreOptions(tmp_path / "f.h5", workers=0)))
    try:
        assert tree.read_link(b"/lost") == b"external:gone.h5:/x"
        listed = {dentry.name for dentry in tree.list_folder(b"/")}
        assert listed == {b"external%3Agone.h5:", b"lost"}
        with pytest.raises(H5fsError):
            tree.get_status(b"/external:gone.h5:")
        assert stat.S_ISDIR(tree.get_status(b"/external%3Agone.h5:").mode)
    finally:
        tree.close()


@pytest.mark.semantics("R15")
@given(
    st.binary(min_size=1, max_size=12).map(lambda b: b.replace(b"\0", b":")) | FILES,
    st.binary(max_size=12).map(lambda b: b.replace(b"\0", b"%")) | PATHS,
)
def test_the_text_of_a_dangling_link_makes_that_link_again(file: bytes, path: bytes) -> None:
    link = Link(b"x", LinkKind.EXTERNAL, external_file=file, external_path=path)
    assert link_from_text(NAME, dangling_text(link), b"/g", b"/mnt") == link
    assert b".." not in dangling_text(link).split(b"/")
    if path:
        soft = Link(b"x", LinkKind.SOFT, soft_target=path)
        assert link_from_text(NAME, dangling_text(soft), b"/g", b"/mnt") == soft


@pytest.mark.semantics("L5")
def test_file_and_path_of_a_dangling_link_stay_legible() -> None:
    link = Link(b"x", LinkKind.EXTERNAL, external_file=b"C:\\d/a%41.h5", external_path=b"/../x:y")
    assert os.fsdecode(dangling_text(link)) == "external:C%3A\\d/a%2541.h5:/%2E%2E/x:y"

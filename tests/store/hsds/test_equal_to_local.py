"""What a domain shows is what the same HDF5 file shows when it is local, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.hsds_service import Loader, Service
from support.stores import open_store

from h5fs.errors import H5fsError, UnsupportedTypeError
from h5fs.model.settings import ExternalPolicy, StoreOptions
from h5fs.store.hsds.client import Client
from h5fs.store.hsds.store import HsdsStore
from h5fs.tree import Tree

NUMBERS = "<i1 <i2 >i2 <i4 >i4 <i8 >i8 <u1 <u2 >u2 <u4 >u4 <u8 >u8 <f2 >f2 <f4 >f4 <f8 >f8".split()


def make_types(path: Path) -> Path:
    """Write a file of every type that the service has, as datasets and as attributes."""
    text, raw = h5py.string_dtype(), h5py.string_dtype("ascii")
    with h5py.File(path, "w") as opened:
        opened.create_group("empty")
        group = opened.create_group("numbers")
        for name in NUMBERS:
            values = np.arange(6).astype(name).reshape(2, 3)
            group[name.replace("<", "le ").replace(">", "be ")] = values
            opened.attrs[name] = values
        pair = np.dtype([("a", "<i4"), ("b", ">f8"), ("s", "S3"), ("box", "<i2", (2, 2))])
        opened["compound"] = np.frombuffer(bytes(range(23 * 4)), np.uint8).view(pair)
        nested = np.dtype([("p", [("x", "<f4"), ("y", "<f4")]), ("n", "<u2")])
        opened["nested"] = np.array([((1, 2), 3), ((4, 5), 6)], nested)
        opened["complex"] = np.array([1 + 2j, np.nan], "<c16")
        opened.attrs["complex"] = np.complex64(3 - 1j)
        opened["truth"] = np.array([True, False])
        opened.attrs["truth"] = True
        colours = h5py.enum_dtype({"red": 1, "blue": -7}, basetype=">i2")
        opened.create_dataset("colours", data=np.array([1, -7], ">i2"), dtype=colours)
        opened["fixed"] = np.array([b"ab", b"", b"abcde"], "S5")
        opened.attrs["fixed"] = np.array([b"ab", b"abcde"], "S5")
        opened.create_dataset("texts", data=["ä€", "", "three"], dtype=text)
        opened.create_dataset("raw", data=[b"abc", b""], dtype=raw)
        opened.create_dataset("text", data="one", dtype=text)
        opened.attrs["texts"] = ["ä", "", "x" * 100]
        mixed = np.dtype([("name", text), ("n", "<i4")])
        opened["mixed"] = np.array([("ä", 1), ("", -2)], mixed)
        sequences = opened.create_dataset("sequences", (2, 2), h5py.vlen_dtype("<i8"))
        sequences[0, 0], sequences[1, 1] = [1, 2, 3], [7]
        opened["opaque"] = np.frombuffer(b"\0\1\2\3\xff\xfe", "V3")
        references = opened.create_dataset("references", (3,), h5py.ref_dtype)
        references[0], references[1] = opened["numbers"].ref, opened["numbers/le i1"].ref
        opened.attrs["reference"] = opened["numbers"].ref
        opened["scalar"], opened["null"] = 2.5, h5py.Empty(">i4")
        opened.attrs["null"] = h5py.Empty("<f4")
        opened.create_dataset("nothing", (0, 4), ">u2")
        opened.attrs["floats"] = np.array([0.1, -0.0, 1e300, np.inf, np.nan])
        opened.create_dataset("grown", (3, 5), "<i4", chunks=(2, 2), maxshape=(None, 9))[:] = 4
        sparse = opened.create_dataset("sparse", (50, 50), ">f4", chunks=(7, 7), fillvalue=2.5)
        sparse[9:12, 30:33] = 7
        opened.create_dataset("gzip", data=np.arange(5000), chunks=(700,), compression="gzip")
        opened["type"] = np.dtype(">i2")
        opened["type"].attrs["of"] = "a type"
        for name in ("a b", "Über", "100%", "what?", "new\nline", "#", "a+b", "..."):
            opened[name] = np.arange(3, dtype="u1")
        opened["again"] = opened["gzip"]
        opened["soft"], opened["lost"] = h5py.SoftLink("/numbers/le i2"), h5py.SoftLink("/no")
    return path


@contextmanager
def both_trees(service: Service, file: Path) -> Iterator[tuple[Tree, Tree, list[str]]]:
    domain = service.folder + file.name
    loader = Loader(service, domain)
    loader.load(file)
    access = service.access
    far = HsdsStore(Client(access), domain, access.bucket, ExternalPolicy.NONE, 2**24)
    far.open()
    near = open_store(StoreOptions(file, external=ExternalPolicy.NONE, workers=1))
    with closing(far), closing(near):
        yield Tree(far), Tree(near), loader.left_out


def walk(tree: Tree, folder: bytes = b"/") -> Iterator[bytes]:
    for dentry in tree.list_folder(folder):
        path = folder.rstrip(b"/") + b"/" + dentry.name
        yield path
        if tree.get_status(path).mode & 0o170000 == 0o040000:
            yield from walk(tree, path)


def content(tree: Tree, path: bytes) -> object:
    """Return what a program reads at a path, or the errno that it gets."""
    try:
        status = tree.get_status(path)
        kind = status.mode & 0o170000
        if kind == 0o120000:
            return tree.read_link(path)
        if kind == 0o040000:
            return "folder"
        handle = tree.open(path, os.O_RDONLY)
        try:
            return status.hard_link_count, tree.read(handle, status.size_bytes + 1, 0)
        finally:
            tree.release(handle)
    except H5fsError as error:
        return type(error).__name__


@pytest.mark.semantics("G3")
def test_every_type_that_the_service_has_shows_as_in_a_local_file(
    service: Service, tmp_path: Path
) -> None:
    with both_trees(service, make_types(tmp_path / "types.h5")) as (far, near, left_out):
        assert left_out == []
        paths = list(walk(near))
        assert len(paths) > 50
        assert sorted(walk(far)) == sorted(paths)
        assert {path: content(far, path) for path in paths} == {
            path: content(near, path) for path in paths
        }


@pytest.mark.semantics("G3")
@pytest.mark.parametrize(
    "name",
    ["vlen_string_dset.h5", "h5ex_t_array.h5", "types_dset.h5", "types_attr.h5", "vlen_dset.h5",
     "vlen_attr.h5"],
)  # fmt: skip
def test_files_of_other_people_show_as_local_ones(
    service: Service, corpus: Path, name: str
) -> None:
    found = sorted(corpus.rglob(Path(name).name))
    if not found:
        pytest.skip(f"{name} is not in the corpus")
    with both_trees(service, found[0]) as (far, near, left_out):
        for path in walk(far):
            assert content(far, path) == content(near, path), (path, left_out)


@pytest.mark.semantics("G4")
def test_region_references_are_refused_and_their_neighbours_are_not(
    service: Service,
) -> None:
    domain = service.folder + "regions.h5"
    root = service.ask("PUT", "/", domain)["root"]
    for name, base in (("regions", "H5T_STD_REF_DSETREG"), ("objects", "H5T_STD_REF_OBJ")):
        made = {"class": "H5T_REFERENCE", "base": base}
        body = {"type": made, "shape": [2], "link": {"id": root, "name": name}}
        service.ask("POST", "/datasets", domain, body)
    access = service.access
    store = HsdsStore(Client(access), domain, access.bucket, ExternalPolicy.NONE, 2**20)
    with closing(store):
        tree = Tree(store)
        with pytest.raises(UnsupportedTypeError):
            tree.open(b"/regions.npy", os.O_RDONLY)
        assert tree.get_status(b"/objects.npy").size_bytes > 0

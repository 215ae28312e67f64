"""Random work on an HDF5 file through the log's file object, and a digest of all that is in it."""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any

import h5py
import numpy as np

LIBVERS = (("earliest", "latest"), ("v108", "v108"), ("v110", "v110"), ("latest", "latest"))


def open_hdf5(file: Any, libver: tuple[str, str]) -> h5py.File:
    """Open what ``file`` holds, or make an HDF5 file in it when it is empty."""
    versions = {
        "earliest": h5py.h5f.LIBVER_EARLIEST,
        "v108": h5py.h5f.LIBVER_V18,
        "v110": h5py.h5f.LIBVER_V110,
        "latest": h5py.h5f.LIBVER_LATEST,
    }
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(versions[libver[0]], versions[libver[1]])
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, file)
    if file.length:
        return h5py.File(h5py.h5f.open(b"simulated", h5py.h5f.ACC_RDWR, fapl=access))
    return h5py.File(h5py.h5f.create(b"simulated", h5py.h5f.ACC_TRUNC, fapl=access))


def digest(opened: h5py.File) -> str:
    """Return a digest of every group, link, dataset and attribute."""
    total = hashlib.blake2b()

    def add_attributes(path: str, item: Any) -> None:
        for name in sorted(item.attrs):
            value = np.asarray(item.attrs[name])
            total.update(f"{path}@{name} {value.dtype} {value.shape}".encode())
            total.update(value.tobytes())

    def walk(path: str, group: h5py.Group) -> None:
        add_attributes(path, group)
        for name in sorted(group):
            link = group.get(name, getlink=True)
            total.update(f"{path}/{name} {type(link).__name__}".encode())
            if isinstance(link, h5py.SoftLink):
                total.update(link.path.encode())
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(f"{path}/{name}", item)
                continue
            total.update(f"{item.dtype} {item.shape} {item.chunks} {item.compression}".encode())
            total.update(item[()].tobytes())
            add_attributes(f"{path}/{name}", item)

    walk("", opened)
    return total.hexdigest()


def digest_image(image: bytes) -> str:
    """Return the digest of the HDF5 file with these bytes."""
    with h5py.File(io.BytesIO(image), "r") as opened:
        return digest(opened)


def change(opened: h5py.File, rng: random.Random, largest: int) -> None:
    """Do one thing to the file; arrays have up to ``largest`` bytes."""
    names = sorted(opened)
    kinds = ["create", "create", "attribute", "overwrite", "delete", "rename", "replace", "group"]
    kinds += ["grow", "link", "delete", "many"]
    kind = rng.choice(kinds) if names else "create"
    fresh = f"n{rng.randrange(10**6)}"
    name = rng.choice(names) if names else ""
    link = opened.get(name, getlink=True) if name else None
    item = opened.get(name) if isinstance(link, h5py.HardLink) else None
    if kind == "create":
        create(opened, fresh, rng, largest)
    elif kind == "many":
        for i in range(rng.randrange(40)):
            opened[f"{fresh}-{i}"] = np.arange(rng.randrange(50))
    elif kind == "attribute" and item is not None:
        item.attrs[f"a{rng.randrange(5)}"] = make_array(rng, 2000)
    elif kind == "overwrite" and isinstance(item, h5py.Dataset) and item.size:
        start = rng.randrange(item.shape[0])
        item[start:] = rng.randrange(100)
    elif kind == "delete" or len(names) > 40:
        del opened[name]
    elif kind == "rename":
        opened.move(name, fresh)
    elif kind == "replace":
        del opened[name]
        create(opened, name, rng, largest)
    elif kind == "group":
        opened.create_group(fresh).attrs["made"] = rng.random()
    elif kind == "grow" and isinstance(item, h5py.Dataset) and item.chunks:
        item.resize(item.shape[0] + rng.randrange(1, 3000), axis=0)
        item[-1:] = 7
    elif kind == "link":
        opened[fresh] = h5py.SoftLink(f"/{name}")


def create(opened: h5py.File, name: str, rng: random.Random, largest: int) -> None:
    """Make a dataset of some layout."""
    data = make_array(rng, largest)
    layout = rng.choice(["contiguous", "chunked", "compressed"])
    if layout == "contiguous":
        opened.create_dataset(name, data=data)
    else:
        compression = "gzip" if layout == "compressed" else None
        chunks = (rng.choice([100, 3000, 40000]),)
        opened.create_dataset(
            name, data=data, chunks=chunks, maxshape=(None,), compression=compression
        )


def make_array(rng: random.Random, largest: int) -> Any:
    """Return bytes that do not compress, mostly few of them."""
    size = rng.choice([rng.randrange(1, 500), rng.randrange(1, 20000), rng.randrange(1, largest)])
    return np.frombuffer(rng.randbytes(min(size, largest)), np.uint8)

"""Compares a mount with h5py, object by object.

The reference is h5py's; names are those of ``h5fs.projection.names``, which has tests of its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from h5py import h5g, h5l, h5o

from h5fs.projection.names import GROUP_ATTRIBUTES, Projection, encode_name
from support.attribute_values import plain_value, same_value
from support.reference import expected_files, npy_bytes

LARGEST_COMPARED_BYTES = 512 * 2**20
RANGES_COMPARED = 3

Verdict = tuple[str, str, str, str]
"""kind, result, reason, where"""


def compare_objects(file: h5py.File, mountpoint: bytes) -> Iterator[Verdict]:
    """Yield a verdict for each dataset, attribute and soft link of a file, in its mount."""
    seen: set[int] = set()
    pending: list[tuple[h5py.Group, bytes, bytes]] = [(file["/"], mountpoint, b"/")]
    while pending:
        group, folder, path = pending.pop()
        try:
            address = h5o.get_info(group.id).addr
        except Exception as error:
            yield judge_error("group", folder, path, error, os.listdir)
            continue
        if address in seen:
            continue
        seen.add(address)
        yield from compare_attributes(group, folder + b"/" + GROUP_ATTRIBUTES, path)
        try:
            names: list[bytes] = []
            group.id.links.iterate(names.append)
        except Exception as error:
            yield judge_error("group", folder, path, error, os.listdir)
            continue
        for name in names:
            child = path.rstrip(b"/") + b"/" + name
            yield from _compare_link(group, name, folder, child, pending)


def _compare_link(
    group: h5py.Group, name: bytes, folder: bytes, path: bytes, pending: list[Any]
) -> Iterator[Verdict]:
    link_type = group.id.links.get_info(name).type
    if link_type == h5l.TYPE_SOFT:
        yield _compare_soft_link(group, name, folder, path)
        return
    if link_type != h5l.TYPE_HARD:
        return
    try:
        identifier = h5o.open(group.id, name)
    except Exception as error:
        yield judge_error("object", folder, path, error, lambda f: _open_any(f, name))
        return
    if isinstance(identifier, h5g.GroupID):
        dentry = folder + b"/" + encode_name(name, Projection.FOLDER)
        pending.append((h5py.Group(identifier), dentry, path))
        return
    if isinstance(identifier, h5py.h5d.DatasetID):
        owner: Any = h5py.Dataset(identifier)
        yield from compare_dataset(owner, folder, name, path)
    else:
        owner = h5py.Datatype(identifier)
        dentry = folder + b"/" + encode_name(name, Projection.DATATYPE)
        yield ("datatype", *_judge(lambda: isinstance(_load_json(dentry), dict | list | str)),
               show(path))  # fmt: skip
    dentry = folder + b"/" + encode_name(name, Projection.ATTRIBUTES)
    yield from compare_attributes(owner, dentry, path)


def compare_dataset(
    dataset: h5py.Dataset, folder: bytes, name: bytes, path: bytes
) -> Iterator[Verdict]:
    """Yield a verdict for each ``.npy`` file of a dataset."""
    array_dentry = folder + b"/" + encode_name(name, Projection.ARRAY)
    try:
        if (dataset.size or 0) * dataset.dtype.itemsize > 2**63 - 1000:
            error = OverflowError("more bytes than a file can have")
            yield judge_error("dataset", array_dentry, path, error, _read)
            return
        if dataset.size and dataset.size * dataset.dtype.itemsize > LARGEST_COMPARED_BYTES:
            yield ("dataset", *_judge(lambda: _compare_corner(dataset, array_dentry)), show(path))
            return
        files = expected_files(dataset)
    except Exception as error:
        yield judge_error("dataset", folder, path, error, lambda f: _open_any(f, name))
        return
    for suffix, array in files.items():
        projection = Projection(suffix.encode())
        dentry = folder + b"/" + encode_name(name, projection)
        expected = npy_bytes(array)
        result, reason = _judge(lambda d=dentry, e=expected: _same_bytes(d, e))
        if result == "FAILED" and not is_deterministic(dataset, suffix, expected):
            result, reason = "refused", "HDF5 reads uninitialised memory here"
        yield "dataset", result, reason, show(path)


def is_deterministic(dataset: h5py.Dataset, suffix: str, expected: bytes) -> bool:
    """Whether h5py reads the same with other garbage in newly allocated memory.

    Filters that are fed damaged chunks leave parts of their output unwritten.
    """
    program = (
        "import h5py, hashlib, sys; from support.reference import *;"
        "d = h5py.File(sys.argv[1])[bytes.fromhex(sys.argv[2])];"
        "print(hashlib.sha256(npy_bytes(expected_files(d)[sys.argv[3]])).hexdigest())"
    )
    name = h5py.h5i.get_name(dataset.id)
    command = [sys.executable, "-c", program, dataset.file.filename, name.hex(), suffix]
    env = {**os.environ, "MALLOC_PERTURB_": "165", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    return done.stdout.strip() == hashlib.sha256(expected).hexdigest()


def compare_attributes(owner: Any, dentry: bytes, path: bytes) -> Iterator[Verdict]:
    """Yield a verdict for each attribute that h5py can read."""
    names: list[bytes] = []
    try:
        h5py.h5a.iterate(owner.id, lambda name, *_: names.append(name))
    except Exception as error:
        yield judge_error("attribute", dentry, path, error, _load_json)
        return
    if not names:
        return
    try:
        shown = _load_json(dentry)
    except (OSError, ValueError) as error:
        for _ in names:
            yield "attribute", "FAILED", f"{describe(error)} of the attribute file", show(path)
        return
    for name in names:
        yield ("attribute", *_judge_attribute(owner, name, shown), f"{show(path)}@{show(name)}")


def _judge_attribute(owner: Any, name: bytes, shown: dict[str, Any]) -> tuple[str, str]:
    key = name.decode("utf-8", "surrogateescape")
    key = "$" + key if key.startswith("$") else key
    unreadable = shown.get("$unreadable", {})
    try:
        attribute = h5py.h5a.open(owner.id, name)
        value = plain_value(owner.attrs[name], attribute, h5py.File(h5py.h5i.get_file_id(owner.id)))
    except Exception as error:
        if key in unreadable:
            return "refused", f"h5py cannot read it: {describe(error)}; $unreadable"
        return "equal", f"beyond h5py ({describe(error)})"
    if key not in shown and "no path leads to" in unreadable.get(key, ""):
        return "refused", "reference to an object that no path leads to; $unreadable"
    if key not in shown:
        return "FAILED", f"missing ({unreadable.get(key, 'not under $unreadable')})"
    if not same_value(value, shown[key]):
        return "FAILED", f"h5py has {value!r:.60}, the mount {shown[key]!r:.60}"
    return "equal", ""


def _compare_soft_link(group: h5py.Group, name: bytes, folder: bytes, path: bytes) -> Verdict:
    dentry = folder + b"/" + encode_name(name, Projection.FOLDER)

    def compare() -> bool:
        if not os.path.islink(dentry):
            return False
        try:
            target = h5o.get_info(group.id, name)
        except Exception:
            return not os.path.exists(dentry)
        wanted = {0: os.path.isdir, 1: os.path.isfile, 2: os.path.isfile}[target.type]
        # Files of this mount carry the object's address in their inode number.
        return wanted(dentry) and os.stat(dentry).st_ino % 2**52 - target.addr == 2

    return ("soft link", *_judge(compare), show(path))


def judge_error(kind: str, dentry: bytes, path: bytes, error: Exception, use: Any) -> Verdict:
    """Judge what the mount makes of something that h5py cannot read: it must be an errno."""
    try:
        use(dentry)
    except OSError as own:
        name = errno.errorcode[own.errno or 0]
        good = own.errno in (errno.EIO, errno.ENOTSUP, errno.EOVERFLOW, errno.EACCES)
        result = "refused" if good else "FAILED"
        return kind, result, f"{name}; h5py: {describe(error)}", show(path)
    return kind, "equal", f"beyond h5py ({describe(error)})", show(path)


def describe(error: Exception) -> str:
    """Return an exception without what differs from file to file."""
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode[error.errno]
    return f"{type(error).__name__}: {error}"[:90]


def show(path: bytes) -> str:
    """Return a path that JSON can hold."""
    return path.decode("utf-8", "backslashreplace")


def _judge(compare: Any) -> tuple[str, str]:
    try:
        same = compare()
    except (OSError, ValueError) as error:
        return "FAILED", describe(error)
    return ("equal", "") if same else ("FAILED", "differs")


def _open_any(folder: bytes, name: bytes) -> None:
    """Open what the mount shows of an object whose class is not known."""
    for projection in Projection:
        dentry = folder + b"/" + encode_name(name, projection)
        if projection is not Projection.ATTRIBUTES and os.path.lexists(dentry):
            _read(dentry)
            return
    os.lstat(folder + b"/" + encode_name(name, Projection.FOLDER))


def _read(dentry: bytes) -> bytes:
    with open(dentry, "rb") as file:
        return file.read(LARGEST_COMPARED_BYTES)


def _load_json(dentry: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(_read(dentry), parse_constant=refuse)


def _same_bytes(dentry: bytes, expected: bytes) -> bool:
    if os.stat(dentry).st_size != len(expected) or _read(dentry) != expected:
        return False
    choose = random.Random(len(expected))
    with open(dentry, "rb", buffering=0) as file:
        for _ in range(RANGES_COMPARED):
            start = choose.randrange(len(expected) + 1)
            size = choose.randrange(70_000)
            if os.pread(file.fileno(), size, start) != expected[start : start + size]:
                return False
    return True


def _compare_corner(dataset: h5py.Dataset, dentry: bytes) -> bool:
    """Compare the first and the last element of a dataset too large to read."""
    array = np.load(os.fsdecode(dentry), mmap_mode="r")
    corners = [(0,) * dataset.ndim, tuple(n - 1 for n in dataset.shape)]
    return all(npy_bytes(array[c]) == npy_bytes(dataset[c]) for c in corners)

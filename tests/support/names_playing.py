"""``names_model`` played: random operations, one HDF5 file for each list, failures made shorter."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from h5fs.errors import H5fsError
from h5fs.store.hidden_names import HIDDEN_GROUP
from h5fs.tree import WritableTree
from support.names_model import (
    CONTENTS,
    SCRATCH,
    VISIBLE,
    Array,
    NamesError,
    NamesModel,
    Operation,
)
from support.reference import npy_bytes
from support.trees import store_of, writable_tree


def random_operations(random: Random, count: int) -> list[Operation]:
    """Return operations, of which some will make no sense."""
    every = VISIBLE + SCRATCH
    flags = (
        os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND,
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_EXCL,
    )  # fmt: skip
    valid = range(len(CONTENTS) - 2)
    made: list[Operation] = [
        ("link", "d.npy", name) for name in random.sample(every[1:], 3) if name != "e.npy"
    ]
    while len(made) < count:
        slot = random.randrange(4)
        roll = random.random()
        if roll < 0.16:
            made.append(("open", slot, random.choice(every), random.choice(flags)))
        elif roll < 0.28:
            slot, choice = random.randrange(4), random.choice(valid)
            create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            made.append(("open", slot, random.choice(every), create))
            made.append(("write", slot, choice, 0))
            if random.random() < 0.7:
                made.append(("close", slot))
        elif roll < 0.42:
            share = random.choice((0, 0, 1, 2, 2, 2, 3))
            made.append(("write", slot, random.randrange(len(CONTENTS)), share))
        elif roll < 0.45:
            made.append(("cut", slot, random.choice((0, 0, 130, 224, 300))))
        elif roll < 0.50:
            made.append(("flush", slot))
        elif roll < 0.54:
            made.append(("fsync", slot))
        elif roll < 0.64:
            made.append(("close", slot))
        elif roll < 0.76:
            made.append(("link", random.choice(every), random.choice(every)))
        elif roll < 0.82:
            made.append(("unlink", random.choice(every)))
        elif roll < 0.99:
            made.append(("rename", random.choice(every), random.choice(every)))
        else:
            made.append(("kill",))
    return made


def play(
    operations: list[Operation], counts: dict[Any, int] | None = None
) -> tuple[str, list[Operation]]:
    """Do operations on a new HDF5 file; return what is wrong, empty for nothing, and what was done
    until then. ``counts``: how often each operation had which answer is added to that."""
    with TemporaryDirectory(prefix="h5fs-names-", dir="/var/tmp") as folder:
        message, done, answers = _play(Path(folder) / "f.h5", operations)
    for answer, count in answers.items() if counts is not None else ():
        counts[answer] = counts.get(answer, 0) + count
    return message, done


def _play(
    file: Path, operations: list[Operation]
) -> tuple[str, list[Operation], dict[tuple[str, str], int]]:
    with h5py.File(file, "w") as opened:
        opened["d"] = np.arange(12.0)
        opened["d"].attrs["a"] = 1
        opened["e"] = np.arange(20.0) + 2
    done: list[Operation] = []
    with writable_tree(file) as tree:
        model = NamesModel(tree)
        model.files["d.npy"] = Array(CONTENTS[0], attributes={"a": 1})
        model.files["e.npy"] = Array(CONTENTS[2])
        try:
            for operation in operations:
                done.append(operation)
                if not model.run(operation):
                    done.pop()
            for slot in list(model.handles):
                done.append(("close", slot))
                model.run(("close", slot))
            for name in [n for n in model.files if n in SCRATCH or model.files[n].is_bytes]:
                done.append(("unlink", name))
                model.run(("unlink", name))
            _check_hidden(tree)
        except NamesError as error:
            _close_all(tree, model)
            return str(error), done, model.answers
        except Exception as error:
            _close_all(tree, model)
            return f"{error!r}", done, model.answers
    return _check_file(file, model), done, model.answers


def _check_hidden(tree: WritableTree) -> None:
    hidden = store_of(tree).hidden_group()
    if hidden is not None and len(store_of(tree).list_links(hidden).names):
        raise NamesError(f"still hidden: {store_of(tree).list_links(hidden).names}")


def _close_all(tree: WritableTree, model: NamesModel) -> None:
    for handle in model.handles.values():
        with suppress(H5fsError):
            tree.release(handle.number)


def _check_file(file: Path, model: NamesModel) -> str:
    with h5py.File(file) as opened:
        if HIDDEN_GROUP.decode() in opened:
            return "the hidden group is in the file"
        wanted = {name.removesuffix(".npy"): array for name, array in model.files.items()}
        if set(opened) != set(wanted):
            return f"h5py: {sorted(opened)}, not {sorted(wanted)}"
        for name, array in wanted.items():
            if npy_bytes(opened[name][()]) != array.content:
                return f"h5py: {name} is {opened[name][()]}"
            if dict(opened[name].attrs) != array.attributes:
                return f"h5py: {name} has {dict(opened[name].attrs)}, not {array.attributes}"
            for other, each in wanted.items():
                if (opened[other] == opened[name]) != (each is array):
                    return f"h5py: {name} and {other}: one dataset, or two"
    return ""


def shorten(operations: list[Operation], most: int = 60) -> tuple[str, list[Operation]]:
    """Return a failure that is left without the operations that it does not need."""
    message, operations = play(operations)
    size = max(len(operations) // 2, 1)
    while size and most and message:
        start = 0
        while start < len(operations) and most:
            most -= 1
            shorter, done = play(operations[:start] + operations[start + size :])
            if shorter:
                message, operations = shorter, done
            else:
                start += size
        size //= 2
    return message or "it does not fail again", operations

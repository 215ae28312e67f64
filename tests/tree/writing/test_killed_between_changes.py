"""A kill after any change of the store leaves the state before a call or that after it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.reference import npy_bytes
from support.trees import NEW, killed_tree, names, read, save, store_of, writable_tree

from h5fs.tree import WritableTree

US = os.getpid()
VALUES = np.arange(6.0).reshape(2, 3)
OLD, LONGER, OTHER_RANK = npy_bytes(VALUES), npy_bytes(np.ones((5, 3))), npy_bytes(np.arange(4))
LENGTHS = (3, 1)
PAIR_VALUES = npy_bytes(np.concatenate([np.arange(each, dtype="i4") for each in LENGTHS]))
PAIR_OFFSETS = npy_bytes(np.cumsum([0, *LENGTHS]))

Step = Callable[[WritableTree], object]


class _KilledError(BaseException):
    """The daemon is killed: nothing comes after it."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as made:
        made.create_dataset("d", data=VALUES, chunks=(1, 3), maxshape=(None, 3))
        made["d"].attrs["units"] = "m"
        made["g/e"] = VALUES
        made["refs"] = np.array([made["d"].ref], h5py.ref_dtype)
        made["t"] = made["same"] = np.dtype("f8")
        made["t"].attrs["n"] = 1
        made.create_dataset("of_t", data=VALUES, dtype=made["t"])
        pair = made.create_dataset("v", (2,), h5py.vlen_dtype("i4"), maxshape=(None,))
        pair[:] = [np.arange(1), np.arange(2)]
        pair.attrs["n"] = 1
        made["to_group"] = h5py.SoftLink("/g")
        made["twin"] = np.arange(3)
        made["twin2"] = made["twin"]
        made["twin"].attrs["n"] = 1
    return path


def make(tree: WritableTree, path: bytes, data: bytes) -> None:
    """Make a new file."""
    handle = tree.create(path, NEW | os.O_EXCL, US)
    try:
        tree.write(handle, memoryview(data), 0)
        tree.flush(handle, US)
    finally:
        tree.release(handle)


@contextmanager
def killed_after(tree: WritableTree, count: int) -> Iterator[None]:
    """Kill the daemon in the block, after some changes of the store; the block may end before."""
    store: Any = store_of(tree)
    change, left = store._change, count

    def change_or_die(*arguments: Any, **how: Any) -> Any:
        nonlocal left
        if not left:
            raise _KilledError
        left -= 1
        return change(*arguments, **how)

    store._change = change_or_die
    try:
        yield
    finally:
        store._change = change_or_die if not left else change


def state_of(path: Path) -> dict[str, Any]:
    """Return what is in a file, and beside it, once a mount has taken up what was left."""
    with writable_tree(path) as tree:
        shown = names(tree)
    state: dict[str, Any] = {"shown": shown}
    with h5py.File(path) as opened:
        for name in opened:
            link = opened.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                state[name] = link.path
                continue
            item = opened[name]
            attributes = {key: np.asarray(item.attrs[key]).tolist() for key in item.attrs}
            state[name] = [type(item).__name__, attributes, h5py.h5o.get_info(item.id).rc]
            if isinstance(item, h5py.Dataset):
                is_pair = h5py.check_vlen_dtype(item.dtype) is not None
                data = [list(each) for each in item] if is_pair else item[()].tolist()
                is_references = item.dtype == h5py.ref_dtype
                state[name] += [item.chunks, "references" if is_references else data]
            if isinstance(item, h5py.Group):
                state[name] += [list(item)]
    left = path.with_name(path.name + ".h5fs-left")
    state["left"] = sorted(each.name for each in left.rglob("*")) if left.exists() else []
    return state


def differences(state: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    names = {*state, *other}
    return {
        name: (state.get(name), other.get(name))
        for name in names
        if state.get(name) != other.get(name)
    }


def remove(*paths: bytes) -> Step:
    return lambda tree: [tree.unlink(path, US) for path in paths]


def several(*steps: Step) -> Step:
    return lambda tree: [step(tree) for step in steps]


def made(path: bytes, data: bytes) -> Step:
    return lambda tree: make(tree, path, data)


def saved(path: bytes, data: bytes) -> Step:
    return lambda tree: save(tree, path, data)


def soft(text: bytes, path: bytes) -> Step:
    return lambda tree: tree.make_symbolic_link(text, path)


def renamed(old: bytes, new: bytes) -> Step:
    return lambda tree: tree.rename(old, new, 0, US)


ATTRIBUTES = json.dumps({"n": 4}).encode()
CALLS: dict[str, tuple[Step, Step]] = {
    "an array made anew": (remove(b"/d.npy"), made(b"/d.npy", LONGER)),
    "an array whose attributes wait": (
        several(remove(b"/d.npy"), saved(b"/d.attrs.json", ATTRIBUTES)),
        made(b"/d.npy", LONGER),
    ),
    "an array made anew as it was": (remove(b"/d.npy"), made(b"/d.npy", OLD)),
    "an array of another rank": (remove(b"/d.npy"), made(b"/d.npy", OTHER_RANK)),
    "an array without the attributes that it had": (
        several(remove(b"/d.npy"), saved(b"/d.attrs.json", ATTRIBUTES), remove(b"/d.attrs.json")),
        made(b"/d.npy", LONGER),
    ),
    "an array that is read": (
        several(lambda tree: tree.open(b"/d.npy", os.O_RDONLY, 1), remove(b"/d.npy")),
        made(b"/d.npy", LONGER),
    ),
    "an array of two names": (remove(b"/twin.npy"), made(b"/twin.npy", npy_bytes(np.ones(5)))),
    "references as they were": (
        remove(b"/refs.npy"),
        made(b"/refs.npy", npy_bytes(np.array([b"/d"], "S2"))),
    ),
    "a temporary file renamed to it": (
        several(made(b"/d.tmp", LONGER), remove(b"/d.npy")),
        renamed(b"/d.tmp", b"/d.npy"),
    ),
    "a pair": (
        several(remove(b"/v.values.npy", b"/v.offsets.npy"), made(b"/v.values.npy", PAIR_VALUES)),
        made(b"/v.offsets.npy", PAIR_OFFSETS),
    ),
    "a datatype": (
        remove(b"/t.dtype.json"),
        lambda tree: make(tree, b"/t.dtype.json", read(tree, b"/same.dtype.json")),
    ),
    "another datatype": (remove(b"/t.dtype.json"), made(b"/t.dtype.json", b'"<f4"')),
    "a file renamed over a symbolic link": (
        several(soft(b"d.npy", b"/soft.npy"), made(b"/d.tmp", LONGER)),
        renamed(b"/d.tmp", b"/soft.npy"),
    ),
    "a symbolic link renamed over a file": (
        soft(b"g/e.npy", b"/.soft.tmp"),
        renamed(b"/.soft.tmp", b"/d.npy"),
    ),
    "a symbolic link that gets the other kind of its name": (
        soft(b"d.npy", b"/soft.npy"),
        renamed(b"/soft.npy", b"/soft"),
    ),
    "an array renamed to a temporary name": (lambda tree: None, renamed(b"/d.npy", b"/d.npy~")),
    "an array renamed back": (renamed(b"/d.npy", b"/d.npy~"), renamed(b"/d.npy~", b"/d.npy")),
    "an array written by its temporary name": (
        renamed(b"/twin.npy", b"/twin.npy~"),
        saved(b"/twin.npy~", npy_bytes(np.ones(5))),
    ),
    "an array written of which another name is temporary": (
        renamed(b"/twin.npy", b"/twin.npy~"),
        saved(b"/twin2.npy", npy_bytes(np.array([b"a", b"b"]))),
    ),
}  # fmt: skip


def written_without_its_name(tree: WritableTree) -> None:
    """Write to an array by a name that is gone, while another one leads to it."""
    handle = tree.open(b"/twin.npy", os.O_RDWR, US)
    tree.truncate(None, 0, handle)
    tree.unlink(b"/twin.npy", US)
    tree.write(handle, memoryview(LONGER), 0)
    tree.flush(handle, US)


OVER_LINK = several(
    soft(b"d.npy", b"/soft.npy"), made(b"/x.tmp", PAIR_OFFSETS), renamed(b"/x.tmp", b"/soft.npy")
)
BESIDE_TWIN = several(remove(b"/twin2.npy"), made(b"/twin2.npy", PAIR_OFFSETS))
LEAVING: dict[str, Step] = {
    "an array made anew": several(remove(b"/d.npy"), made(b"/d.npy", LONGER)),
    "an array written without its name": written_without_its_name,
}


@pytest.mark.semantics("U1", "R28")
@pytest.mark.parametrize("next_call", [OVER_LINK, BESIDE_TWIN], ids=["over a link", "beside"])
@pytest.mark.parametrize("killed", LEAVING)
def test_the_next_mount_writes_to_nothing_that_a_kill_has_left(
    tmp_path: Path, file: Path, killed: str, next_call: Step
) -> None:
    """What there was to write by, when the daemon was killed, is another array, or a shared one."""
    original, is_over, count = file.read_bytes(), False, 0
    while not is_over:
        at = tmp_path / str(count) / "f.h5"
        at.parent.mkdir()
        at.write_bytes(original)
        with killed_tree(at) as tree, killed_after(tree, count), suppress(_KilledError):
            LEAVING[killed](tree)
            is_over = True
        with writable_tree(at) as tree:
            before = {name: read(tree, b"/" + name) for name in names(tree) if b".npy" in name}
            next_call(tree)
            after = {name: read(tree, b"/" + name) for name in names(tree) if b"." in name}
        new = b"soft" if next_call is OVER_LINK else b"twin2"
        assert after.pop(new + b".npy") == PAIR_OFFSETS
        if next_call is OVER_LINK:
            assert new + b".attrs.json" not in after
        for name, data in before.items():
            assert name == new + b".npy" or after[name] == data, (count, name)
        count += 1


@pytest.mark.semantics("U1", "U3", "R28")
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_between_two_changes_of_a_call_leaves_no_third_state(
    tmp_path: Path, file: Path, call: str
) -> None:
    prepare, run = CALLS[call]
    original, states, is_over, count = file.read_bytes(), [], False, 0
    while not is_over:
        at = tmp_path / str(count) / "f.h5"
        at.parent.mkdir()
        at.write_bytes(original)
        with killed_tree(at) as tree:
            prepare(tree)
            with killed_after(tree, count), suppress(_KilledError):
                run(tree)
                is_over = True
        states.append(state_of(at))
        count += 1
    before, after = states[0], states[-1]
    for number, state in enumerate(states):
        others = [differences(state, other) for other in (before, after)]
        assert {} in others, f"after {number} changes of {len(states) - 1}: {others}"
    assert before != after

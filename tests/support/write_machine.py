"""The state machine of ``write_model``: which operations hypothesis draws, and one mount for many.

Each example has a folder of its own in the mount; after a number of them the file is unmounted and
looked at with h5py, and a new one begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, ClassVar

import h5py
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from support.mounts import Mounted, mounted, run_h5fs
from support.reference import npy_bytes
from support.write_comparison import ModelError
from support.write_model import WriteModel
from support.write_values import DTYPES, SCRATCH, classify, make_array
from support.writing import tells_of_leftovers

EXAMPLES_PER_MOUNT = 25

FOLDERS = st.sampled_from(["", "", "", "d/", "e/", "d/e/"])
STEMS = st.sampled_from("ab")


def _named(names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda folder, name: folder + name, FOLDERS, names)


ARRAYS = _named(STEMS.map(lambda stem: stem + ".npy"))
ATTRIBUTES = _named(st.sampled_from([".attrs.json", "a.attrs.json", "b.attrs.json"]))
SCRATCHES = _named(st.sampled_from(SCRATCH))
GROUPS = _named(st.sampled_from(["d", "e", "a", "b"]))
LINKS = _named(st.sampled_from(["s", "t", "a"]))
FILES = st.one_of(ARRAYS, ARRAYS, ATTRIBUTES, SCRATCHES)
ANY = st.one_of(ARRAYS, ARRAYS, ATTRIBUTES, SCRATCHES, GROUPS, LINKS)

SHAPES = st.sampled_from([(), (0,), (1,), (5,), (3, 4), (2, 0), (40, 30), (2, 3, 2)])
SEEDS = st.integers(0, 50)
CONTENTS = st.tuples(st.sampled_from(DTYPES), SHAPES, SEEDS).map(list)
VALUES = st.one_of(
    st.integers(-5, 5), st.sampled_from([0.5, 1e300, True, "m", "Zoë", "", [1, 2], [0.5], ["x"]])
)
JSONS = st.dictionaries(st.sampled_from(["u", "v", "w x"]), VALUES, max_size=3)
SLOTS = st.integers(0, 2)
PLACES = st.floats(0, 1, exclude_max=True)


def _bad_bytes(content: list[Any], how: str) -> bytes:
    data = npy_bytes(make_array(content[0], tuple(content[1]), content[2]))
    return {
        "short": data[:-1], "long": data + b"\0", "garbage": b"no array", "empty": b"",
        "version": b"\x93NUMPY\x09\0" + data[8:], "magic": data[:4],
    }[how]  # fmt: skip


class Session:
    """A mount, the plain folder beside it, and the models of the examples so far."""

    def __init__(self, options: tuple[str, ...] = ("--mode", "w")) -> None:
        self._options = options
        self._stack: contextlib.ExitStack | None = None
        self._mount: Mounted | None = None
        self._models: dict[str, WriteModel] = {}
        self._folder = Path()
        self.examples = 0
        self.log: list[str] = []
        self.failed: list[Any] = []

    def begin(self) -> WriteModel:
        """Return a model in folders of its own."""
        if self._mount is None:
            self._stack = contextlib.ExitStack()
            folder = tempfile.TemporaryDirectory(prefix="h5fs-model-", dir="/var/tmp")
            self._folder = Path(self._stack.enter_context(folder))
            self._mount = self._stack.enter_context(
                mounted(self._folder / "file.h5", options=self._options)
            )
        self.examples += 1
        name = f"x{self.examples}"
        mount, plain = self._mount.path / name, self._folder / name
        mount.mkdir()
        plain.mkdir()
        return WriteModel(mount, plain, self._mount.pid)

    def end(self, model: WriteModel) -> None:
        """Keep a model that is done; look at the file when there are enough."""
        self._models[model.plain.name] = model
        if len(self._models) >= EXAMPLES_PER_MOUNT:
            self.finish()

    def finish(self) -> None:
        """Unmount, and compare the HDF5 file with each model. Raises ``ModelError``."""
        if self._mount is None or self._stack is None:
            return
        mount, stack, models = self._mount, self._stack, self._models
        self._mount, self._stack, self._models = None, None, {}
        with stack:
            done = run_h5fs("umount", mount.path)
            self.log = mount.log_lines()
            if done.returncode and not tells_of_leftovers(done.stderr):
                raise ModelError(f"umount: {done.stderr}")
            bad = [line for line in self.log if "Traceback" in line]
            if bad:
                raise ModelError("\n".join(self.log)[-3000:])
            with h5py.File(self._folder / "file.h5", "r") as file:
                for name, model in models.items():
                    model.compare_hdf5(file[name])

    def abandon(self) -> None:
        """Take the mount down, whatever state it is in."""
        stack, self._mount, self._stack, self._models = self._stack, None, None, {}
        if stack is not None:
            stack.close()


def run_operations(session: Session, operations: list[Any]) -> str:
    """Return what is wrong after some operations, empty when nothing is."""
    model = session.begin()
    try:
        for operation in operations:
            count = len(model.done)
            model.run(tuple(operation))
            if len(model.done) > count:
                model.compare_mount()
        model.close_handles()
        model.compare_mount()
    except ModelError as error:
        close_all(model)
        return str(error)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        close_all(model)
        places = [line.strip() for line in traceback.format_tb(error.__traceback__)[-2:]]
        return f"{error!r} at {places} after {model.done}"
    return ""


def minimize(session: Session, operations: list[Any], *, seconds: float = 12) -> str:
    """Return the message of the failure that is left without the operations it does not need."""
    message, stop = run_operations(session, operations), time.monotonic() + seconds
    size = len(operations) // 2
    while size and message:
        start = 0
        while start < len(operations) and time.monotonic() < stop:
            fewer = operations[:start] + operations[start + size :]
            shorter = run_operations(session, fewer)
            if shorter:
                operations, message = fewer, shorter
            else:
                start += size
        size //= 2
    return message or "it does not fail again"


def close_all(model: WriteModel) -> None:
    """Close the handles of a model that failed."""
    for handle in model.handles.values():
        for descriptor in (handle.mount, handle.plain):
            with contextlib.suppress(OSError):
                os.close(descriptor)


class WriteMachine(RuleBasedStateMachine):
    """Random operations on a mount and on a plain folder."""

    session: ClassVar[Session]

    def __init__(self) -> None:
        super().__init__()
        self.model = self.session.begin()
        self.failed = False

    def go(self, *operation: Any) -> None:
        """Do one operation, then compare everything."""
        try:
            count = len(self.model.done)
            self.model.run(operation)
            if len(self.model.done) > count:
                self.model.compare_mount()
        except Exception:
            self.failed = True
            self.session.failed = list(self.model.done)
            raise

    @rule(path=ARRAYS, content=CONTENTS, order=st.sampled_from("CCF"))
    def save(self, path: str, content: list[Any], order: str) -> None:
        self.go("save", path, content, order)

    @rule(path=ARRAYS, content=CONTENTS)
    def save_again(self, path: str, content: list[Any]) -> None:
        self.go("save", path, content, "C")

    @rule(path=SCRATCHES, content=CONTENTS)
    def save_scratch(self, path: str, content: list[Any]) -> None:
        self.go("save", path, content, "C")

    @rule(path=ATTRIBUTES, values=JSONS)
    def write_json(self, path: str, values: dict[str, Any]) -> None:
        self.go("write", path, repr_json(values))

    @rule(path=SCRATCHES, values=JSONS)
    def write_scratch_json(self, path: str, values: dict[str, Any]) -> None:
        self.go("write", path, repr_json(values))

    @rule(path=ATTRIBUTES, text=st.sampled_from([b"{", b"[1]", b"", b'{"a": }', b'{"$x": 1}']))
    def write_bad_json(self, path: str, text: bytes) -> None:
        if text != b'{"$x": 1}':
            self.go("write", path, text)

    @rule(
        path=ARRAYS, content=CONTENTS,
        how=st.sampled_from(["short", "long", "garbage", "empty", "version", "magic"]),
    )  # fmt: skip
    def save_bad(self, path: str, content: list[Any], how: str) -> None:
        data = _bad_bytes(content, how)
        if classify(data) != "header":
            self.go("write", path, data)

    @rule(path=ARRAYS, place=PLACES, seed=SEEDS)
    def patch(self, path: str, place: float, seed: int) -> None:
        self.go("patch", path, place, seed)

    @rule(path=ARRAYS, rows=st.integers(1, 3), seed=SEEDS)
    def append(self, path: str, rows: int, seed: int) -> None:
        self.go("append", path, rows, seed)

    @rule(path=ARRAYS, size=st.sampled_from([0, 64, 130, 4000, 100_000]))
    def truncate(self, path: str, size: int) -> None:
        self.go("truncate", path, size)

    @rule(path=FILES)
    def touch(self, path: str) -> None:
        self.go("touch", path)

    @rule(path=ANY, mtime_ns=st.integers(10**18, 2 * 10**18))
    def utime(self, path: str, mtime_ns: int) -> None:
        if not self.model._is_link(path):
            self.go("utime", path, mtime_ns)

    @rule(path=GROUPS)
    def mkdir(self, path: str) -> None:
        self.go("mkdir", path)

    @rule(path=GROUPS)
    def rmdir(self, path: str) -> None:
        self.go("rmdir", path)

    @rule(path=ANY)
    def unlink(self, path: str) -> None:
        self.go("unlink", path)

    @rule(old=ARRAYS, new=ARRAYS)
    def rename_array(self, old: str, new: str) -> None:
        self.go("rename", old, new)

    @rule(old=SCRATCHES, new=FILES)
    def rename_scratch(self, old: str, new: str) -> None:
        self.go("rename", old, new)

    @rule(old=FILES, new=SCRATCHES)
    def rename_to_scratch(self, old: str, new: str) -> None:
        self.go("rename", old, new)

    @rule(old=ANY, new=ANY)
    def rename(self, old: str, new: str) -> None:
        self.go("rename", old, new)

    @rule(old=GROUPS, new=GROUPS)
    def rename_group(self, old: str, new: str) -> None:
        self.go("rename", old, new)

    @rule(old=FILES, new=FILES)
    def link(self, old: str, new: str) -> None:
        self.go("link", old, new)

    @rule(leads_to=st.one_of(ARRAYS, GROUPS, LINKS), path=LINKS)
    def symlink(self, leads_to: str, path: str) -> None:
        self.go("symlink", leads_to, path)

    @rule(slot=SLOTS, path=ARRAYS, writes=st.booleans())
    def open(self, slot: int, path: str, writes: bool) -> None:
        self.go("open", slot, path, writes)

    @rule(slot=SLOTS, place=PLACES, seed=SEEDS)
    def hwrite(self, slot: int, place: float, seed: int) -> None:
        self.go("hwrite", slot, place, seed)

    @rule(slot=SLOTS)
    def hread(self, slot: int) -> None:
        self.go("hread", slot)

    @rule(slot=SLOTS)
    def hclose(self, slot: int) -> None:
        self.go("hclose", slot)

    @rule()
    def die(self) -> None:
        self.go("die")

    def teardown(self) -> None:
        if self.failed:
            close_all(self.model)
            return
        try:
            self.model.close_handles()
            self.model.compare_mount()
        except Exception:
            self.session.failed = list(self.model.done)
            raise
        self.session.end(self.model)


def repr_json(values: dict[str, Any]) -> bytes:
    """Return attributes as a program writes them."""
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()

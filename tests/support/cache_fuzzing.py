"""Several processes change one mount at the same time; then the kernel's caches are looked at.

Each round has two parts. *Storm*: all processes do random operations on few names at once, and look
at names meanwhile, so that answers are under way while things change. *Turns*: one process after
another does an operation, and after each all others look. At rest, what the kernel keeps must be
what the mount says (``kernel_caches``), for every process.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib import format as npy_format

from support.kernel_caches import differences, read_kept, read_mapped, status_now, walk

FOLDERS = ("", "d", "d/e", "g1", "g2")
ARRAYS = ("a.npy", "b.npy", "c.npy")
ATTRIBUTES = (".attrs.json", "a.attrs.json", "b.attrs.json")
PAIRS = ("p.values.npy", "p.offsets.npy", "a.values.npy", "a.offsets.npy")
GROWING = ("chunked.npy", "tiled.npy", "fixed.npy", "small.npy")
SCRATCH = ("a.npy.tmp", ".t1", "b.attrs.json~")
LINKS = ("l", "k.npy")
VIEWS = ("a.csv", "a.png")
NAMES = (*ARRAYS, *GROWING, *ATTRIBUTES, *PAIRS, *SCRATCH, *LINKS, *VIEWS, "d", "e", "a")
_REFERENCE = {"class": "H5T_REFERENCE", "base": "H5T_STD_REF_OBJ"}
_MOST_ROWS = 20_000
_STORM_SECONDS = 0.4
_TURNS = 12
_PATIENCE_SECONDS = 240


def make_file(file: Path) -> None:
    """Make a file with some arrays, folders, and one group that has two names."""
    with h5py.File(file, "w", track_order=True) as opened:
        opened["a"] = np.arange(1000)
        opened.create_dataset("b", data=np.arange(3000.0), chunks=(500,), compression="gzip")
        opened["b"].attrs["k"] = 1
        opened["d/e/c"] = np.arange(5)
        opened["d/a"] = np.arange(7)
        opened["g1/a"] = np.arange(9)
        opened["g2"] = opened["g1"]
        opened["g1/b"] = opened["b"]
        opened["d/l"] = h5py.SoftLink("/d/a")
        # Chunked ones that may grow, one in several names; contiguous and compact ones.
        rows = np.arange(2000.0).reshape(-1, 4)
        for group in (opened, opened["d"]):
            may_grow = {"maxshape": (None, 4), "compression": "gzip"}
            group.create_dataset("chunked", data=rows, chunks=(64, 4), **may_grow)
            group.create_dataset("tiled", data=rows, chunks=(50, 3), shuffle=True, **may_grow)
            group["fixed"] = rows
            small = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            small.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple((100, 4))
            h5py.h5d.create(group.id, b"small", h5py.h5t.IEEE_F64LE, space, small)
        opened["g1/chunked"] = opened["chunked"]
        # A dataset that keeps its times, as files have it that were not made by h5py.
        kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        kept.set_obj_track_times(True)
        space = h5py.h5s.create_simple((10,))
        h5py.h5d.create(opened["d"].id, b"b", h5py.h5t.NATIVE_INT32, space, kept)


def every_path(root: Path) -> set[Path]:
    """Return all paths that a program of random operations names."""
    return {root / folder / name for folder in FOLDERS for name in NAMES}


class Actor:
    """Random operations of one process. ``held``: descriptors that stay open for a while."""

    def __init__(self, root: Path, seed: str) -> None:
        self._root = root
        self._random = random.Random(seed)
        self._held: list[int] = []
        self.done: Counter[str] = Counter()
        self.last = ""
        self._changes: list[Callable[[], None]] = [
            self.save, self.save, self.save, self.save_by_rename, self.save_other, self.attributes,
            self.attributes, self.bad_attributes, self.reference, self.pair, self.patch,
            self.patch_mapped, self.patch_row, self.append, self.append_rows, self.append_rows,
            self.truncate, self.cut_open, self.touch, self.mkdir, self.rmdir, self.unlink,
            self.unlink, self.rename, self.rename_array, self.rename_array, self.rename_folder,
            self.link, self.symlink, self.refuse, self.times, self.hold, self.let_go, self.let_go,
        ]  # fmt: skip

    def change(self) -> None:
        """Do one operation, whatever becomes of it."""
        operation = self._random.choice(self._changes)
        name = operation.__name__
        try:
            operation()
            self.done[name] += 1
            self.last += " done"
        except (OSError, ValueError, IndexError, EOFError) as error:  # EOFError: an empty file
            self.done[f"{name} refused"] += 1
            self.last += f" {error!r}"

    def look(self) -> None:
        """Look at something, as a program does that asks for names."""
        path = self._path(NAMES)
        how = self._random.randrange(5)
        with contextlib.suppress(OSError, ValueError):
            if how == 0:
                list(walk(self._root))
            elif how == 1:
                for entry in os.scandir(path.parent):
                    entry.stat(follow_symlinks=False)
            elif how == 2:
                status_now(path, asks=False)
            else:
                (read_kept if how == 3 else read_mapped)(path)

    def close(self) -> None:
        """Let go of all descriptors."""
        while self._held:
            self.let_go()

    def _path(self, names: tuple[str, ...]) -> Path:
        path = self._root / self._random.choice(FOLDERS) / self._random.choice(names)
        self.last = str(path.relative_to(self._root))
        return path

    def _array(self) -> np.ndarray[Any, Any]:
        kind = self._random.choice(["i4", "f8", "U3", "u1"])
        shape = self._random.choice([(3,), (5,), (1000,), (40, 30), ()])
        return np.full(shape, self._random.randrange(100)).astype(kind)

    def save(self) -> None:
        np.save(self._path(ARRAYS), self._array())

    def save_by_rename(self) -> None:
        path = self._path(ARRAYS)
        temporary = path.with_name(f"{path.name}.{os.getpid():x}.tmp")
        with open(temporary, "wb") as file:
            np.save(file, self._array())
        os.rename(temporary, path)

    def save_other(self) -> None:
        """Write with a descriptor that stays open after what it wrote is committed."""
        path = self._path(ARRAYS)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self._held.append(descriptor)
        os.ftruncate(descriptor, 0)
        with open(descriptor, "r+b", closefd=False) as file:
            np.save(file, self._array())
        os.close(os.dup(descriptor))

    def attributes(self) -> None:
        some = {f"k{n}": "x" * self._random.randrange(20) for n in range(self._random.randrange(3))}
        self._path(ATTRIBUTES).write_text(json.dumps(some))

    def bad_attributes(self) -> None:
        self._path(ATTRIBUTES).write_text(self._random.choice(["{", "[1]", '{"a": }']))

    def reference(self) -> None:
        target = self._random.choice(["/a", "/d/a", "/d", "/g1/b", "/d/e/c", "/k"])
        text = json.dumps({"r": target, "$types": {"r": _REFERENCE}})
        self._path(ATTRIBUTES).write_text(text)

    def pair(self) -> None:
        path = self._path(PAIRS)
        if "offsets" in path.name:
            np.save(path, np.array([0, 1, 3]))
        else:
            np.save(path, np.arange(3.0) + self._random.randrange(9))

    def patch(self) -> None:
        with open(self._path(ARRAYS), "r+b") as file:
            file.seek(128 + self._random.randrange(8))
            file.write(bytes([self._random.randrange(256)]))

    def patch_mapped(self) -> None:
        array = np.load(self._path(ARRAYS), mmap_mode="r+")
        if array.size:
            array.flat[0] = self._random.randrange(100)
        array.flush()
        del array

    def append(self) -> None:
        path = self._path(ARRAYS)
        array = np.load(path)
        np.save(path, np.concatenate([array, array[:1]]))

    def append_rows(self) -> None:
        """Append to an array that may grow in place, or cut it, by its header, written anew."""
        path = self._path(GROWING)
        with open(path, "r+b") as file:
            npy_format.read_magic(file)
            shape, order, dtype = npy_format.read_array_header_1_0(file)
            start, row = file.tell(), np.zeros(shape[1:], dtype)
            count = min(shape[0], self._random.choice([shape[0]] * 3 + [0, 64, 100]))
            rows = self._random.choice([0, 1, 7, 300])
            rows = rows if count + rows <= _MOST_ROWS else 0
            file.seek(0)
            fields = {"descr": dtype.str, "fortran_order": order}
            npy_format.write_array_header_1_0(file, fields | {"shape": (count + rows, *shape[1:])})
            if count < shape[0]:
                file.truncate(start + count * row.nbytes)
            file.seek(start + count * row.nbytes)
            file.write(np.full((rows, *shape[1:]), self._random.randrange(100), dtype).tobytes())

    def patch_row(self) -> None:
        """Write some elements in place of an array that may grow meanwhile."""
        path = self._path(GROWING)
        with open(path, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(128 + 8 * self._random.randrange(max((size - 128) // 8, 1)))
            file.write(bytes([self._random.randrange(256)]) * 8)

    def truncate(self) -> None:
        os.truncate(self._path(ARRAYS), self._random.choice([0, 128, 130, 5000]))

    def cut_open(self) -> None:
        with open(self._path(ARRAYS), "r+b") as file:
            file.truncate(self._random.choice([0, 100, 140, 6000]))

    def touch(self) -> None:
        self._path(NAMES).touch()

    def mkdir(self) -> None:
        self._path(("d", "e", "a")).mkdir()

    def rmdir(self) -> None:
        self._path(("d", "e", "a")).rmdir()

    def unlink(self) -> None:
        self._path(NAMES).unlink()

    def rename(self) -> None:
        os.rename(self._path(NAMES), self._path(NAMES))

    def rename_array(self) -> None:
        os.rename(self._path(ARRAYS), self._path((*ARRAYS, *SCRATCH)))

    def rename_folder(self) -> None:
        os.rename(self._path(("d", "e")), self._path(("d", "e", "a")))

    def link(self) -> None:
        os.link(self._path(ARRAYS), self._path((*ARRAYS, *SCRATCH)))

    def symlink(self) -> None:
        target = self._random.choice(["a.npy", "b.npy", "d", "d/a.npy", "nowhere"])
        os.symlink(target, self._path(LINKS))

    def refuse(self) -> None:
        """Write what is no array, so that `close` is an error and the old one stays."""
        path = self._path(ARRAYS)
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.pwrite(descriptor, b"no array" * self._random.randrange(1, 900), 0)
        finally:
            os.close(descriptor)

    def times(self) -> None:
        now = self._random.randrange(10**18, 2 * 10**18)
        os.utime(self._path(NAMES), ns=(now, now))

    def hold(self) -> None:
        path = self._path((*ARRAYS, *ATTRIBUTES))
        self._held.append(os.open(path, self._random.choice([os.O_RDONLY, os.O_RDWR])))
        os.pread(self._held[-1], 4096, 0)

    def let_go(self) -> None:
        if self._held:
            os.close(self._held.pop(self._random.randrange(len(self._held))))


def act(root: Path, seed: str, connection: Connection) -> None:
    """Be one of the processes, until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    actor = Actor(root, seed)
    while True:
        try:
            order = connection.recv()
        except EOFError:
            return
        answer: Any = None
        if order == "storm":
            stop = time.monotonic() + _STORM_SECONDS
            while time.monotonic() < stop:
                actor.change()
                actor.look()
        elif order == "change":
            actor.change()
            answer = actor.last
        elif order == "look":
            answer = differences(root, every_path(root))
        elif order == "rest":
            with contextlib.suppress(OSError):
                actor.close()
        elif order == "count":
            answer = actor.done
        elif order == "end":
            return
        connection.send(answer)


@dataclass
class Found:
    """What a run has found: ``operations`` by name, and ``problems``."""

    rounds: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    problems: list[str] = field(default_factory=list)


class Actors:
    """The processes, and the rounds that they play."""

    def __init__(self, root: Path, seed: int, count: int = 3) -> None:
        self._root, self._seed = root, seed
        self._ends: list[Connection] = []
        self._processes: list[multiprocessing.context.ForkProcess] = []
        self._started = 0
        for _ in range(count):
            self._start(len(self._ends))
        self._random = random.Random(seed)
        self.found = Found()

    def _start(self, number: int) -> None:
        """Start a process, in the place of the one with this number."""
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        seed = f"{self._seed} {self._started}"
        process = context.Process(target=act, args=(self._root, seed, there), daemon=True)
        process.start()
        there.close()
        self._started += 1
        self._ends[number : number + 1] = [here]
        self._processes[number : number + 1] = [process]

    def play(self, turns: int = _TURNS) -> None:
        """Play one round."""
        self._tell("storm")
        self._look("after a storm")
        for _ in range(turns):
            whose = self._random.randrange(len(self._ends))
            did = self._tell("change", whose)[0]
            self._look(f"after process {whose} did {did}")
        self._tell("rest")
        self._look("when all is closed")
        self.found.rounds += 1

    def end(self) -> Found:
        """End the processes; return what was found."""
        for done in self._tell("count"):
            self.found.operations += done
        # Closing a pipe tells nobody: the processes have inherited each other's ends.
        for end in self._ends:
            end.send("end")
        for process in self._processes:
            process.join(_PATIENCE_SECONDS)
            if process.is_alive():
                raise TimeoutError("a process does not end")
        return self.found

    def _look(self, when: str) -> None:
        # Any process would see the same, since the kernel keeps one copy for all.
        self.found.looks += 1
        for problem in self._tell("look", self._random.randrange(len(self._ends)))[0]:
            self.found.problems.append(f"round {self.found.rounds}, {when}: {problem}")

    def _tell(self, order: str, whose: int | None = None) -> list[Any]:
        numbers = range(len(self._ends)) if whose is None else [whose]
        for number in numbers:
            self._ends[number].send(order)
        return [self._answer(number, order) for number in numbers]

    def _answer(self, number: int, order: str) -> Any:
        if not self._ends[number].poll(_PATIENCE_SECONDS):
            raise TimeoutError(f"a process does not come back from {order!r}")
        try:
            return self._ends[number].recv()
        except EOFError:
            process = self._processes[number]
            process.join(_PATIENCE_SECONDS)
            if process.exitcode != -signal.SIGBUS:
                raise
        # As in any file system: it touched pages of a mapped file that another process has cut off.
        self._start(number)
        self.found.operations["bus error"] += 1
        return self._tell(order, number)[0]

"""Calls of a writing tree that overlap: made by several threads, and put in an order afterwards.

Each thread notes what it asked, what came of it, and when. Then an order is looked for in which one
call after another, upon a plain model, has just these results, and in which no call that had ended
comes after one that began later.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from h5fs.errors import ChangeFailedError, H5fsError, LostChangesError
from h5fs.model.objects import ObjectKind, ObjectRef
from h5fs.tree import WritableTree
from support.memory_store import MemoryStore, _Object
from support.reference import npy_bytes
from support.waiting import PATIENCE_SECONDS

FOLDERS = (b"/d", b"/e")
FILES = (b"/a.npy", b"/d/a.npy", b"/d/b.npy", b"/e/a.npy")
KEPT = b"/kept.npy"
"""An array that stays, and is written in place."""

_LOST = "lost"


def array_of(number: int) -> bytes:
    """Return an array file whose size tells which one it is."""
    return npy_bytes(np.zeros(number, "u1"))


class ReusingStore(MemoryStore):
    """A store that uses the numbers of objects that are gone for the next new ones."""

    def __init__(self) -> None:
        self._free: list[int] = []
        super().__init__()

    def _make(self, kind: ObjectKind, path: bytes) -> _Object:
        if not self._free:
            return super()._make(kind, path)
        made = _Object(ObjectRef(0, self._free.pop(), path), kind)
        self._objects[made.ref.id] = made
        return made

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        target = self.get_link(group, name).target
        super().delete_link(group, name)
        if target is not None and target.ref not in self.held:
            self._free.append(target.ref.id)


class SlowStore:
    """A store with one worker, which takes its time and fails now and then.

    ``fails``: how many of a hundred changes fail before they are made; of some kinds as many fail
    afterwards. ``overlaps``: how many changes were asked for while another call was waited for.
    """

    def __init__(self, seed: object) -> None:
        self.inside = ReusingStore()
        self.fails = 0
        self.overlaps = 0
        self._worker = threading.Lock()
        self._random = random.Random(str(seed))
        self._waiting = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inside, name)
        if name not in _CHANGES and name not in _QUESTIONS:
            return value

        def ask(*given: Any) -> Any:
            self._waiting += 1
            self.overlaps += self._waiting > 1 and name in _CHANGES
            try:
                return self._work(name, value, given)
            finally:
                self._waiting -= 1

        return ask

    def _work(self, name: str, method: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        with self._worker:
            if self._random.random() < 0.5:
                time.sleep(self._random.random() * 0.002)
            if name in _CHANGES and self._random.randrange(100) < self.fails:
                raise ChangeFailedError("not made")
            result = method(*given)
            if name in _CAN_BE_LOST and self._random.randrange(100) < self.fails:
                raise LostChangesError("perhaps made")
        if self._random.random() < 0.3:  # the answer is on its way
            time.sleep(self._random.random() * 0.002)
        return result


_CHANGES = frozenset(
    {
        "create_group", "create_link", "delete_link", "move_link", "write_array",
        "write_elements", "write_attributes",
    }
)  # fmt: skip
_CAN_BE_LOST = frozenset({"create_group", "delete_link"})
_QUESTIONS = frozenset({"list_links", "get_link", "read_attributes", "read_into"})


@dataclass(frozen=True)
class Event:
    """One call: what was asked, what came of it, and when it began and ended."""

    number: int
    asked: tuple[Any, ...]
    result: Any
    begin: float
    end: float


class Recorder:
    """Makes calls, and notes them."""

    def __init__(self, tree: WritableTree) -> None:
        self._tree = tree
        self._numbers = itertools.count(1)
        self._handles: dict[int, int] = {}
        self.events: list[Event] = []

    def number(self) -> int:
        """Return a new number: of a call, or of what it writes."""
        return next(self._numbers)

    def ask(self, *asked: Any) -> Any:
        """Make a call; return its result."""
        number, begin = self.number(), time.monotonic()
        try:
            result = getattr(self, f"_{asked[0]}")(number, *asked[1:])
        except LostChangesError as error:
            result = "failed" if isinstance(error, ChangeFailedError) else _LOST
        except H5fsError as error:
            result = os.strerror(error.errno)
        self.events.append(Event(number, asked, result, begin, time.monotonic()))
        return number if asked[0] == "create" and result == "ok" else result

    def _create(self, number: int, path: bytes) -> str:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._handles[number] = self._tree.create(path, flags, 1)
        return "ok"

    def _write(self, _number: int, file: int, size: int) -> str:
        self._tree.write(self._handles[file], memoryview(array_of(size)), 0)
        return "ok"

    def _flush(self, _number: int, file: int) -> str:
        self._tree.flush(self._handles[file], 1)
        return "ok"

    def _release(self, _number: int, file: int) -> str:
        self._tree.release(self._handles.pop(file))
        return "ok"

    def _stat(self, _number: int, path: bytes) -> int:
        return self._tree.get_status(path).size_bytes

    def _list(self, _number: int, path: bytes) -> tuple[bytes, ...]:
        names = self._tree.list_folder(path).names
        return tuple(sorted(n for n in names if n != KEPT[1:] and not n.endswith(b".json")))

    def _mkdir(self, _number: int, path: bytes) -> str:
        self._tree.make_folder(path)
        return "ok"

    def _rmdir(self, _number: int, path: bytes) -> str:
        self._tree.remove_folder(path)
        return "ok"

    def _unlink(self, _number: int, path: bytes) -> str:
        self._tree.unlink(path)
        return "ok"

    def _rename(self, _number: int, old: bytes, new: bytes) -> str:
        self._tree.rename(old, new)
        return "ok"

    def _patch(self, _number: int, value: int) -> str:
        handle = self._tree.open(KEPT, os.O_WRONLY, 1)
        try:
            self._tree.write(handle, memoryview(bytes([value])), len(array_of(1)) - 1)
        finally:
            self._tree.release(handle)
        return "ok"

    def _look(self, _number: int) -> int:
        handle = self._tree.open(KEPT, os.O_RDONLY, 1)
        try:
            return self._tree.read(handle, 1, len(array_of(1)) - 1)[0]
        finally:
            self._tree.release(handle)

    def _describe(self, _number: int, value: int) -> str:
        path = KEPT.replace(b".npy", b".attrs.json")
        self._tree.change_attributes(KEPT, {b"n": str(value).encode()})
        assert self._tree.get_status(path).size_bytes
        return "ok"


State = tuple[tuple[tuple[bytes, int], ...], tuple[tuple[int, int], ...], int]
"""Which file, or 0 for a folder, is at which path; which size was written to each; and the byte of
the array that stays."""


_NEEDS_A_FILE = frozenset({"stat", "unlink", "rename", "rmdir", "list"})


def outcomes(state: State, event: Event) -> Iterator[tuple[Any, State]]:
    """Yield what a call may come to, and what there is then."""
    paths, sizes, byte = dict(state[0]), dict(state[1]), state[2]
    name, *given = event.asked
    if event.result == "failed":
        yield "failed", state
        return
    if event.result == _LOST:
        yield _LOST, state
    result: Any = "ok"
    path = given[0] if given and isinstance(given[0], bytes) else b""
    folder = path.rpartition(b"/")[0]
    if folder and folder not in paths:
        result = os.strerror(2)
    elif name in ("create", "mkdir"):
        if path in paths:
            result = os.strerror(17)
        else:
            paths[path] = event.number if name == "create" else 0
            sizes[paths[path]] = 0
    elif name in _NEEDS_A_FILE and path not in paths and path != b"/":
        result = os.strerror(2)
    elif name == "stat":
        file = paths[path]
        result = len(array_of(sizes[file])) if sizes[file] else 0
    elif name == "list":
        inside = [each for each in paths if each.rpartition(b"/")[0] == path.rstrip(b"/")]
        result = tuple(sorted(each.rpartition(b"/")[2] for each in inside))
    elif name == "unlink":
        del paths[path]
    elif name == "rmdir":
        if any(each.startswith(path + b"/") for each in paths):
            result = os.strerror(39)
        else:
            del paths[path]
    elif name == "rename":
        new = given[1]
        new_folder = new.rpartition(b"/")[0]
        if new_folder and new_folder not in paths:
            result = os.strerror(2)
        elif not sizes[paths[path]]:
            result = os.strerror(22)
        else:
            paths[new] = paths.pop(path)
    elif name == "write":
        sizes[given[0]] = given[1]
    elif name == "patch":
        byte = given[0]
    elif name == "look":
        result = byte
    after = (tuple(sorted(paths.items())), tuple(sorted(sizes.items())), byte)
    yield (_LOST if event.result == _LOST else result), after


def find_order(events: list[Event], start: State) -> list[Event] | None:
    """Return the calls in an order in which they have their results; None where there is none."""
    events = sorted(events, key=lambda each: each.begin)
    seen: set[tuple[int, State]] = set()
    order: list[Event] = []

    def go_on(done: int, state: State) -> bool:
        if done == (1 << len(events)) - 1:
            return True
        if (done, state) in seen:
            return False
        seen.add((done, state))
        left = [i for i in range(len(events)) if not done >> i & 1]
        first_end = min(events[i].end for i in left)
        for i in left:
            if events[i].begin > first_end:
                break
            for result, after in outcomes(state, events[i]):
                if result == events[i].result and go_on(done | 1 << i, after):
                    order.append(events[i])
                    return True
        return False

    return order[::-1] if go_on(0, start) else None


def play(recorder: Recorder, seed: object, steps: int) -> None:
    """Make random calls, as one of the threads."""
    rng = random.Random(str(seed))
    for _ in range(steps):
        what = rng.randrange(14)
        path, other, folder = rng.choice(FILES), rng.choice(FILES), rng.choice(FOLDERS)
        if what <= 4:
            file = recorder.ask("create", path)
            if isinstance(file, int):
                recorder.ask("write", file, recorder.number())
                recorder.ask("flush", file)
                recorder.ask("release", file)
        elif what == 5:
            recorder.ask("unlink", path)
        elif what == 6 and path != other:
            recorder.ask("rename", path, other)
        elif what == 7:
            recorder.ask(rng.choice(["mkdir", "mkdir", "rmdir"]), folder)
        elif what == 8:
            recorder.ask("list", rng.choice([b"/", *FOLDERS]))
        elif what == 9:
            recorder.ask("patch", rng.randrange(256))
        elif what == 10:
            recorder.ask("look")
        elif what == 11:
            recorder.ask("describe", recorder.number())
        else:
            recorder.ask("stat", path)


def play_together(tree: WritableTree, seed: object, threads: int, steps: int) -> Recorder:
    """Let several threads play; then look at everything."""
    recorder = Recorder(tree)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            play(recorder, f"{seed} {number}", steps)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(PATIENCE_SECONDS)
        assert not each.is_alive(), "a call does not end"
    if errors:
        raise errors[0]
    for path in FILES:
        recorder.ask("stat", path)
    for folder in (b"/", *FOLDERS):
        recorder.ask("list", folder)
    recorder.ask("look")
    return recorder


def describe(events: list[Event]) -> str:
    """Return calls as lines, for people."""
    start = min(each.begin for each in events)
    return "\n".join(
        f"{1000 * (e.begin - start):8.2f} {1000 * (e.end - start):8.2f} {e.number:3} "
        f"{e.asked} -> {e.result}"
        for e in sorted(events, key=lambda each: each.begin)
    )

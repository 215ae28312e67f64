"""Mounts of one domain that write at once, while nodes of the service are killed: is anything lost?

Each round lets all mounts write at the same time (single elements, attributes, rows at the end,
arrays of their own that are written anew and removed, one name that all want), compares what each
of them shows with what was written, and has it flushed. Then a node, or all, are killed while the
mounts go on, and started again: what was flushed must be there, or what was written later. Where
only the service node was killed, which keeps nothing, all that was answered must be.
"""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from support.cluster_files import (
    LENGTH,
    append_rows,
    array_value,
    attribute_of,
    fsync,
    load,
    put_element,
)
from support.hsds_service import Service, running_service
from support.mounts import Mounted, mounted

MOUNTS, NODES = 4, 4
_ELEMENTS, _ROWS, _CHANGES = 400, 5, 25
_TIMEOUT_SECONDS, _BACK_SECONDS, _JOIN_SECONDS = 8, 120, 120
_LOAD_SECONDS = 1.5
_OLD_SECONDS = 1.1  # what a mount has found before is old then
_LINES_TOLD = 8
_PASSING = (errno.EIO, errno.ESTALE, errno.ENOENT)  # while nodes are down
_SERVICE_NODE = "sn_1"


class LossError(AssertionError):
    """Something that was promised is not there."""


class Writer:
    """What one mount alone writes, as numbers by keys; 0: nothing is there.

    ``possible``: what was there at the last flush, then each later value, answered or not;
    ``answered``: the last one whose write was answered. ``rows``: those whose append was.
    """

    def __init__(self, number: int, mount: Mounted, seed: str, counts: Counter[str]) -> None:
        self.number, self.folder = number, mount.path
        self.possible: dict[str, list[int]] = {}
        self.answered: dict[str, int] = {}
        self.rows: list[int] = []
        self._chance = random.Random(f"{seed}, mount {number}")
        self._counts = counts
        self._latest = number

    def change_something(self) -> None:
        """Write one thing. Raises ``OSError``: it may have been done then, or not."""
        self._latest += MOUNTS  # no other mount has this number
        value = self._latest
        kind = self._chance.choice(("element", "attribute", "array", "removal", "append"))
        if kind == "element":
            key = f"element {self._chance.randrange(self.number, _ELEMENTS, MOUNTS)}"
            self._change(key, value, lambda: put_element(self.folder, int(key.split()[1]), value))
        elif kind == "attribute":
            key = f"attribute user.m{self.number}_{self._chance.randrange(4)}"
            path, name = self.folder / "elements.npy", key.split()[1]
            self._change(key, value, lambda: os.setxattr(path, name, str(value).encode()))
        elif kind == "append":
            self._counts["stale files, opened again"] += append_rows(
                self.folder / "rows.npy", np.full(_ROWS, value)
            )
            self.rows += [value] * _ROWS
        else:
            key = f"array m{self.number}_{self._chance.randrange(3)}.npy"
            path = self.folder / key.split()[1]
            if kind == "array":
                self._change(key, value, lambda: np.save(path, np.full(LENGTH, value)))
            elif self.answered.get(key):
                self._change(key, 0, path.unlink)
            else:
                return
        self._counts[f"{kind}s"] += 1

    def _change(self, key: str, value: int, do: Callable[[], object]) -> None:
        self.possible.setdefault(key, [self.answered.get(key, 0)]).append(value)
        do()
        self.answered[key] = value

    def note_flushed(self) -> None:
        """Take note that what was answered is safe."""
        self.possible = {key: [value] for key, value in self.answered.items()}

    def take_over(self, found: dict[str, int]) -> None:
        """Go on from what is there after a loss that is allowed."""
        self.answered = {key: found[key] for key in self.possible}
        self.note_flushed()


class Cluster:
    """A domain and its mounts. ``counts``: what was done, and seen."""

    def __init__(self, service: Service, mounts: list[Mounted], seed: int) -> None:
        self._service = service
        self._mounts = mounts
        self._seed = seed
        self._chance = random.Random(seed)
        self._rounds = 0
        self._flushed_rows: list[int] = []
        self.counts: Counter[str] = Counter()
        self._writers = [
            Writer(number, mount, str(seed), self.counts) for number, mount in enumerate(mounts)
        ]
        np.save(mounts[0].path / "elements.npy", np.zeros(_ELEMENTS, "<i8"))
        np.save(mounts[0].path / "rows.npy", np.zeros(0, "<i8"))
        self._flush_all()

    def run_round(self, *, kills: bool = True) -> None:
        """Write, compare and flush; then kill nodes under load. Raises ``LossError``."""
        self._rounds += 1
        try:
            self._run_round(kills=kills)
        except OSError as error:
            self._demand(False, f"{error}")

    def _run_round(self, *, kills: bool) -> None:
        self._at_once(self._write_calmly)
        self._want_one_name()
        self._compare_calm()
        self._flush_all()
        if kills:
            self._kill_under_load()
        self.counts["rounds"] += 1

    def _write_calmly(self, writer: Writer) -> None:
        for _ in range(_CHANGES):
            writer.change_something()

    def _want_one_name(self) -> None:
        """Let all make a folder, and an array, of one name: one has it, the others are told."""
        for name in (f"folder{self._rounds}", f"array{self._rounds}.npy"):
            won: list[int] = []

            def make(writer: Writer, name: str = name, won: list[int] = won) -> None:
                path = writer.folder / name
                try:
                    if name.endswith(".npy"):
                        with path.open("xb") as opened:
                            np.save(opened, np.full(LENGTH, writer.number))
                    else:
                        path.mkdir()
                except FileExistsError:
                    self.counts["names that another mount had"] += 1
                else:
                    won.append(writer.number)

            self._at_once(make)
            self._demand(len(won) == 1, f"{name}: mounts {won} have made it")
            self.counts["names that all wanted"] += 1
            for mount in self._mounts:
                path = mount.path / name
                is_good = path.is_dir() or (load(path) == won[0]).all()
                self._demand(is_good, f"{path} is not what mount {won[0]} made")

    def _compare_calm(self) -> None:
        """Compare what mounts show: nothing but what was answered, and all of it."""
        time.sleep(_OLD_SECONDS)

        def compare(writer: Writer) -> None:
            for mount in self._lookers(writer):
                found = self._look(mount, writer)
                wrong = {key: found[key] for key, value in writer.answered.items()
                         if found[key] != value}  # fmt: skip
                self._demand(not wrong, f"{mount.path} shows of mount {writer.number} {wrong}")
            rows = load(writer.folder / "rows.npy").tolist()
            self._compare_rows(rows, is_all=True)

        self._at_once(compare)

    def _lookers(self, writer: Writer) -> list[Mounted]:
        """Return the mounts that are looked at for what one has written: its own and another."""
        return [self._mounts[writer.number], self._mounts[(writer.number + 1) % MOUNTS]]

    def _compare_rows(self, rows: list[int], *, is_all: bool) -> None:
        flushed = self._flushed_rows
        self._demand(rows[: len(flushed)] == flushed, "rows that were flushed are others now")
        if is_all:
            written = Counter(row for writer in self._writers for row in writer.rows)
            missing = written - Counter(rows)
            self._demand(not missing, f"rows are missing: {missing}")

    def _look(self, mount: Mounted, writer: Writer) -> dict[str, int]:
        """Return what a mount shows of what a writer has written; -1 for a mixture."""
        elements = load(mount.path / "elements.npy")
        found = {}
        for key in writer.possible:
            kind, name = key.split()
            if kind == "element":
                found[key] = int(elements[int(name)])
            elif kind == "attribute":
                found[key] = attribute_of(mount.path / "elements.npy", name)
            else:
                found[key] = array_value(mount.path / name)
        return found

    def _flush_all(self) -> None:
        self._at_once(lambda writer: fsync(writer.folder / "elements.npy"))
        for writer in self._writers:
            writer.note_flushed()
        self._flushed_rows = load(self._mounts[0].path / "rows.npy").tolist()
        self.counts["flushes"] += len(self._writers)

    def _kill_under_load(self) -> None:
        data_nodes = [name for name in self._service.pids if name != _SERVICE_NODE]
        names = self._chance.choice(
            [[self._chance.choice(data_nodes)], [_SERVICE_NODE], list(self._service.pids)]
        )
        for writer in self._writers:
            writer.rows = []
        killing = threading.Timer(self._chance.uniform(0, _LOAD_SECONDS), self._service.kill, names)
        is_over = threading.Event()
        killing.start()
        try:
            self._at_once(lambda writer: self._write_until_error(writer, is_over), is_over, killing)
        finally:
            killing.join()
        self._service.start_again(*names)
        self.counts[f"kills of {names[0] if len(names) == 1 else 'all nodes'}"] += 1
        began = time.monotonic()
        self._until_well(names)
        self.counts["seconds until all was well"] += round(time.monotonic() - began)
        self._compare_after_loss(names)

    def _write_until_error(self, writer: Writer, is_over: threading.Event) -> None:
        deadline = time.monotonic() + _LOAD_SECONDS + 2 * _TIMEOUT_SECONDS
        try:
            while time.monotonic() < deadline and not is_over.is_set():
                writer.change_something()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            self.counts[f"writes that failed with {errno.errorcode[error.errno or 0]}"] += 1

    def _until_well(self, names: list[str]) -> None:
        """Wait until each mount reads what it wrote, and flushes; first EIO may come."""
        deadline = time.monotonic() + _BACK_SECONDS

        def wait(writer: Writer) -> None:
            while True:
                try:
                    self._look(self._mounts[writer.number], writer)
                    fsync(writer.folder / "elements.npy")
                    return
                except OSError as error:
                    self._demand(error.errno in _PASSING, f"{error} after {names} were killed")
                    self._demand(time.monotonic() < deadline, f"{writer.folder}: {error}")
                    self.counts["errors until all was well"] += 1
                    time.sleep(0.2)

        self._at_once(wait)

    def _compare_after_loss(self, names: list[str]) -> None:
        """Find what was flushed, or written later, and take that for what is there."""
        time.sleep(_OLD_SECONDS)
        for writer in self._writers:
            views = [self._look(mount, writer) for mount in self._lookers(writer)]
            self._demand(views[0] == views[1], f"mounts differ: {views}")
            for key, value in views[0].items():
                allowed = writer.possible[key]
                if names == [_SERVICE_NODE]:  # all that was answered, and perhaps the last one
                    at = len(allowed) - 1 - allowed[::-1].index(writer.answered.get(key, 0))
                    allowed = allowed[at:]
                self._demand(value in allowed, f"{key} is {value}, and not of {allowed}")
                self.counts["later values lost, as may be"] += value != writer.answered.get(key, 0)
            writer.take_over(views[0])
        rows = load(self._mounts[0].path / "rows.npy").tolist()
        self._compare_rows(rows, is_all=names == [_SERVICE_NODE])
        for writer in self._writers:
            writer.rows = []
        self._flushed_rows = rows

    def _at_once(
        self, do: Callable[[Writer], Any], is_over: threading.Event | None = None,
        killing: threading.Timer | None = None,
    ) -> None:  # fmt: skip
        """Let all writers do something at the same time. Raises what one of them raised."""
        problems: list[BaseException] = []

        def attempt(writer: Writer) -> None:
            try:
                do(writer)
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=attempt, args=(each,)) for each in self._writers]
        for thread in threads:
            thread.start()
        if is_over is not None and killing is not None:
            killing.join()
            time.sleep(0.5)  # some write on while nodes are dead; others never meet a dead one
            is_over.set()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
            self._demand(not thread.is_alive(), "a write does not end")
        if problems:
            raise problems[0]

    def _demand(self, is_so: bool, what: str) -> None:
        if not is_so:
            logs = "".join(
                f"\n{mount.path}: {line}" for mount in self._mounts
                for line in mount.log_lines()[-_LINES_TOLD:]
            )  # fmt: skip
            raise LossError(f"seed {self._seed}, round {self._rounds}: {what}{logs}")


@contextmanager
def running_cluster(folder: Path, seed: int) -> Iterator[Cluster]:
    """Run a service and mount a new domain some times; everything ends with the block."""
    domain = "/home/user/cluster.h5"
    url: Any = "hdf5:/" + domain  # a Path would make one slash of two
    options = ["--mode", "r+", "-o", f"timeout={_TIMEOUT_SECONDS},xattr"]
    before = {}
    with ExitStack() as stack:
        service = stack.enter_context(running_service(folder / "c", NODES, is_quick=False))
        for name, value in service.environment.items():
            before[name] = os.environ.get(name)
            os.environ[name] = value
        try:
            service.ask("PUT", "/", domain)
            mounts = [stack.enter_context(mounted(url, options=options)) for _ in range(MOUNTS)]
            cluster = Cluster(service, mounts, seed)
            yield cluster
            for mount in mounts:
                told = [line for line in mount.log_lines() if "Traceback" in line]
                cluster._demand(not told, f"{mount.log}: {told}")
        finally:
            for name, old in before.items():
                os.environ.pop(name)
                if old is not None:
                    os.environ[name] = old

"""Changes that a worker makes together, on a simulated disk that is cut off everywhere.

The worker is the shipped one, in this process: its store writes through the log to a disk in
memory. What it has answered before the cut must be there; of several changes under way all are
there, or none. And the daemon must have been told of each object whose data are others.
"""

from __future__ import annotations

import io
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5_work
import msgspec
import numpy as np
from h5py import h5f, h5g
from power_cuts import Mutant, Tally, replace_attribute
from simulated_disk import CommitMark, History, SimulatedFile
from support.reference import npy_bytes

from h5fs.model.datatypes import BitLayout, ByteOrder, IntegerType
from h5fs.model.objects import Attribute, Link, LinkKind, ObjectRef
from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.hdf5.logged_main import LoggedMain
from h5fs.store.hdf5.stepwise_store import StepwiseStore
from h5fs.store.hdf5.writing_store import WritingHdf5Store
from h5fs.store.hidden_names import HIDDEN_GROUP, HIDDEN_PATH
from h5fs.store.library_interface import NewArray, first_changed_bytes
from h5fs.store.log.logged_file import LoggedFile
from h5fs.store.log.recovery import recover
from h5fs.store.worker_process import worker as worker_module
from h5fs.store.workers import messages
from h5fs.store.workers.shared_buffers import make_memory_file
from h5fs.store.workers.worker_file import FileKind

STATES_PER_SESSION = 20
_INTEGER = IntegerType(BitLayout(8, ByteOrder.LITTLE, 64), signed=True)
_ROOT = ObjectRef(0, 0, b"/")
_FAILS = b"fails half way"

Change = tuple[str, tuple[Any, ...]]


class _FailingStore(WritingHdf5Store):
    """A store in which the library fails when it has made a group of a certain name."""

    def create_group(self, group: ObjectRef, name: bytes) -> Any:
        if name != _FAILS:
            return super().create_group(group, name)
        with self._changing(name), self._step(()):
            h5g.create(self._group_id(group), name)
            raise RuntimeError("the library fails")


class Worker:
    """The shipped worker over a history; what it sends is taken apart as the daemon does."""

    def __init__(self, history: History, boot: bytes, file: Path) -> None:
        self.history = history
        disk = [SimulatedFile(history, name) for name in ("main", "log")]
        self._logged = LoggedFile(disk[0], disk[1], boot_id=boot)
        descriptor = os.open(file, os.O_RDONLY)
        options = StoreOptions(file, mode=Mode.UPDATE, boot_id=boot)

        def make(_options: Any, _kind: Any, _files: Any, *, fetch: Any, **others: Any) -> Any:
            return _FailingStore(options, LoggedMain(self._logged, descriptor), **others)

        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        buffer = make_memory_file("reply-buffer", messages.NOTE_BYTES)
        with _replaced(worker_module, "make_library_store", make):
            self._worker = worker_module.Worker(options, theirs, buffer, FileKind.LOGGED, ())
        self._descriptors = (descriptor, buffer)
        self.store: Any = self._worker._store
        self.store.open()

    def ask(self, method: str, arguments: Any) -> tuple[Any, tuple[int, ...] | None, bool]:
        """Return the answer, the objects that it says have changed, and whether the worker ends."""
        encoded = msgspec.Raw(messages.encode(arguments))
        packet = messages.encode(messages.Request(method, encoded, 1))
        self._worker._answer(lambda: self._worker._call(packet, []))
        received = memoryview(bytes([messages.PROGRESS]))
        while received[0] == messages.PROGRESS:
            received = memoryview(self._socket.recv(2**20))
        changed: tuple[int, ...] | None = ()
        if received[0] == messages.CHANGED:
            changed, _, received = messages.split_changed(received[1:])
        body = received[1 + messages.NUMBER_BYTES :]
        if received[0] in (messages.FAILURE, messages.LAST_FAILURE):
            return messages.decode_failure(body), changed, received[0] == messages.LAST_FAILURE
        if received[0] == messages.RESULT_IN_BUFFER:
            size = int.from_bytes(body, "little")
            body = memoryview(os.pread(self._descriptors[1], size, messages.NOTE_BYTES))
        return messages.METHODS[method].decode_result(body), changed, False

    @property
    def opened(self) -> h5py.File:
        """The file as the library has it now."""
        return h5py.File(self.store._files.file_id(0))

    def data(self) -> dict[int, bytes]:
        """Return the data of each dataset by the object's id."""
        found: dict[int, bytes] = {}

        def add(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[h5py.h5o.get_info(item.id).addr] = item[()].tobytes()

        self.opened.visititems(add)
        return found

    def close(self) -> None:
        """End, without a commit. What the library still writes goes to a history of its own."""
        self.history.calls = list(self.history.calls)
        self.store.close()
        self._socket.close()
        self._worker._connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def run_changes_campaign(
    states: int,
    seed: int,
    file: Path,
    show: Callable[[str], None] = lambda text: None,
    *,
    stops_early: bool = False,
) -> Tally:
    """Look at ``states`` states of files that a worker changes; with ``stops_early`` to a loss.

    ``file``: any file that is there; what the worker writes is on the simulated disk.
    """
    tally = Tally()
    rng = random.Random(seed)
    history, boot = _new_file(rng), 0
    while tally.states < states and not (stops_early and tally.losses):
        show(f"{tally.states} states, {len(tally.losses)} lost")
        try:
            history = _work(history, b"boot %d" % boot, file, rng, tally)
        except Exception as error:
            tally.losses.append(f"session of seed {seed}, boot {boot}: {error!r}")
            history = _new_file(rng)
            continue
        for _ in range(STATES_PER_SESSION):
            _look(history.until(_choose_cut(history, rng)), boot, rng, tally)
        history = history.until(_choose_cut(history, rng))
        if rng.random() < 0.5 and len(history.calls) < 1000:
            continue  # a kill: the same boot goes on
        boot += 1
        files = history.after_power_cut(rng)
        image = _recovered(files, boot, tally, "the next session")
        if image is None or rng.random() < 0.2:
            history = _new_file(rng)
        else:
            history = History(files, hdf5_work.digest_image(image).encode())
    return tally


def _new_file(rng: random.Random) -> History:
    content = io.BytesIO()
    with h5py.File(content, "w", libver=rng.choice(["earliest", "v110", "latest"])) as opened:
        for name in "abc":
            opened[name] = np.arange(rng.randrange(1, 600))
        opened.create_dataset("chunks", data=np.arange(900), chunks=(100,), maxshape=(None,))
        opened.create_group("g")
    return History(
        {"main": content.getvalue(), "log": b""},
        hdf5_work.digest_image(content.getvalue()).encode(),
    )


def _work(history: History, boot: bytes, file: Path, rng: random.Random, tally: Tally) -> History:
    """Let a worker make changes; return the history up to its end."""
    worker = Worker(history, boot, file)
    try:
        for _ in range(rng.randrange(3, 9)):
            if rng.random() < 0.2:
                start = len(history.calls)
                worker.ask("commit", (rng.random() < 0.3,))
                digest = hdf5_work.digest(worker.opened).encode()
                history.commits.append(CommitMark(start, len(history.calls), True, digest))
                tally.counts["durable commits"] += 1
            elif not _make_changes(worker, rng, tally):
                break
        return History(history.base, history.image, list(history.calls), list(history.commits))
    finally:
        worker.close()


def _make_changes(worker: Worker, rng: random.Random, tally: Tally) -> bool:
    """Ask for changes; return whether the worker goes on."""
    history, before = worker.history, worker.data()
    changes = [_some_change(worker, rng) for _ in range(rng.choice([1, 2, 3, 5, 8, 20]))]
    if rng.random() < 0.05:
        changes.insert(rng.randrange(len(changes) + 1), ("create_group", (_ROOT, _FAILS)))
    start = len(history.calls)
    answer, changed, has_ended = worker.ask(messages.CHANGES, changes)
    stop = len(history.calls)
    tally.counts["requests of changes"] += 1
    tally.counts["changes"] += len(changes)
    if has_ended:
        # Nothing of it may be there: the daemon asks for each of them again.
        tally.counts["requests that failed half way"] += 1
        return False
    if not isinstance(answer, messages.Outcomes):
        tally.losses.append(f"changes that are not answered: {answer!r}")
        return False
    tally.counts["changes that were refused"] += sum(
        each.refusal is not None for each in answer.each
    )
    digest = hdf5_work.digest(worker.opened).encode()
    history.commits.append(CommitMark(start, stop, False, digest))
    after = worker.data()
    first = {} if changed is None else first_changed_bytes(changed)
    kept = {each: first.get(each) for each in (() if changed is None else before)}
    if any(before[each][:start] != after.get(each, b"")[:start] for each, start in kept.items()):
        tally.losses.append("data have changed, and the daemon was not told")
    return True


def _some_change(worker: Worker, rng: random.Random) -> Change:
    opened = worker.opened
    names = [name.encode() for name in opened]
    fresh = b"n%d" % rng.randrange(10**6)
    name = rng.choice(names) if names and rng.random() < 0.8 else fresh
    link = opened.get(name.decode(), getlink=True)
    item = opened[name] if isinstance(link, h5py.HardLink) else None
    array = np.frombuffer(rng.randbytes(8 * rng.choice([1, 40, 700])), "<i8")
    data = npy_bytes(array)
    new = NewArray(array.shape, array.dtype, False, len(data) - array.nbytes, 0, False, data)
    # Objects that programs have open, or may be about to make anew, are kept when their name goes.
    held = _addresses(opened) if rng.random() < 0.5 else ()
    nameless = _addresses(opened[HIDDEN_PATH.decode()]) if HIDDEN_GROUP in names else ()
    number = Attribute(b"a%d" % rng.randrange(4), _INTEGER, (1,), (rng.randbytes(8),))
    changes: list[Change] = [
        ("create_group", (_ROOT, name if rng.random() < 0.3 else fresh)),
        ("create_link", (_ROOT, Link(fresh, LinkKind.SOFT, soft_target=b"/a"))),
        ("delete_link", (_ROOT, name, held)),
        ("move_link", (_ROOT, name, _ROOT, rng.choice([fresh, *names]), held)),
        ("drop_nameless", (nameless,)),
        ("write_array", (_ROOT, name, new)),
        ("write_array", (_ROOT, fresh, new)),
        ("write_attributes", (_ROOT, (number,), ())),
    ]
    if isinstance(item, h5py.Dataset) and item.dtype == "<i8" and item.size:
        ref = ObjectRef(0, h5py.h5o.get_info(item.id).addr, b"/" + name)
        at = 8 * rng.randrange(item.size)
        changes += [("write_elements", (ref, at, rng.randbytes(8), False))] * 3
    return rng.choice(changes)


def _addresses(group: h5py.Group) -> tuple[int, ...]:
    """Return the ids of the objects that the hard links of a group lead to."""
    links = [(name, group.get(name, getlink=True)) for name in group]
    hard = [name for name, link in links if isinstance(link, h5py.HardLink)]
    return tuple(h5py.h5o.get_info(group.id, name.encode()).addr for name in hard)


def _choose_cut(history: History, rng: random.Random) -> int:
    """Return a moment, often one within a commit or right after it."""
    if history.commits and rng.random() < 0.8:
        mark = rng.choice(history.commits)
        stop = mark.stop if mark.stop is not None else mark.start
        return min(len(history.calls), rng.randint(mark.start, stop + 1))
    return rng.randint(0, len(history.calls))


def _look(cut: History, boot: int, rng: random.Random, tally: Tally) -> None:
    """See what is found after a kill or a power cut."""
    if rng.random() < 0.6:
        what, allowed, files = "kill", cut.allowed_after_kill(), cut.cached()
        tally.counts["kills"] += 1
    else:
        what, allowed = "power cut", cut.allowed_after_power_cut()
        # What is not durable may be there all the same, in the order of its commits.
        files = cut.after_power_cut(rng)
        tally.counts["power cuts"] += 1
        boot += 1
    image = _recovered(files, boot, tally, what)
    if image is None:
        return
    try:
        digest = hdf5_work.digest_image(image).encode()
    except Exception as error:
        tally.losses.append(f"{what}: {error!r}")
        return
    if digest not in allowed:
        tally.losses.append(f"{what}: changes that were answered are gone, or a part is there")


def _recovered(files: dict[str, bytes], boot: int, tally: Tally, what: str) -> bytes | None:
    copy = History(files, b"")
    disk = [SimulatedFile(copy, name) for name in ("main", "log")]
    try:
        recover(disk[0], disk[1], b"boot %d" % boot)
    except Exception as error:
        tally.losses.append(f"{what}: {error!r}")
        return None
    return bytes(disk[0].content)


# What making changes together rests on, left out one at a time.


def _answer_first(together: Any) -> Any:
    """Answer, and commit what was changed when the next changes begin."""

    @contextmanager
    def commit_later(self: Any) -> Iterator[None]:
        if self.__dict__.pop("has_more", False):
            h5f.flush(self._files.file_id(0))
            self._file.commit(durable=False)

        def tell_alone(changed: Any) -> None:
            self.has_more = True
            self._on_change(changed, self._file.log_bytes)

        with _replaced(self, "_commit_step", tell_alone), together(self):
            yield

    return commit_later


def _commit_each(step: Any) -> Any:
    @contextmanager
    def commit_each(self: Any, *arguments: Any, **options: Any) -> Iterator[None]:
        with step(self, *arguments, **options):
            yield
        if self._together is not None:
            h5f.flush(self._files.file_id(0))
            self._file.commit(durable=False)

    return commit_each


def _tell_first(commit_step: Any) -> Any:
    return lambda self, changed: commit_step(self, changed and changed[:1])


def _commit_failed(together: Any) -> Any:
    @contextmanager
    def commit_anyway(self: Any) -> Iterator[None]:
        try:
            with together(self):
                yield
        except BaseException:
            self._commit_step(None)
            raise

    return commit_anyway


def _commit_unflushed(_: Any) -> Any:
    def commit(self: Any, changed: Any) -> None:
        self._file.commit(durable=False)
        self._on_change(changed, self._file.log_bytes)

    return commit


CHANGE_MUTANTS: dict[str, Mutant] = {
    "changes together are answered before their commit": replace_attribute(
        StepwiseStore, "together", _answer_first
    ),
    "a commit after each of several changes": replace_attribute(
        StepwiseStore, "_step", _commit_each
    ),
    "of several changes the first object alone is told": replace_attribute(
        StepwiseStore, "_commit_step", _tell_first
    ),
    "several changes are committed though one failed": replace_attribute(
        StepwiseStore, "together", _commit_failed
    ),
    "no flush before the commit of several changes": replace_attribute(
        StepwiseStore, "_commit_step", _commit_unflushed
    ),
}

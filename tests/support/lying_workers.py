"""Workers that were taken over: they answer garbage, late, twice, empty, too long, or lie.

A liar is forked as workers are, without the HDF5 library, and knows what true answers look like
from a record of them. What it is asked by is the daemon's own code: a tree over a store.
"""

from __future__ import annotations

import collections
import faulthandler
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from h5fs.errors import H5fsError, UnreadableError
from h5fs.model.objects import ObjectInfo, ObjectKind, ObjectRef
from h5fs.model.settings import Limits, Mode, StoreOptions
from h5fs.store.workers import messages
from h5fs.store.workers.starting.starter_messages import serve
from h5fs.store.workers.starting.worker_starter import WorkerStarter

MODES = ("garbage", "late", "twice", "empty", "long", "hang up", "lie")
_RECORD, _MODE, _SEED = "H5FS_LIAR_RECORD", "H5FS_LIAR_MODE", "H5FS_LIAR_SEED"
DEADLINE = 0.03
_LARGEST_FILE_BYTES = 2**28
_LONGEST_SECONDS = 60  # for one question, of which each takes several answers

Record = dict[str, list[bytes]]
"""By method: what true workers have answered, encoded."""


class LyingWorkerStarter(WorkerStarter):
    """Starts liars."""

    module = "support.lying_workers"

    def __init__(self, mode: str, seed: int, record: Path) -> None:
        super().__init__()
        # The process inherits them.
        os.environ.update({_RECORD: str(record), _MODE: mode, _SEED: str(seed)})


# --- The liar's side ---


def main() -> None:
    """Be a process that starts liars."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    record = msgspec.msgpack.decode(Path(os.environ[_RECORD]).read_bytes(), type=Record)
    mode, seed = os.environ[_MODE], int(os.environ[_SEED])

    def run(descriptors: list[int], **_others: object) -> None:
        _, connection, reply_buffer, *_files = descriptors
        try:
            chance = random.Random(f"{seed} {os.getpid()}")
            Liar(socket.socket(fileno=connection), reply_buffer, mode, record, chance).run()
        finally:
            os._exit(0)

    serve(socket.socket(fileno=int(sys.argv[1])), run, lambda: None)


class Liar:
    """Answers, half of the time as it should."""

    def __init__(
        self, connection: socket.socket, reply_buffer: int, mode: str, record: Record,
        chance: random.Random,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._reply_buffer = reply_buffer
        self._record = record
        self._chance = chance
        self._number = 0
        self._last_method = "root"
        self._changes: list[str] = []
        self._misbehave: Callable[[bytes], None] = getattr(self, "_" + mode.replace(" ", "_"))

    def run(self) -> None:
        """Open nothing, then answer until the daemon hangs up."""
        self._send(bytes([messages.READY]))
        if self._chance.random() < 0.02:
            self._misbehave(self._head(messages.RESULT))
        else:
            self._send(self._head(messages.RESULT))
        while True:
            packet = self._connection.recv(2**20)
            if not packet:
                return
            request = messages.decode_request(packet)
            self._number, self._last_method = request.number, request.method
            self._changes = _methods_in(request)
            answer = self._answer(request.method)
            if self._chance.random() < 0.5:
                self._misbehave(answer)
            else:
                self._send(answer)

    def _head(self, kind: int) -> bytes:
        return bytes([kind]) + self._number.to_bytes(messages.NUMBER_BYTES, "little")

    def _answer(self, method: str, change: Callable[[Any], Any] = lambda plain: plain) -> bytes:
        """Return a true answer to another question, perhaps."""
        known = self._record.get(method)
        if messages.METHODS[method].returns_data:
            return self._head(messages.DATA) + self._chance.randbytes(self._chance.randrange(200))
        if not known:
            info = ObjectInfo(ObjectRef(0, 96, b"/new"), ObjectKind.GROUP)
            known = [messages.encode(None), messages.encode(info)]
        if method == messages.CHANGES:
            refusal = messages.encode_failure(UnreadableError("no"))
            outcomes = [(result, None) for result in known] + [(None, refusal), (None, None)]
            known = [
                messages.encode([(each, *self._chance.choice(outcomes)) for each in self._changes])
            ]
        plain = change(msgspec.msgpack.decode(self._chance.choice(known)))
        body = msgspec.msgpack.encode(plain)
        if len(body) < messages.MAX_PACKET_BYTES:
            return self._head(messages.RESULT) + body
        os.pwrite(self._reply_buffer, body, messages.NOTE_BYTES)
        return self._head(messages.RESULT_IN_BUFFER) + len(body).to_bytes(8, "little")

    def _send(self, packet: bytes) -> None:
        try:
            self._connection.send(packet)
        except OSError:
            os._exit(0)

    def _garbage(self, answer: bytes) -> None:
        chance = self._chance
        kinds = b"RWDBEXNLPFY?\0"
        body = chance.randbytes(chance.choice([0, 1, 7, 8, 9, 40, 4000]))
        head = self._head(chance.choice(kinds))
        damaged = bytearray(answer)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        self._send(chance.choice([body, head + body, head[:1] + body, bytes(damaged)]))

    def _late(self, answer: bytes) -> None:
        end = time.monotonic() + DEADLINE * self._chance.choice([0.9, 1.1, 1.5])
        if self._chance.random() < 0.5:
            time.sleep(max(end - time.monotonic(), 0))
        while time.monotonic() < end:
            pass
        self._send(answer)

    def _twice(self, answer: bytes) -> None:
        for _ in range(self._chance.choice([2, 2, 3, 50])):
            self._send(answer)

    def _empty(self, answer: bytes) -> None:
        packet = answer[: self._chance.choice([0, 0, 1, 5, 9])]
        self._send(packet)

    def _long(self, answer: bytes) -> None:
        chance = self._chance
        if chance.random() < 0.5:
            self._send(answer + bytes(chance.choice([61_000, 150_000, 190_000])))
            return
        size = chance.choice([2**20, 2**30 + 1, 2**40, 2**63, 2**64 - 1])
        if size <= 2**40:
            os.ftruncate(self._reply_buffer, size + messages.NOTE_BYTES)
        kind = chance.choice([messages.RESULT_IN_BUFFER, messages.DATA_IN_BUFFER])
        self._send(self._head(kind) + size.to_bytes(8, "little"))

    def _hang_up(self, _answer: bytes) -> None:
        if self._chance.random() < 0.9:
            os._exit(self._chance.choice([0, 1]))
        self._connection.close()
        time.sleep(60)

    def _lie(self, _answer: bytes) -> None:
        names = [name for name in self._record if name in messages.METHOD_NAMES]
        method = self._chance.choice(names) if self._chance.random() < 0.1 else None
        self._send(self._answer(method or self._last_method, self._distort))

    def _distort(self, plain: Any) -> Any:
        """Return plain values of the same types, some of which cannot be."""
        chance = self._chance
        if chance.random() < 0.9:
            if isinstance(plain, dict):
                return {key: self._distort(value) for key, value in plain.items()}
            if isinstance(plain, list):
                if chance.random() < 0.1:
                    return [*plain, *plain[:1]] if chance.random() < 0.5 else plain[1:]
                return [self._distort(value) for value in plain]
            if chance.random() < 0.8:
                return plain
        if isinstance(plain, bool):
            return not plain
        if isinstance(plain, int):
            return chance.choice([0, -1, 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**64 - 1, -(2**63)])
        if isinstance(plain, bytes):
            size = chance.choice([0, 1, len(plain), 8 * len(plain), 10_000])
            return chance.choice([plain[:-1], plain * 2, chance.randbytes(size), b"a/../b\0c"])
        if isinstance(plain, str):
            return chance.choice([plain, "", "<i8", "|V0", "|O", "<U99999999", "\n\x1b[2J", "é"])
        return plain


def _methods_in(request: messages.Request) -> list[str]:
    """Return which changes a request is about, if it is about several."""
    if request.method != messages.CHANGES:
        return []
    return [method for method, _ in msgspec.msgpack.decode(request.arguments)]


# --- The daemon's side ---


class Counting:
    """Counts the answers that come, and how long the slowest question took."""

    def __init__(self) -> None:
        self.answers = 0
        self.slowest = 0.0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def ask(self, what: str, question: Callable[[], object]) -> Any:
        """Return what is answered, None for a refusal; anything else is noted as a failure."""
        start = time.monotonic()
        result = None
        faulthandler.dump_traceback_later(_LONGEST_SECONDS, exit=True)
        try:
            result = question()
            self.outcomes["answered"] += 1
        except H5fsError as error:
            self.outcomes[type(error).__name__] += 1
        except Exception as error:
            self.outcomes["unexpected"] += 1
            self.failures.append(f"{what}: {type(error).__name__}: {error}")
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.slowest = max(self.slowest, time.monotonic() - start)
        return result


@contextmanager
def counted_answers(counting: Counting) -> Iterator[None]:
    """Count whatever comes from workers in this block."""
    from h5fs.store.workers.connection import WorkerConnection

    receive = WorkerConnection._receive

    def receive_counted(self: WorkerConnection, *arguments: Any) -> Any:
        counting.answers += 1
        return receive(self, *arguments)

    WorkerConnection._receive = receive_counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        WorkerConnection._receive = receive  # type: ignore[method-assign]


@contextmanager
def small_files() -> Iterator[None]:
    """Let there be no large temporary files in this block: of a lie they may be a whole disk."""
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE_BYTES, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))


def make_file(file: Path) -> None:
    """Write something of each kind."""
    import h5py
    import numpy as np

    with h5py.File(file, "w") as opened:
        opened["g/numbers"] = np.arange(20.0).reshape(4, 5)
        opened["g/sub/one"] = 1
        opened.create_dataset("g/gzip", data=np.arange(300), chunks=(100,), compression=1)
        opened.create_dataset("g/lzf", data=np.arange(300), chunks=(100,), compression="lzf")
        opened.create_dataset("text", data=["a", "bcd"], dtype=h5py.string_dtype())
        sequences = opened.create_dataset("sequences", (3,), h5py.vlen_dtype("<i4"))
        sequences[0] = [1, 2, 3]
        pair = np.dtype([("x", "<i2"), ("y", "S3"), ("z", "<f4", (2,))])
        opened["pairs"] = np.zeros(3, pair)
        opened["soft"] = h5py.SoftLink("/g/numbers")
        opened["external"] = h5py.ExternalLink("elsewhere.h5", "/d")
        opened["type"] = pair
        for name in ("g", "text", "pairs"):
            attributes = opened[name].attrs
            attributes["number"] = 3
            attributes["list"] = [1.5, 2.5]
            attributes["text"] = "text"
            attributes["pair"] = np.zeros(2, pair)
            attributes["reference"] = opened["g"].ref
            attributes["enumeration"] = np.array([True, False])
            attributes["complex"] = 1j


PATHS = [b"/", b"/g", b"/g/sub", b"/g/numbers.npy", b"/g/gzip.npy", b"/g/lzf.npy", b"/text.npy",
         b"/sequences.values.npy", b"/sequences.offsets.npy", b"/pairs.npy", b"/soft",
         b"/external", b"/type.dtype.json", b"/g/.attrs.json", b"/text.attrs.json",
         b"/pairs.attrs.json", b"/missing.npy"]  # fmt: skip


def record_answers(file: Path, record: Path) -> None:
    """Ask true workers everything, and write down what they answer."""
    from h5fs.store.worker_stores.worker_store import WorkerStore
    from h5fs.store.workers.connection import WorkerConnection

    answers: Record = {}
    call = WorkerConnection.call

    def call_recorded(self: WorkerConnection, method: str, *arguments: Any, **others: Any) -> Any:
        result = call(self, method, *arguments, **others)
        if not messages.METHODS[method].returns_data:
            answers.setdefault(method, []).append(messages.encode_result(result))
        return result

    store = WorkerStore(StoreOptions(file, workers=1))
    store.open()
    WorkerConnection.call = call_recorded  # type: ignore[method-assign]
    try:
        asking = Counting()
        for path in PATHS:
            ask_about(store, path, asking, random.Random(0))
        assert not asking.failures, asking.failures
    finally:
        WorkerConnection.call = call  # type: ignore[method-assign]
        store.close()
    record.write_bytes(messages.encode(answers))


def ask_about(store: Any, path: bytes, asking: Counting, chance: random.Random) -> None:
    """Ask a new tree what programs ask of a path."""
    from h5fs.tree import Tree

    tree = asking.ask("root", lambda: Tree(store))
    if tree is None:
        return
    asking.ask("stat", lambda: tree.get_status(path))
    asking.ask("list", lambda: [*tree.list_folder(path)][:1000])
    asking.ask("statuses", lambda: tree.list_folder(path).with_statuses(100))
    asking.ask("link", lambda: tree.read_link(path))
    asking.ask("xattrs", lambda: [tree.get_xattr(path, n) for n in tree.list_xattrs(path)[:5]])
    handle = asking.ask("open", lambda: tree.open(path, os.O_RDONLY))
    if handle is not None:
        for offset in (0, 100, chance.randrange(4000), 2**40):
            asking.ask("read", lambda o=offset: tree.read(handle, 8192, o))
        tree.release(handle)


def change_something(store: Any, asking: Counting, chance: random.Random) -> None:
    """Ask a store that writes for a change, or for several at the same time."""
    from support.gathering import together

    root, name = ObjectRef(0, 96, b"/"), b"name%d" % chance.randrange(1000)
    changes: list[Callable[[], object]] = [
        lambda: store.create_group(root, name),
        lambda: store.delete_link(root, name),
        lambda: store.move_link(root, name, root, b"other"),
        lambda: store.write_elements(root, 0, b"data"),
        lambda: store.write_attributes(root, (), (name,)),
        lambda: store.hold(root),
        lambda: store.let_go(root),
        store.commit,
    ]
    if chance.random() < 0.7:
        asking.ask("change", chance.choice(changes))
        return
    some = chance.sample(changes, 4)
    for outcome in asking.ask("changes", lambda: together(store, *some)) or ():
        if isinstance(outcome, Exception) and not isinstance(outcome, H5fsError):
            asking.failures.append(f"changes: {type(outcome).__name__}: {outcome}")


def meet_liars(mode: str, answers: int, seed: int, folder: Path) -> Counting:
    """Ask liars until so many answers have come, half of them by a store that writes."""
    file, record = folder / "f.h5", folder / "record"
    if not record.exists():
        make_file(file)
        record_answers(file, record)
    chance, asking = random.Random(seed), Counting()
    starter = LyingWorkerStarter(mode, seed, record)
    starter.start()
    try:
        with counted_answers(asking), small_files():
            _read_from_liars(file, starter, asking, chance, answers // 2)
            _write_to_liars(file, starter, asking, chance, answers)
    finally:
        starter.close()
    if sys.exc_info()[0] is None and threading.active_count() > 40:
        asking.failures.append(f"{threading.active_count()} threads are left")
    return asking


def _options(file: Path, mode: Mode = Mode.READ) -> StoreOptions:
    limits = Limits(deadline_seconds=DEADLINE)
    return StoreOptions(
        file, mode, workers=2, cache_bytes=2**22, limits=limits, commit_seconds=0.01
    )


def _read_from_liars(
    file: Path, starter: WorkerStarter, asking: Counting, chance: random.Random, answers: int
) -> None:
    from h5fs.store.worker_stores.worker_store import WorkerStore

    while asking.answers < answers:
        store = WorkerStore(_options(file), starter)
        if asking.ask("open", lambda s=store: s.open() or True):
            for _ in range(50):
                os.utime(file)  # what is in quarantine is asked for again
                ask_about(store, chance.choice(PATHS), asking, chance)
        asking.ask("close", store.close)


def _write_to_liars(
    file: Path, starter: WorkerStarter, asking: Counting, chance: random.Random, answers: int
) -> None:
    from h5fs.store.log.file_and_log import open_logged, read_boot_id
    from h5fs.store.worker_stores.writing_worker_store import WritingWorkerStore

    while asking.answers < answers:
        options = _options(file, Mode.UPDATE)
        files = open_logged(file, options.mode, options.locking, read_boot_id())
        store = WritingWorkerStore(options, files, starter)
        if asking.ask("open", lambda s=store: s.open() or True):
            for _ in range(100):
                change_something(store, asking, chance)
                if chance.random() < 0.2:
                    os.utime(file)
                    ask_about(store, chance.choice(PATHS), asking, chance)
            if not store._timer.is_alive():
                asking.failures.append("the thread that commits has ended")
        asking.ask("close", store.close)

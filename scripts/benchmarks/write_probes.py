"""Programs that write and are timed: see ``probes``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Work = Callable[[], Any]

SMALL_COUNT = 10_000
COMMIT_EVERY = 100
SLICE_BYTES = 2**20


def save(source: str, target: str, *, syncs: bool = False) -> Work:
    """``np.save`` of an array that is in memory; with ``syncs`` and ``fsync``."""
    array = np.load(source)

    def work() -> None:
        with open(target, "wb") as file:
            np.save(file, array)
            if syncs:
                file.flush()
                os.fsync(file.fileno())

    return work


def h5py_create(source: str, file: str, *, gzip: bool) -> Work:
    """``create_dataset`` with h5py, and close."""
    import h5py

    array = np.load(source)
    layout = {"compression": "gzip", "shuffle": True} if gzip else {}

    def work() -> None:
        with h5py.File(file, "w") as opened:
            opened.create_dataset("data", data=array, **layout)

    return work


def durable(kind: str, file: str, *, size_mb: int, logged: bool, checkpoints: bool = False) -> Work:
    """Work of one kind through plain h5py with fsync, or through the redo log with commits.

    ``large``: one array and one commit; ``small``: 10,000 datasets, a commit every 100;
    ``overwrite``: an array overwritten from front to back, one commit. ``checkpoints``: the log is
    brought into the file, too.
    """
    array = np.random.default_rng(0).integers(0, 255, size_mb * 2**20, np.uint8).view("<i4")
    _prepare(kind, file, array)
    opened, commit, finish = _open_logged(file, kind) if logged else _open_plain(file, kind)
    steps = {"large": _write_large, "small": _write_small, "overwrite": _overwrite}

    def work() -> None:
        steps[kind](opened, array, commit)
        if checkpoints:
            finish()

    return work


def _prepare(kind: str, file: str, array: Any) -> None:
    import h5py

    for path in (file, file + ".log"):
        if os.path.exists(path):
            os.unlink(path)
    with h5py.File(file, "w") as opened:
        if kind == "overwrite":
            opened["data"] = array[::-1]
    os.sync()


def _open_plain(file: str, kind: str) -> tuple[Any, Callable[[], None], Callable[[], None]]:
    import h5py

    opened = h5py.File(file, "r+")

    def commit() -> None:
        opened.flush()
        os.fsync(opened.id.get_vfd_handle())

    return opened, commit, lambda: None


def _open_logged(file: str, kind: str) -> tuple[Any, Callable[[], None], Callable[[], None]]:
    import h5py
    from h5py import h5f

    from h5fs.model.settings import Mode
    from h5fs.store.hdf5.logged_main import LoggedMain
    from h5fs.store.log.logged_file import LoggedFile
    from h5fs.store.log.system_calls import RealFile

    main, log = os.open(file, os.O_RDWR), os.open(file + ".log", os.O_RDWR | os.O_CREAT, 0o600)
    logged = LoggedFile(RealFile(main), RealFile(log), boot_id=b"bench")
    opened = h5py.File(LoggedMain(logged, main).open_library(file, Mode.UPDATE))

    def commit() -> None:
        h5f.flush(opened.id)
        logged.commit(durable=True)

    def finish() -> None:
        h5f.flush(opened.id)
        logged.checkpoint()

    return opened, commit, finish


def _write_large(opened: Any, array: Any, commit: Callable[[], None]) -> None:
    opened.create_dataset("data", data=array)
    commit()


def _write_small(opened: Any, array: Any, commit: Callable[[], None]) -> None:
    for number in range(SMALL_COUNT):
        opened.create_dataset(f"d{number}", data=array[number : number + 10])
        if not (number + 1) % COMMIT_EVERY:
            commit()


def _overwrite(opened: Any, array: Any, commit: Callable[[], None]) -> None:
    data, step = opened["data"], SLICE_BYTES // 4
    for start in range(0, len(array), step):
        data[start : start + step] = array[start : start + step]
    commit()


WRITE_PROBES: dict[str, Callable[..., Work]] = {
    "save": save,
    "h5py_create": h5py_create,
    "durable": durable,
}

"""Programs that make, or read, tables and pictures and are timed: see ``probes``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

Work = Callable[[], Any]

_PIECE_BYTES = 2**20
_TAIL_BYTES = 200


def read_table(path: str) -> Work:
    """Read a table from its beginning to its end. Digest: the number in the last field."""

    def work() -> Callable[[], float]:
        tail = b""
        with open(path, "rb", buffering=0) as table:
            while piece := table.read(_PIECE_BYTES):
                tail = (tail + piece)[-_TAIL_BYTES:]
        return lambda: _last_number(tail)

    return work


def save_table(file: str, dataset: str, program: str) -> Work:
    """Let numpy or pandas write an array, which is in memory already, as a table to nowhere."""
    import h5py

    with h5py.File(file, "r") as opened:
        array = opened[dataset][...]
    if program == "numpy":
        numpy = importlib.import_module("numpy")

        def save() -> None:
            numpy.savetxt(os.devnull, array)
    else:
        frame = importlib.import_module("pandas").DataFrame({"value": array})

        def save() -> None:
            frame.to_csv(os.devnull)

    def work() -> float:
        save()
        return float(array[-1])

    return work


def _last_number(table: bytes) -> float:
    return float(table.splitlines()[-1].split(b",")[-1])


VIEW_PROBES: dict[str, Callable[..., Work]] = {
    "read_table": read_table,
    "save_table": save_table,
}

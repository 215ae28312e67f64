"""Programs that change one mount at the same time, each with names of its own in shared folders."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FOLDERS = ("one", "two")

LEAST_CHANGES = 10  # of each program

Values = dict[str, list[Any]]
"""By path what may be there: what the last call has left that was not refused, and what those
calls would have left that have failed since. None stands for nothing."""


def act(root: Path, number: int, seconds: float, results: Any) -> None:
    """Be one of the programs: save, set attributes, make and remove, look; tell what may be.

    It goes on for so long, and until it has made some changes, however slow the machine is.
    """
    rng = random.Random(number)
    values: Values = {}
    counts: Counter[str] = Counter()
    stop = time.monotonic() + seconds
    value = 0
    while time.monotonic() < stop or counts["done"] < LEAST_CHANGES:
        value += 1
        path = f"{rng.choice(FOLDERS)}/p{number}{rng.choice('abc')}"
        choice = rng.random()
        try:
            if choice < 0.6:
                path, after = f"{path}.npy", value
                np.save(root / path, np.full(rng.choice((1, 100, 3000)), value))
            elif choice < 0.75 and values.get(f"{path}.npy", [None]) not in ([None], []):
                path, after = f"{path}.attrs.json", value
                (root / path).write_text(json.dumps({"n": value}))
            elif choice < 0.8:
                attributes, path, after = f"{path}.attrs.json", f"{path}.npy", None
                values[attributes] = [*values.get(attributes, []), None]
                with contextlib.suppress(FileNotFoundError):
                    # Else they would be back when this program makes the array anew.
                    os.unlink(root / attributes)
                os.unlink(root / path)
            elif choice < 0.9:
                path, after = f"{path}.d", "folder"
                os.mkdir(root / path)
            else:
                os.stat(root / f"{rng.choice(FOLDERS)}/p{rng.randrange(8)}a.npy")
                os.listdir(root / rng.choice(FOLDERS))
                counts["looks"] += 1
                continue
        except (FileNotFoundError, FileExistsError):
            counts["refused"] += 1
        except OSError as error:
            values[path] = [*values.get(path, [None]), after]
            counts[f"errno {error.errno}"] += 1
        else:
            values[path] = [after]
            if after is None:
                values[attributes] = [None]
            counts["done"] += 1
    results.put((values, counts))


def play(root: Path, programs: int, seconds: float) -> tuple[list[multiprocessing.Process], Any]:
    """Start the programs; return them, and the queue in which they tell."""
    for folder in FOLDERS:
        (root / folder).mkdir()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    started = []
    for number in range(programs):
        process = context.Process(target=act, args=(root, number, seconds, results), daemon=True)
        process.start()
        started.append(process)
    return started, results  # type: ignore[return-value]


def value_in_mount(root: Path, path: str) -> Any:
    """Return what a path has in a mount."""
    with contextlib.suppress(FileNotFoundError):
        if path.endswith(".json"):
            return json.loads((root / path).read_text())["n"]
        if path.endswith(".npy"):
            array = np.load(root / path)
            assert (array == array.flat[0]).all()
            return int(array.flat[0])
        return "folder" if (root / path).is_dir() else None
    return None


def value_in_file(file: h5py.File, path: str) -> Any:
    """Return what a path has in the HDF5 file."""
    link = path.removesuffix(".npy").removesuffix(".attrs.json")
    if link not in file:
        return None
    if path.endswith(".json"):
        found = file[link].attrs.get("n")
        return None if found is None else int(found)
    if path.endswith(".npy"):
        array = file[link][...]
        assert (array == array.flat[0]).all()
        return int(array.flat[0])
    return "folder" if isinstance(file[link], h5py.Group) else None

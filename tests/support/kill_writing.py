"""Killing a mount while programs write to it: what was closed must be there, all else as before.

The writer runs here, the daemon and its workers are processes of their own; a thread kills one of
them, or all, at a random moment. A model keeps what each call that returned has promised.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from support.mounts import end_mount, mounted
from support.processes import family

_LONGEST_ROUND_SECONDS = 0.8
_NAMES = [f"{folder}{name}" for folder in ("", "g/", "g/deep/") for name in "abcd"]


class LossError(AssertionError):
    """Something that was promised is not there, or the file is damaged."""


@dataclass
class Model:
    """What must be in the file: by path in the mount, an array or attributes."""

    files: dict[str, object] = field(default_factory=dict)
    in_doubt: dict[str, list[object]] = field(default_factory=dict)

    def begin(self, path: str, value: object) -> None:
        """A call has begun that will make a path hold a value, None for nothing."""
        self.in_doubt[path] = [self.files.get(path), value]

    def end(self) -> None:
        """It has returned."""
        for path, (_, value) in self.in_doubt.items():
            self.put(path, value)
        self.in_doubt.clear()

    def put(self, path: str, value: object) -> None:
        """Note that a path holds a value."""
        if value is None:
            self.files.pop(path, None)
        else:
            self.files[path] = value

    def forget_what_is_left(self) -> None:
        """A mount ends by itself: what no object of the HDF5 file is, is saved beside it."""
        for path in list(self.files):
            is_waiting = path.endswith(".json") and path[: -len(".attrs.json")] + ".npy" not in (
                self.files
            )
            if path.endswith("~") or is_waiting:
                del self.files[path]


def is_same(left: object, right: object) -> bool:
    """Compare two values of a model."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return (
            left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
        )
    return type(left) is type(right) and left == right


def read_value(path: Path) -> object:
    """Return what a path of a mount holds now; None when it is not there."""
    try:
        if path.suffix == ".json":
            return json.loads(path.read_bytes())
        return np.load(path)
    except FileNotFoundError:
        return None


class Killing:
    """Rounds of writing and killing on one HDF5 file."""

    def __init__(self, folder: Path, seed: int, *, options: tuple[str, ...] = ()) -> None:
        self.file = folder / "killed.h5"
        self.model = Model()
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._values = np.random.default_rng(seed)
        self._options = options
        # The attributes that went along with arrays that got a temporary name.
        self._carried: dict[str, object] = {}

    def run_round(self) -> None:
        """Mount, write, kill, and look. Raises ``LossError``."""
        target = self._random.choice(("daemon", "worker", "all"))
        self.counts[f"killed: {target}"] += 1
        with mounted(self.file, options=["--mode", "a", *self._options]) as mount:
            for folder in ("g", "g/deep"):
                (mount.path / folder).mkdir(exist_ok=True)
            seconds = self._random.uniform(0.02, _LONGEST_ROUND_SECONDS)
            killer = threading.Timer(seconds, kill, (mount.pid, target, self._random.random()))
            killer.start()
            try:
                self._write_until(mount.path, time.monotonic() + seconds + 0.15)
            finally:
                killer.join()
            if target == "worker":
                self._check(mount.path, "in the mount that goes on")
                if self._random.random() < 0.5:
                    kill(mount.pid, "all", 0)
                else:
                    self.model.forget_what_is_left()
            end_mount(mount.path)
        self._check_again()

    def _check_again(self) -> None:
        if self._random.random() < 0.3:
            with mounted(self.file, options=["--mode", "r"]) as mount:
                self._check(mount.path, "in the next mount, mode r", writes=False)
        with mounted(self.file, options=["--mode", "r+"]) as mount:
            self._check(mount.path, "in the next mount, mode r+")
            for path in list(self.model.in_doubt):
                self.model.put(path, read_value(mount.path / path))
            kill(mount.pid, "all", 0)  # an end would take what waits out of the file
            end_mount(mount.path)
        self.model.in_doubt.clear()  # what was in doubt is not any more

    def _write_until(self, mountpoint: Path, stop: float) -> None:
        while time.monotonic() < stop:
            try:
                self._write_once(mountpoint)
            except OSError as error:
                self.counts[f"errno {error.errno}"] += 1
                return
            self.model.end()
            self.counts["calls that returned"] += 1

    def _write_once(self, mountpoint: Path) -> None:
        name = self._random.choice(_NAMES)
        path, choice = f"{name}.npy", self._random.random()
        old = self.model.files.get(path)
        if path + "~" in self.model.files:
            self._bring_back(mountpoint, name)
        elif choice > 0.9 and old is not None:
            self._send_away(mountpoint, name)
        elif choice > 0.8 and old is None:
            self.model.begin(f"{name}.attrs.json", {"waits": name})
            (mountpoint / f"{name}.attrs.json").write_text(json.dumps({"waits": name}))
        elif choice < 0.15 and old is not None:
            self.model.begin(path, None)
            if f"{name}.attrs.json" in self.model.files:
                # Else they would be back when this program makes the array anew.
                self.model.begin(f"{name}.attrs.json", None)
                os.unlink(mountpoint / f"{name}.attrs.json")
            os.unlink(mountpoint / path)
        elif choice < 0.35 and old is not None:
            attributes = {"n": self._random.randrange(1000), "t": "x" * self._random.randrange(99)}
            self.model.begin(f"{name}.attrs.json", attributes)
            (mountpoint / f"{name}.attrs.json").write_text(json.dumps(attributes))
        else:
            array = self._new_array(old)
            self.model.begin(path, array)
            np.save(mountpoint / path, array)

    def _send_away(self, mountpoint: Path, name: str) -> None:
        path, attributes = f"{name}.npy", f"{name}.attrs.json"
        self._carried[path] = self.model.files.get(attributes)
        self.model.begin(path + "~", self.model.files[path])
        self.model.begin(path, None)
        self.model.begin(attributes, None)
        os.rename(mountpoint / path, mountpoint / f"{path}~")

    def _bring_back(self, mountpoint: Path, name: str) -> None:
        path = f"{name}.npy"
        self.model.begin(path, self.model.files[path + "~"])
        self.model.begin(f"{name}.attrs.json", self._carried[path])
        self.model.begin(path + "~", None)
        os.rename(mountpoint / f"{path}~", mountpoint / path)

    def _new_array(self, old: object) -> np.ndarray:
        if isinstance(old, np.ndarray) and self._random.random() < 0.5:
            return self._values.integers(0, 99, old.shape).astype(old.dtype)
        size = self._random.choice((3, 100, 5000, 400_000))
        return self._values.integers(0, 99, size).astype(self._random.choice(("i4", "f8", "u2")))

    def _check(self, mountpoint: Path, where: str, *, writes: bool = True) -> None:
        for name in _NAMES:
            paths = [f"{name}.npy", f"{name}.attrs.json", f"{name}.npy~"]
            if not writes and f"{name}.npy" not in self.model.files:
                paths = paths[:1]  # attributes that wait, if any
            for path in paths if writes else paths[:2]:
                value = read_value(mountpoint / path)
                allowed = self.model.in_doubt.get(path, [self.model.files.get(path)])
                if not any(is_same(value, each) for each in allowed):
                    raise LossError(f"{path} {where}: {value!r:.200}, not {allowed!r:.300}")

    def finish(self) -> None:
        """Read the file with h5py after one more mount. Raises ``LossError``."""
        with mounted(self.file, options=["--mode", "r+"]):
            pass
        with h5py.File(self.file) as opened:
            found = {}
            opened.visititems(found.__setitem__)
            for path, value in self.model.files.items():
                if path.endswith(".npy") and not is_same(found[path[:-4]][()], value):
                    raise LossError(f"{path} in h5py")


def kill(daemon: int, target: str, chance: float) -> None:
    """Kill a daemon, one of its workers, all of them, or everything at once."""
    others = [pid for pid in family(daemon) if pid != daemon]
    if target == "worker":
        chosen = others[int(chance * len(others)) : int(chance * len(others)) + 1]
    elif target == "workers":
        chosen = others
    else:
        chosen = [daemon, *others] if target == "all" else [daemon]
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue

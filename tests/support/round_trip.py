"""A file through two mounts: ``cp -a`` out of one, ``cp -a`` into a new one, and what became of it.

What is compared is the projection: the folder that was copied out with a mount of the second file.
What a projection cannot carry by design (``CANNOT_SURVIVE``) is looked for with h5py in both files.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.mounts import MountFailedError, mounted, run_h5fs
from support.writing import tells_of_leftovers

LARGEST_FILE_BYTES = 128 * 2**20
LARGEST_WALK = 20_000
_BLOCK_BYTES = 2**20

CANNOT_SURVIVE = {
    "null dataspace": "a null dataspace becomes an empty array",
    "sequences": "variable-length sequences in another rank than 1 lose their shape",
    "sequences within": "a sequence within a compound becomes a pair of length and values",
    "references": "references in a dataset become their targets' paths",
    "committed type": "a dataset's type and a committed one are separate objects",
    "enumeration": "another enumeration than bool becomes its integers",
    "bitfield": "a bitfield becomes an unsigned integer",
    "opaque": "the tag of an opaque type, which .npy does not have",
    "string": "a kind of string becomes numpy's: S null-padded ASCII, U variable-length UTF-8",
    "float": "a float that h5py widens or that numpy spells in another way",
    "array": "an array type becomes dimensions of the dataset",
    "compound": "members that became what they are alone, or another packing",
    "number": "a number of another precision, or a padding that numpy does not know",
    "complex": "HDF5's own complex class becomes h5py's compound",
    "group": "a group of several hard links becomes several groups",
}
"""What is lost by design, and why."""


@dataclass(frozen=True)
class Outcome:
    """What became of one thing.

    ``result``: ``equal``, ``skipped`` (the first mount gives an error), ``by design`` (see
    ``CANNOT_SURVIVE``), ``not copied`` (the second mount refused), ``DIFFERS``, ``FAILED``.
    """

    kind: str
    result: str
    reason: str
    where: str


BAD_RESULTS = ("not copied", "DIFFERS", "FAILED")


class _TooMuchError(Exception):
    """The file's projection is beyond what a round trip copies; the message says how."""


def check_round_trip(file: Path, *, seconds: float, options: tuple[str, ...] = ()) -> list[Outcome]:
    """Return what becomes of each dataset, attribute file and link of a file."""
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="h5fs-round-", dir="/var/tmp") as scratch:
        trip = _RoundTrip(file, Path(scratch), deadline, options)
        try:
            return list(trip.outcomes())
        except _TooMuchError as error:
            return [Outcome("file", "skipped", str(error), str(file))]
        except subprocess.TimeoutExpired as error:
            what = " ".join(map(str, error.cmd))[:60] if error.cmd else "a step"
            return [Outcome("file", "FAILED", f"took too long: {trip.step}", f"{file} ({what})")]


class _RoundTrip:
    def __init__(
        self, file: Path, scratch: Path, deadline: float, options: tuple[str, ...]
    ) -> None:
        self._file = file
        self._first = scratch / "first"
        self._second_file = scratch / "second.h5"
        self._deadline = deadline
        self._options = options
        self.step = "nothing"

    def outcomes(self) -> Iterator[Outcome]:
        self._first.mkdir()
        self.step = "copying out"
        try:
            with mounted(self._file) as mount:
                self._measure(mount.path)
                self._copy(mount.path, self._first)
                yield from self._drop_what_was_not_copied(mount.path)
        except MountFailedError as error:
            message = str(error).replace(str(self._file), "FILE")
            yield self._outcome("file", "skipped", f"does not mount: {message}"[:100], "")
            return
        self.step = "copying in"
        with mounted(self._second_file, options=["--mode", "w", *self._options]) as mount:
            errors = self._copy(self._first, mount.path)
            self.step = "unmounting the second file"
            done = run_h5fs("umount", mount.path, seconds=self._left())
            if done.returncode and not tells_of_leftovers(done.stderr):
                yield self._outcome("file", "FAILED", f"umount: {done.stderr.strip()}", "")
            log = mount.log_lines()
        self.step = "comparing"
        try:
            with mounted(self._second_file) as mount:
                yield from self._compare(mount.path, errors, log)
        except MountFailedError as error:
            yield self._outcome("file", "FAILED", f"the second file does not mount: {error}", "")
            return
        yield from self._compare_with_h5py()
        yield self._outcome("file", "equal", "went round", "")

    # Copying.

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(self.step, 0)
        return left

    def _measure(self, mountpoint: Path) -> None:
        """Refuse what is too much to copy, before a disk is full of it."""
        command = [sys.executable, "-c", _MEASURER, str(mountpoint), str(LARGEST_WALK)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=self._left(), check=False
        )
        if done.returncode:
            raise _TooMuchError(f"more than {LARGEST_WALK} dentries")

    def _copy(self, source: Path, target: Path) -> list[str]:
        """Run ``cp -a``; return the lines of its errors."""

        def limit() -> None:
            # A dataset of 2^62 bytes that nobody wrote is nothing to copy: EFBIG, and cp goes on.
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES))

        done = subprocess.run(
            ["cp", "-a", "--sparse=never", f"{source}/.", f"{target}/"],
            capture_output=True,
            timeout=self._left(),
            check=False,
            preexec_fn=limit if target == self._first else None,
            restore_signals=False,  # Python ignores SIGXFSZ, and so shall cp
            env={**os.environ, "LC_ALL": "C"},
        )
        return done.stderr.decode("utf-8", "backslashreplace").splitlines()

    def _drop_what_was_not_copied(self, mountpoint: Path) -> Iterator[Outcome]:
        """Yield what the first mount gives errors for, and delete what cp left of it."""
        for path, status in _walk(os.fsencode(mountpoint)):
            copy = os.path.join(os.fsencode(self._first), path)
            reason = ""
            if isinstance(status, OSError):
                reason = _name_of(status)
            elif not os.path.lexists(copy):
                reason = _why_unreadable(os.path.join(os.fsencode(mountpoint), path))
            elif stat.S_ISREG(status.st_mode) and os.lstat(copy).st_size != status.st_size:
                reason = _why_unreadable(os.path.join(os.fsencode(mountpoint), path))
                if status.st_size > LARGEST_FILE_BYTES:
                    reason = f"larger than {LARGEST_FILE_BYTES >> 20} MiB"
                os.unlink(copy)
            elif stat.S_ISREG(status.st_mode) and not status.st_size and not status.st_mode & 0o777:
                reason = _why_unreadable(os.path.join(os.fsencode(mountpoint), path))
                os.unlink(copy)
            elif _holds_nothing_readable(copy):
                reason = "no attribute of it can be read"
                os.unlink(copy)
            if reason:
                yield self._outcome(_kind_of(path), "skipped", f"first mount: {reason}", path)

    # Comparing.

    def _compare(self, second: Path, errors: list[str], log: list[str]) -> Iterator[Outcome]:
        wanted = dict(_walk(os.fsencode(self._first)))
        found = dict(_walk(os.fsencode(second)))
        for path, status in wanted.items():
            if path not in found and _is_without_owner(path, wanted):
                yield self._outcome(
                    "attributes", "skipped", "first mount: no data of their dataset", path
                )
                continue
            yield self._compare_one(path, status, found.get(path), second, errors, log)
        for path in found.keys() - wanted.keys():
            yield self._outcome(_kind_of(path), "DIFFERS", "only in the second file", path)
        yield from self._compare_hard_links(wanted, found)
        for line in log:
            # What is left over was compared above, or is without an object by the first mount.
            if "Traceback" in line or (" ERROR " in line and not tells_of_leftovers(line)):
                yield self._outcome("log", "FAILED", line[:140], "")

    def _compare_one(
        self,
        path: bytes,
        wanted: os.stat_result | OSError,
        found: os.stat_result | OSError | None,
        second: Path,
        errors: list[str],
        log: list[str],
    ) -> Outcome:
        kind = _kind_of(path)
        assert not isinstance(wanted, OSError)
        if stat.S_ISLNK(wanted.st_mode):
            kind = "link"
        if found is None:
            return self._outcome(kind, "not copied", self._why(path, errors, log), path)
        if isinstance(found, OSError):
            return self._outcome(kind, "DIFFERS", _name_of(found), path)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(wanted.st_mode):
            return self._outcome(kind, "DIFFERS", "another kind of file", path)
        left = os.path.join(os.fsencode(self._first), path)
        right = os.path.join(os.fsencode(second), path)
        compare: Callable[[bytes, bytes], str] = _same_bytes
        if stat.S_ISLNK(wanted.st_mode):
            compare = self._compare_symbolic_links(second)
        elif stat.S_ISDIR(wanted.st_mode):
            return self._outcome("group", "equal", "", path)
        elif path.endswith(b".attrs.json"):
            compare = _compare_attributes
        try:
            difference = compare(left, right)
        except OSError as error:
            difference = f"second mount: {_name_of(error)}"
        if not difference or difference.startswith("="):
            return self._outcome(kind, "equal", difference[1:], path)
        if self._was_refused(path, errors):
            return self._outcome(kind, "not copied", self._why(path, errors, log), path)
        return self._outcome(kind, "DIFFERS", difference, path)

    def _compare_symbolic_links(self, second: Path) -> Callable[[bytes, bytes], str]:
        def compare(left: bytes, right: bytes) -> str:
            texts = os.readlink(left), os.readlink(right)
            if texts[0] == texts[1]:
                return ""
            ends = (
                os.path.relpath(os.path.realpath(left), os.path.realpath(self._first).encode()),
                os.path.relpath(os.path.realpath(right), os.path.realpath(second).encode()),
            )
            if ends[0] == ends[1]:
                return "=another text, the same target"
            # A soft link of another file, whose target that file does not have (L4).
            _, dangling, target = texts[0].partition(b"external::")
            if dangling and b"/" + ends[1] in (target, target + b".npy"):
                return "=its target is in the copy, where both files are one"
            return f"{_show(texts[0])} became {_show(texts[1])}"

        return compare

    def _compare_hard_links(self, wanted: Any, found: Any) -> Iterator[Outcome]:
        for paths in _hard_linked(wanted):
            inodes = {
                found[path].st_ino if isinstance(found.get(path), os.stat_result) else None
                for path in paths
            }
            same = len(inodes) == 1 and None not in inodes
            shown = ", ".join(map(_show, paths))
            yield self._outcome(
                "hard links", "equal" if same else "DIFFERS", "" if same else "separate", shown
            )

    def _compare_with_h5py(self) -> Iterator[Outcome]:
        """Look in both files for what is lost by design, in a process that HDF5 may crash."""
        program = "import sys; from support import round_trip; round_trip.print_lost(*sys.argv[1:])"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program, str(self._file), str(self._second_file)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=self._left(), check=False
        )
        for line in done.stdout.splitlines():
            kind, result, reason, where = json.loads(line)
            yield self._outcome(kind, result, reason, where)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            yield self._outcome("h5py", "skipped", f"exit {done.returncode} {last}"[:120], "")

    def _was_refused(self, path: bytes, errors: list[str]) -> bool:
        return any(_show(path) in line for line in errors)

    def _why(self, path: bytes, errors: list[str], log: list[str]) -> str:
        """Return the error of cp, and what the log says of the object, without names."""
        name = _show(os.path.basename(path))
        said = [line.rpartition(": ")[2] for line in errors if _show(path) in line]
        logged = [line for line in log if name in line]
        reason = said[0] if said else "no error from cp"
        if logged:
            reason += (
                " <- "
                + re.sub(
                    r"; saved as .*", "; saved beside it", logged[-1].partition(name)[2]
                ).strip(" :'\"")[:110]
            )
        return reason

    def _outcome(self, kind: str, result: str, reason: str, where: bytes | str) -> Outcome:
        shown = where if isinstance(where, str) else _show(where)
        return Outcome(kind, result, reason, f"{self._file}:/{shown}")


_MEASURER = """
import os, sys
left = int(sys.argv[2])
for _, folders, files in os.walk(os.fsencode(sys.argv[1])):
    left -= len(folders) + len(files)
    if left < 0:
        sys.exit(1)
"""


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result | OSError]]:
    """Yield each dentry below a folder, by its relative path, with its status or error."""
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            names = sorted(os.listdir(os.path.join(root, folder)))
        except OSError as error:
            if folder:
                yield folder, error
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                status = os.lstat(os.path.join(root, path))
            except OSError as error:
                yield path, error
                continue
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)


def _why_unreadable(dentry: bytes) -> str:
    try:
        status = os.lstat(dentry)
        if stat.S_ISLNK(status.st_mode):
            os.readlink(dentry)
        elif stat.S_ISDIR(status.st_mode):
            os.listdir(dentry)
        else:
            with open(dentry, "rb") as file:
                while file.read(_BLOCK_BYTES) and file.tell() < LARGEST_FILE_BYTES:
                    pass
    except OSError as error:
        return _name_of(error)
    return "cp gave up"


def _holds_nothing_readable(copy: bytes) -> bool:
    """Whether a copied attribute file has no attribute but such as cannot be read or found."""
    if not copy.endswith(b".attrs.json") or not os.path.isfile(copy):
        return False
    with open(copy, "rb") as opened:
        return set(json.load(opened)) <= {"$unreadable"}


def _is_without_owner(path: bytes, tree: Any) -> bool:
    """Whether attributes are of an object that was not copied: they wait for it, and stay out."""
    stem = path.removesuffix(b".attrs.json")
    if stem == path or os.path.basename(path) == b".attrs.json":
        return False
    owners = (stem + end for end in (b".npy", b".values.npy", b".offsets.npy", b".dtype.json"))
    return not any(owner in tree for owner in owners)


def _kind_of(path: bytes) -> str:
    if path.endswith(b".attrs.json"):
        return "attributes"
    if path.endswith(b".dtype.json"):
        return "datatype"
    return "dataset" if path.endswith(b".npy") else "group"


def _hard_linked(tree: dict[bytes, os.stat_result | OSError]) -> list[list[bytes]]:
    """Return the paths of datasets and datatypes that are one inode, by inode."""
    by_inode: dict[int, list[bytes]] = collections.defaultdict(list)
    for path, status in tree.items():
        if isinstance(status, OSError) or path.endswith(b".attrs.json"):
            continue
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            by_inode[status.st_ino].append(path)
    return [paths for paths in by_inode.values() if len(paths) > 1]


def _same_bytes(left: bytes, right: bytes) -> str:
    """Return how two files differ, empty when they do not."""
    if os.stat(left).st_size != os.stat(right).st_size:
        return _headers(left, right) or "another size"
    with open(left, "rb") as one, open(right, "rb") as other:
        while True:
            pieces = one.read(_BLOCK_BYTES), other.read(_BLOCK_BYTES)
            if pieces[0] != pieces[1]:
                return _headers(left, right) or "other values"
            if not pieces[0]:
                return ""


def _headers(left: bytes, right: bytes) -> str:
    heads = []
    for path in (left, right):
        with open(path, "rb") as file:
            heads.append(file.read(400).partition(b"\n")[0][10:])
    if heads[0] == heads[1] or not left.endswith(b".npy"):
        return ""
    shown = [head.decode("latin-1").replace("'fortran_order': False, ", "") for head in heads]
    return f"{shown[0].strip()[:90]} became {shown[1].strip()[:90]}"


def _compare_attributes(left: bytes, right: bytes) -> str:
    """Return how two attribute files differ; "=..." when just their order does.

    ``$unreadable`` has what the first mount had no value for.
    """
    pairs = []
    for path in (left, right):
        with open(path, "rb") as file:
            text = file.read()
        parsed = json.loads(text, parse_float=_Number, parse_int=_Number)
        parsed.pop("$unreadable", None)
        pairs.append(parsed)
    one, other = pairs
    if one == other:
        return "" if list(one) == list(other) else "=in another order"
    names = sorted({*one, *other, *one.get("$types", {}), *other.get("$types", {})} - {"$types"})
    for name in names:
        before = one.get(name), one.get("$types", {}).get(name)
        after = other.get(name), other.get("$types", {}).get(name)
        if before != after:
            if name not in other:
                return f"attribute missing, type {json.dumps(before[1])[:70]}"
            if before[1] != after[1]:
                return f"type {json.dumps(before[1])[:70]} became {json.dumps(after[1])[:70]}"
            return f"value {str(before[0])[:50]} became {str(after[0])[:50]}"
    return "differs"


class _Number(str):
    """A number as it is spelled."""


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


# With h5py, in a process of its own.


def print_lost(first: str, second: str) -> None:
    """Print, as lines of JSON, what of a file is not in the second one by design."""
    import h5py

    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401
    with h5py.File(first, "r") as one, h5py.File(second, "r") as other:
        for lost in _find_lost(one, other):
            print(json.dumps(lost), flush=True)


def _find_lost(one: Any, other: Any) -> Iterator[tuple[str, str, str, str]]:
    from h5py import h5d, h5g, h5l, h5o

    seen: set[int] = set()
    pending = [(one.id, b"/")]
    while pending:
        location, path = pending.pop()
        names: list[bytes] = []
        try:
            group = h5o.open(location, path)
            group.links.iterate(names.append)
        except Exception:
            continue
        for name in names:
            child = path.rstrip(b"/") + b"/" + name
            try:
                if group.links.get_info(name).type != h5l.TYPE_HARD:
                    continue
                info = h5o.get_info(group, name)
                identifier = h5o.open(group, name)
            except Exception:
                continue
            if isinstance(identifier, h5g.GroupID):
                if info.addr in seen:
                    yield "group", "by design", CANNOT_SURVIVE["group"], _show(child)
                else:
                    seen.add(info.addr)
                    pending.append((location, child))
                continue
            if isinstance(identifier, h5d.DatasetID):
                try:
                    copy = h5d.open(other.id, child)
                except Exception:
                    continue
                for key in _lost_of_dataset(identifier, copy):
                    yield "dataset", "by design", CANNOT_SURVIVE[key], _show(child)


def _lost_of_dataset(one: Any, other: Any) -> Iterator[str]:
    from h5py import h5s, h5t

    space, kind, copied = one.get_space(), one.get_type(), other.get_type()
    if space.get_simple_extent_type() == h5s.NULL:
        yield "null dataspace"
    if kind.committed():
        yield "committed type"
    if kind.get_class() == h5t.VLEN:
        if space.get_simple_extent_ndims() != 1:
            yield "sequences"
    elif kind.detect_class(h5t.VLEN):
        yield "sequences within"
    if kind.detect_class(h5t.REFERENCE):
        yield "references"
    elif not kind.equal(copied) and not kind.detect_class(h5t.VLEN):
        classes = {
            h5t.ENUM: "enumeration", h5t.BITFIELD: "bitfield", h5t.OPAQUE: "opaque",
            h5t.STRING: "string", h5t.FLOAT: "float", h5t.ARRAY: "array",
            h5t.COMPOUND: "compound", getattr(h5t, "COMPLEX", -99): "complex",
        }  # fmt: skip
        yield classes.get(kind.get_class(), "number")

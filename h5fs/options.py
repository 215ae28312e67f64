"""Frozen settings of a mount, and how the ``-o`` text becomes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from h5fs.errors import UsageError

DEFAULT_CACHE_BYTES = 256 * 2**20


class Mode(Enum):
    """How the HDF5 file is opened, spelled as in h5py.

    ``r+`` writes to a file that is there, ``a`` makes one where there is none, ``w`` begins anew,
    ``x`` insists that there is none yet.
    """

    READ = "r"
    UPDATE = "r+"
    APPEND = "a"
    CREATE = "w"
    EXCLUSIVE = "x"

    @property
    def writes(self) -> bool:
        """Whether the mount may change the file."""
        return self is not Mode.READ


class ExternalPolicy(Enum):
    """Which files outside the mounted one may be read through it."""

    NONE = "none"
    FOLDER = "folder"
    ALL = "all"


class Locking(Enum):
    """HDF5's file locking, spelled as in h5py; DEFAULT is what h5py does when not told."""

    DEFAULT = "default"
    TRUE = "true"
    FALSE = "false"
    BEST_EFFORT = "best-effort"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one file may cost; the defaults are beyond what real files need.

    ``deadline_seconds``: how long the HDF5 library may go without progress. ``memory_bytes``: how
    far a worker's address space may grow. ``max_chunk_bytes``: the largest chunk that is decoded.
    ``max_depth``: how many groups deep a path may be.
    """

    deadline_seconds: float = 30.0
    memory_bytes: int = 4 * 2**30
    max_chunk_bytes: int = 512 * 2**20
    max_depth: int = 1000


DEFAULT_COMMIT_SECONDS = 5.0
_USUAL_GZIP_LEVEL = 4  # h5py's


@dataclass(frozen=True, slots=True)
class NewDatasets:
    """How datasets are stored that a mount creates.

    ``gzip_level`` None is no compression; then, and without ``chunk_shape``, a dataset is
    contiguous. ``chunk_shape`` is for datasets of its rank.
    """

    gzip_level: int | None = None
    shuffles: bool = False
    chunk_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What the store needs to know.

    ``workers``: how many processes read through the HDF5 library; 0 is none, this process does it
    (for debugging); None is as many as there are cores, and at least two. A mode that writes has
    one. ``cache_bytes``: decoded chunks kept in memory. ``boot_id`` tells this run of the kernel
    from others, where the file is read or written through the redo log. ``commit_seconds``: how
    long what was closed may stay uncommitted; 0 is not at all, None is until somebody asks.
    ``is_swmr``: another program may be writing it by HDF5's SWMR rules. ``identity``: device and
    inode number that the file must have; another one at its path is another file.
    """

    file: Path
    mode: Mode = Mode.READ
    boot_id: bytes = b""
    new_datasets: NewDatasets = NewDatasets()
    commit_seconds: float | None = DEFAULT_COMMIT_SECONDS
    locking: Locking = Locking.DEFAULT
    external: ExternalPolicy = ExternalPolicy.FOLDER
    workers: int | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    limits: Limits = Limits()
    is_swmr: bool = False
    identity: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Where the log goes: a file, ``syslog``, or None for the place that suits the mount."""

    target: str | None = None
    level: str = "WARNING"


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Everything that a mount is told; paths are absolute.

    ``fuse`` holds FUSE's own options, name and value (None for a flag), in the order given.
    ``is_folder``: what is mounted is a folder of HDF5 files, and ``store.file`` its path.
    """

    mountpoint: Path
    store: StoreOptions
    log: LogOptions
    mode: Mode = Mode.READ
    foreground: bool = False
    has_xattrs: bool = False
    fuse: tuple[tuple[str, str | None], ...] = ()
    is_folder: bool = False


# Options of mount(8) and fstab(5) that are not for the file system, and those that say what a
# mount in mode r does anyway. "rw" is what mount(8) passes when it was told nothing.
_IGNORED = frozenset(
    "defaults rw auto noauto user nouser users owner group nofail _netdev relatime norelatime "
    "strictatime nostrictatime lazytime nolazytime nosuid nodev ro".split()
)
_IGNORED_PREFIXES = ("x-", "comment=")

_OWN = frozenset(
    "external locking log workers cache deadline memory max_chunk max_depth commit durability "
    "compression chunks mode".split()
)

_FUSE_FLAGS = frozenset(
    "allow_other allow_root default_permissions nonempty large_read hard_remove auto_cache "
    "noauto_cache kernel_cache direct_io debug suid dev exec noexec atime noatime sync async "
    "dirsync big_writes no_remote_lock intr auto_unmount async_read sync_read splice_read "
    "no_splice_read splice_write no_splice_write splice_move no_splice_move".split()
)
# The values that each takes, as a regular expression.
_FUSE_VALUES = {
    **dict.fromkeys(
        "uid gid max_read max_readahead max_write max_background congestion_threshold".split(),
        "[0-9]+",
    ),
    **dict.fromkeys(
        "entry_timeout attr_timeout negative_timeout ac_attr_timeout".split(),
        r"[0-9]+(\.[0-9]*)?",
    ),
    **dict.fromkeys("fsname context fscontext defcontext rootcontext".split(), ".+"),
    "umask": "[0-7]+",
}


@dataclass(frozen=True, slots=True)
class ParsedOptions:
    """The ``-o`` texts, sorted by whom they are for."""

    external: ExternalPolicy
    locking: Locking
    log: str | None
    has_xattrs: bool
    fuse: tuple[tuple[str, str | None], ...]
    workers: int | None = None
    cache_bytes: int = DEFAULT_CACHE_BYTES
    limits: Limits = Limits()
    new_datasets: NewDatasets = NewDatasets()
    commit_seconds: float | None = DEFAULT_COMMIT_SECONDS
    mode: str | None = None
    is_swmr: bool = False


def parse_options(texts: list[str]) -> ParsedOptions:
    """Sort ``opt,opt=value`` texts into h5fs's own options and FUSE's.

    ``\\,`` stands for a comma within a value. Raises ``UsageError`` for an option that nobody knows
    or a value that the option does not take.
    """
    own: dict[str, str] = {}
    fuse: dict[str, str | None] = {}
    has_xattrs = False
    for option in (option for text in texts for option in _split(text)):
        name, equals, value = option.partition("=")
        if option in _IGNORED or option.startswith(_IGNORED_PREFIXES):
            continue
        if option in ("xattr", "noxattr"):
            has_xattrs = option == "xattr"
        elif option in ("shuffle", "swmr"):
            own[name] = "yes"
        elif name in _OWN:
            if not value:
                raise UsageError(f"-o {name} needs a value: {name}=...")
            own[name] = value
        elif name in _FUSE_FLAGS and not equals:
            fuse[name] = None
        elif name in _FUSE_VALUES:
            if not re.fullmatch(_FUSE_VALUES[name], value):
                raise UsageError(f"-o {option}: {name}= needs a value like {_FUSE_VALUES[name]}")
            fuse[name] = value
        else:
            raise UsageError(f"unknown option -o {option} (see h5fs --help)")
    workers = own.get("workers")
    return ParsedOptions(
        external=_choose(ExternalPolicy, "external", own.get("external", "folder")),
        locking=_choose(Locking, "locking", own.get("locking", "default")),
        workers=None if workers is None else _parse_number("workers", workers, most=256),
        cache_bytes=_parse_size("cache", own["cache"]) if "cache" in own else DEFAULT_CACHE_BYTES,
        limits=_parse_limits(own),
        new_datasets=_parse_new_datasets(own),
        commit_seconds=_parse_commit(own),
        mode=own.get("mode"),
        is_swmr="swmr" in own,
        log=own.get("log"),
        has_xattrs=has_xattrs,
        fuse=tuple(fuse.items()),
    )


def _parse_limits(own: dict[str, str]) -> Limits:
    usual = Limits()
    return Limits(
        deadline_seconds=_parse_seconds("deadline", own["deadline"])
        if "deadline" in own
        else usual.deadline_seconds,
        memory_bytes=_parse_size("memory", own["memory"])
        if "memory" in own
        else usual.memory_bytes,
        max_chunk_bytes=_parse_size("max_chunk", own["max_chunk"])
        if "max_chunk" in own
        else usual.max_chunk_bytes,
        max_depth=_parse_number("max_depth", own["max_depth"], least=1)
        if "max_depth" in own
        else usual.max_depth,
    )


def _parse_new_datasets(own: dict[str, str]) -> NewDatasets:
    level = None
    if "compression" in own:
        match = re.fullmatch(r"gzip(?::([0-9]))?", own["compression"])
        if match is None and own["compression"] != "none":
            raise UsageError(f"-o compression={own['compression']}: must be none, gzip or gzip:0-9")
        level = int(match[1] or _USUAL_GZIP_LEVEL) if match is not None else None
    chunk_shape = None
    if "chunks" in own:
        if not re.fullmatch(r"[1-9][0-9]{0,17}(x[1-9][0-9]{0,17})*", own["chunks"]):
            raise UsageError(f"-o chunks={own['chunks']}: must be a shape like 100x200")
        chunk_shape = tuple(map(int, own["chunks"].split("x")))
    return NewDatasets(level, "shuffle" in own, chunk_shape)


def _parse_commit(own: dict[str, str]) -> float | None:
    durability = own.get("durability", "on")
    if durability not in ("on", "off"):
        raise UsageError(f"-o durability={durability}: must be on or off")
    if durability == "off":
        return None
    text = own.get("commit")
    if text is None:
        return DEFAULT_COMMIT_SECONDS
    return 0.0 if text == "0" else _parse_seconds("commit", text)


def _parse_number(name: str, value: str, *, least: int = 0, most: int = 10**9) -> int:
    if not value.isdecimal() or not least <= int(value) <= most:
        raise UsageError(f"-o {name}={value}: must be a number from {least} to {most}")
    return int(value)


def _parse_seconds(name: str, value: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or not 0.1 <= float(value) <= 86400:
        raise UsageError(f"-o {name}={value}: must be a number of seconds from 0.1 to 86400")
    return float(value)


_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _parse_size(name: str, value: str) -> int:
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", value.upper())
    if match is None or int(match[1]) == 0 or len(match[1]) > 15:
        raise UsageError(f"-o {name}={value}: must be a size in bytes, or like 64K, 256M, 4G")
    return int(match[1]) * _SIZE_UNITS[match[2]]


_Choice = TypeVar("_Choice", bound=Enum)


def _choose(kind: type[_Choice], name: str, value: str) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise UsageError(f"-o {name}={value}: must be one of {choices}") from None


def _split(text: str) -> list[str]:
    """Split at commas that no backslash precedes."""
    options = text.replace("\\,", "\0").split(",")
    return [option.replace("\0", ",") for option in options if option]

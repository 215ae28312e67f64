"""Frozen settings of a mount, of its store and of its log."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Final

from msgspec import Struct

from h5fs.model.location import Location, Url
from h5fs.model.members import FastEnum

_DESCRIPTOR: Final = re.compile(r"/dev/fd/(\d{1,9})")

DEFAULT_CACHE_BYTES = 256 * 2**20

KERNEL_SECONDS: Final = 0.8
"""How long the kernel may keep names, statuses and listings of a domain of a data service."""


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
    """Which files beside the mounted one may be read, where links, datasets and names lead to them.

    ``folder``: those in the mounted file's own folder, and in folders below that one.
    """

    NONE = "none"
    FOLDER = "folder"
    ALL = "all"


class Locking(Enum):
    """HDF5's file locking, spelled as in h5py; DEFAULT is what h5py does when not told."""

    DEFAULT = "default"
    TRUE = "true"
    FALSE = "false"
    BEST_EFFORT = "best-effort"


class Limits(Struct, frozen=True):
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


class NewDatasets(Struct, frozen=True):
    """How datasets are stored that a mount creates.

    ``gzip_level`` None is no compression; then, and without ``chunk_shape``, a dataset is
    contiguous. ``chunk_shape`` is for datasets of its rank.
    """

    gzip_level: int | None = None
    shuffles: bool = False
    chunk_shape: tuple[int, ...] | None = None


class RemoteOptions(Struct, frozen=True):
    """How a file that is not on this machine is read.

    ``streams``: how many requests are in flight at once. ``timeout_seconds``: how long a request is
    tried again. ``revalidate_seconds``: how often the server is asked whether the file is still the
    same. ``cache_bytes`` and ``cache_folder``: the cache on disk; None: below ``$XDG_CACHE_HOME``.
    ``endpoint_url``: the server that speaks for S3, GCS or Azure, or the data service.
    ``profile``: a section of ``~/.aws``. ``is_anonymous``: requests carry no credentials.
    ``working_folder``: where the user is, since a daemon is elsewhere; None: here.
    """

    streams: int = 16
    timeout_seconds: float = 60.0
    revalidate_seconds: float = 60.0
    cache_bytes: int = 10 * 2**30
    cache_folder: Path | None = None
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    is_anonymous: bool = False
    working_folder: Path | None = None


class StoreOptions(Struct, frozen=True):
    """What the store needs to know.

    ``location``: the HDF5 file's path or URL.
    ``workers``: how many processes read through the HDF5 library; 0: this process itself does (for
    debugging); None: as many as there are cores, and at least two. A mode that writes has another
    one, which alone writes.
    ``cache_bytes``: memory for decoded chunks. ``boot_id``: tells this run of the kernel from
    others, for a file that is read or written through the redo log. ``commit_seconds``: how long
    closed files may wait for a commit that survives a power cut; 0: ``close`` waits for it; None:
    only ``fsync`` makes one. ``is_swmr``: another program may be writing the file by HDF5's SWMR
    rules. ``is_beside_writer``: the process reads what another one of the same mount writes.
    ``identity``: device and inode number that the file must have; a file with other numbers
    at the same path is another file. ``user_block``: the bytes with which a file begins that is
    made, before all that is HDF5's; as many as HDF5 allows, or none.
    """

    location: Location
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
    is_beside_writer: bool = False
    identity: tuple[int, int] | None = None
    user_block: bytes = b""
    remote: RemoteOptions = RemoteOptions()

    @property
    def file(self) -> Path:
        """The path of a file on this machine. Not to be asked for where there is a URL."""
        assert isinstance(self.location, Path)
        return self.location

    @property
    def url(self) -> Url | None:
        """The URL of data that are not on this machine's file systems; None for a path."""
        return self.location if isinstance(self.location, Url) else None


class View(FastEnum):
    """What a mount can show beside the arrays, for people to look at; the value is the suffix.

    How each is made is a row of ``VIEWS`` in ``tree.contents.view_content``. The order counts: it
    is part of the files' inode numbers, so that another view comes last.
    """

    TABLE = b".csv"
    PICTURE = b".png"
    TEXT = b".txt"

    def __init__(self, suffix: bytes) -> None:
        self.suffix = suffix

    @property
    def word(self) -> str:
        """The word that stands for this view in ``-o views=``."""
        return self.suffix[1:].decode()


DEFAULT_PICTURE_SIZE = 1024


class ViewOptions(Struct, frozen=True):
    """Which views there are, and how many pixels a picture's longest side has at most.

    ``are_listed`` False: they are found by their names, and no listing shows them.
    """

    kinds: frozenset[View] = frozenset()
    picture_size: int = DEFAULT_PICTURE_SIZE
    are_listed: bool = True


NO_VIEWS = ViewOptions()
"""What a mount shows that was not told to show any."""


class LogOptions(Struct, frozen=True):
    """Where the log goes: a file, ``syslog``, or None for the place that suits the mount."""

    target: str | None = None
    level: str = "WARNING"


class MountOptions(Struct, frozen=True):
    """All settings of a mount; paths are absolute.

    ``fuse``: FUSE's own options, name and value (None for a flag), in the order given.
    ``is_folder``: a folder of HDF5 files is mounted, and ``store.location`` is the folder's
    path or URL. ``part``: the path, in a mount of the whole file, of the group that is mounted;
    empty: the whole file is.
    ``removes_mountpoint``: h5fs has made the mountpoint, and removes it at the end. ``owner_pid``:
    the mount ends with this process.
    """

    mountpoint: Path
    store: StoreOptions
    log: LogOptions
    foreground: bool = False
    has_xattrs: bool = False
    fuse: tuple[tuple[str, str | None], ...] = ()
    is_folder: bool = False
    part: bytes = b""
    removes_mountpoint: bool = False
    owner_pid: int | None = None
    views: ViewOptions = NO_VIEWS

    @property
    def mode(self) -> Mode:
        """How the HDF5 file is opened; a folder of files is read."""
        return self.store.mode

    @property
    def descriptor(self) -> int | None:
        """The open /dev/fuse for a mount that another program has made; None: h5fs mounts."""
        found = _DESCRIPTOR.fullmatch(str(self.mountpoint))
        return int(found[1]) if found is not None else None

    @property
    def source(self) -> str:
        """What is mounted, as people are told: the file, and which part of it."""
        part = self.part.decode("utf-8", "surrogateescape")
        return f"{self.store.location}:{part}" if part else str(self.store.location)

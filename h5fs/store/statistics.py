"""Statistics of a store: plain values, which can be added up over several stores.

Some are about the present (memory, processes), others are counts since the store was opened. ``+``
adds both; ``counts_only`` gives what remains of a store that was closed, to be added to the next.
"""

from __future__ import annotations

from msgspec import Struct, structs


class CacheStatistics(Struct, frozen=True):
    """Decoded chunks in memory.

    ``used_bytes`` of ``limit_bytes`` are taken, also by memory that waits for the next chunks.
    ``disk_bytes``: band files, for what is too large for that. ``hits`` and ``misses`` count
    parts of reads, one for each block of chunks that a read touches: a hit found all its chunks
    decoded, a miss had to wait for one.
    """

    used_bytes: int = 0
    limit_bytes: int = 0
    disk_bytes: int = 0
    hits: int = 0
    misses: int = 0

    def __add__(self, other: CacheStatistics) -> CacheStatistics:
        return CacheStatistics(
            self.used_bytes + other.used_bytes,
            self.limit_bytes + other.limit_bytes,
            self.disk_bytes + other.disk_bytes,
            self.hits + other.hits,
            self.misses + other.misses,
        )

    @property
    def hit_rate(self) -> float | None:
        """The share of hits, 0 to 1; None when nothing was read."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


class WorkerStatistics(Struct, frozen=True):
    """Processes that work with the HDF5 library.

    ``usual_count``: how many there are as a rule; ``pids`` of those that run. ``replaced_count``:
    how many died or hung, so that others took their place.
    """

    usual_count: int = 0
    pids: tuple[int, ...] = ()
    replaced_count: int = 0

    def __add__(self, other: WorkerStatistics) -> WorkerStatistics:
        return WorkerStatistics(
            self.usual_count + other.usual_count,
            self.pids + other.pids,
            self.replaced_count + other.replaced_count,
        )


class RemoteStatistics(Struct, frozen=True):
    """Requests to other machines, and the ``bytes`` that came.

    ``hits`` and ``misses`` count how often bytes were asked for, and were all in the cache on disk,
    or not. ``in_flight``: requests that are under way now. ``last_error``: empty when there was
    none.
    """

    requests: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    in_flight: int = 0
    last_error: str = ""

    def __add__(self, other: RemoteStatistics) -> RemoteStatistics:
        return RemoteStatistics(
            self.requests + other.requests,
            self.bytes + other.bytes,
            self.hits + other.hits,
            self.misses + other.misses,
            self.in_flight + other.in_flight,
            self.last_error or other.last_error,
        )


class UncommittedStatistics(Struct, frozen=True):
    """What a power cut could take, as far as the daemon knows.

    ``change_count`` and ``bytes`` of data that were handed over since the last durable commit
    began (of data: a new group is a change of no bytes; a replaced array counts whole).
    ``oldest_seconds``: the age of the first of them. A commit that the library makes by itself, to
    empty a long log, is not known here: the numbers are then too large until the next one.
    ``log_bytes``: the length of the redo log, with what is committed.
    """

    change_count: int = 0
    bytes: int = 0
    oldest_seconds: float | None = None
    log_bytes: int = 0

    def __add__(self, other: UncommittedStatistics) -> UncommittedStatistics:
        ages = [s.oldest_seconds for s in (self, other) if s.oldest_seconds is not None]
        return UncommittedStatistics(
            self.change_count + other.change_count,
            self.bytes + other.bytes,
            max(ages, default=None),
            self.log_bytes + other.log_bytes,
        )


class QuarantinedObject(Struct, frozen=True):
    """An object that nobody may touch any more: in which HDF5 file, its path there, and why."""

    file: str
    path: str
    reason: str


class StoreStatistics(Struct, frozen=True):
    """All statistics of a store.

    ``uncommitted`` is None in mode r, ``remote`` for a file that is on this machine.
    ``log_problem``: a line about damage in the redo log, None when there is none.
    """

    cache: CacheStatistics = CacheStatistics()
    workers: WorkerStatistics = WorkerStatistics()
    uncommitted: UncommittedStatistics | None = None
    quarantined: tuple[QuarantinedObject, ...] = ()
    log_problem: str | None = None
    remote: RemoteStatistics | None = None

    def __add__(self, other: StoreStatistics) -> StoreStatistics:
        one, two = self.uncommitted, other.uncommitted
        return StoreStatistics(
            self.cache + other.cache,
            self.workers + other.workers,
            one + two if one is not None and two is not None else one or two,
            self.quarantined + other.quarantined,
            self.log_problem or other.log_problem,
            _sum(self.remote, other.remote),
        )

    def counts_only(self) -> StoreStatistics:
        """Return the counts alone: what remains when the store is closed."""
        return StoreStatistics(
            structs.replace(self.cache, used_bytes=0, limit_bytes=0, disk_bytes=0),
            structs.replace(self.workers, usual_count=0, pids=()),
            remote=self.remote and structs.replace(self.remote, in_flight=0),
        )


def _sum(one: RemoteStatistics | None, other: RemoteStatistics | None) -> RemoteStatistics | None:
    return one + other if one is not None and other is not None else one or other

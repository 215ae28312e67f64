"""What ``h5fs status --json`` prints of one mount: stable keys, with their units in the names.

The daemon makes the document from the statistics of its rooms. It holds plain values only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import h5fs
from h5fs.model.settings import MountOptions

if TYPE_CHECKING:
    from h5fs.daemon.recent_messages import Message
    from h5fs.fuse import OperationStatistics
    from h5fs.store.statistics import QuarantinedObject, StoreStatistics
    from h5fs.tree.statistics import TreeStatistics

# Bounded so that the document fits into a socket's buffer: see `status_socket`.
_MOST_QUARANTINE_CHARACTERS = 16384


def now_seconds() -> float:
    """Return a clock that also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def make_document(
    options: MountOptions,
    started_seconds: float,
    tree: TreeStatistics,
    operations: Mapping[str, OperationStatistics],
    log: str,
    messages: Sequence[Message],
) -> bytes:
    """Return the document of a mount of this process; ``started_seconds`` by ``now_seconds``.

    ``log``: where the log goes. ``messages``: the last warnings in it.
    """
    store = tree.store
    drafts = {"count": tree.draft_count, "bytes": tree.draft_bytes}
    document = {
        "mountpoint": os.fspath(options.mountpoint),
        "file": str(options.store.location),
        "part": os.fsdecode(options.part) or None,
        "mode": options.mode.value,
        "pid": os.getpid(),
        "version": h5fs.__version__,
        "uptime_seconds": round(now_seconds() - started_seconds, 3),
        "open_files": tree.open_file_count,
        "drafts": drafts if options.mode.writes else None,
        "uncommitted": _uncommitted(store),
        "log_problem": store.log_problem,
        "log": log,
        "messages": [{"seconds": round(m.time_seconds, 3), "text": m.text} for m in messages],
        "cache": _cache(store),
        "remote": _remote(store),
        "workers": {
            "usual_count": store.workers.usual_count,
            "pids": list(store.workers.pids),
            "replaced_count": store.workers.replaced_count,
        },
        "quarantined_count": len(store.quarantined),
        "quarantined": _quarantined(store.quarantined),
        "operations": {name: _operation(found) for name, found in operations.items()},
        "problem": None,
    }
    return json.dumps(document).encode()


def _uncommitted(store: StoreStatistics) -> dict[str, Any] | None:
    found = store.uncommitted
    if found is None:
        return None
    age = None if found.oldest_seconds is None else round(found.oldest_seconds, 3)
    return {
        "changes": found.change_count,
        "bytes": found.bytes,
        "oldest_seconds": age,
        "log_bytes": found.log_bytes,
    }


def _cache(store: StoreStatistics) -> dict[str, Any]:
    cache = store.cache
    return {
        "used_bytes": cache.used_bytes,
        "limit_bytes": cache.limit_bytes,
        "disk_bytes": cache.disk_bytes,
        "hits": cache.hits,
        "misses": cache.misses,
        "hit_rate": None if cache.hit_rate is None else round(cache.hit_rate, 4),
    }


def _remote(store: StoreStatistics) -> dict[str, Any] | None:
    found = store.remote
    if found is None:
        return None
    return {
        "requests": found.requests,
        "bytes": found.bytes,
        "hits": found.hits,
        "misses": found.misses,
        "in_flight": found.in_flight,
        "last_error": found.last_error or None,
    }


def _quarantined(objects: tuple[QuarantinedObject, ...]) -> list[dict[str, str]]:
    """Return as many objects as there is room for; ``quarantined_count`` counts all of them."""
    found, left = [], _MOST_QUARANTINE_CHARACTERS
    for each in objects:
        left -= len(each.file) + len(each.path) + len(each.reason)
        if left < 0:
            break
        found.append({"file": each.file, "path": each.path, "reason": each.reason})
    return found


def _operation(found: OperationStatistics) -> dict[str, Any]:
    return {
        "count": found.count,
        "errors": found.error_count,
        "p50_us": found.p50_ns / 1000,
        "p90_us": found.p90_ns / 1000,
        "p99_us": found.p99_ns / 1000,
        "max_us": found.max_ns / 1000,
    }

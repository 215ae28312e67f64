"""What a worker may do, from what the mount was told."""

from __future__ import annotations

import resource

from h5fs.options import StoreOptions


def confine_worker(options: StoreOptions) -> None:
    """Keep this process to what it needs to read one file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

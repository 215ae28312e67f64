"""A progress bar for what takes long; none where nobody watches."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_QUIET_SECONDS = 1.0


def progress_bar(what: str, total_bytes: int | None) -> Any:
    """Return a bar to ``update(count)`` in bytes, as a context manager.

    It appears after a second, on a terminal only, and leaves nothing behind.
    """
    return tqdm(
        desc=what, total=total_bytes, unit="B", unit_scale=True, unit_divisor=1024, leave=False,
        delay=_QUIET_SECONDS, disable=not sys.stderr.isatty(), file=sys.stderr,
    )  # fmt: skip

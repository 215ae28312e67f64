"""Waiting for what must come, on a machine that may be busy with other work."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 90.0
"""How long a test waits for what takes no time on a quiet machine: until then it is no failure."""

_LONGEST_PAUSE_SECONDS = 0.05


def wait_until(claim: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return when a claim is true; fail when it is not after so long."""
    end, pause = time.monotonic() + seconds, 0.0005
    while not claim():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

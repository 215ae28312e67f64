"""Memory that is freed is there for the next one who wants some."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_ROUNDS = """
import mmap, resource
import numpy as np
from h5fs.store.worker_process.freed_memory import keep_freed_memory

keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [np.empty({size}, np.uint8) for _ in range(4)]
    for piece in pieces:
        piece[:: mmap.PAGESIZE] = 1
    del piece, pieces
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    # Below 4 MiB numpy does not ask for large pages.
    program = _ROUNDS.format(size=3 * 2**20)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    first, *later = map(int, done.stdout.split())
    assert first > 4 * 3 * 2**20 // 2**12 // 2
    assert max(later) < first / 10

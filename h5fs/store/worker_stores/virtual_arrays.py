"""Virtual datasets of which it is known where each element is: read from their sources."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from h5fs.model.objects import Virtual, VirtualSource


def sources_under(
    virtual: Virtual, offset: int, buffer: memoryview
) -> Iterator[tuple[VirtualSource, int, memoryview]]:
    """Yield the parts of ``buffer``, which is for an array's data from byte ``offset`` on: for each
    its source, and where in the source's data it begins."""
    runs = np.frombuffer(virtual.runs, "<i8").reshape(-1, 3)
    stop = offset + len(buffer)
    first, last = np.searchsorted(runs[:, 0], [offset + 1, stop])
    under = runs[first - 1 : last].tolist()
    ends = [*(start for start, _, _ in under[1:]), stop]
    for (start, number, place), end in zip(under, ends, strict=True):
        begin = max(start, offset)
        yield virtual.sources[number], place + begin - start, buffer[begin - offset : end - offset]

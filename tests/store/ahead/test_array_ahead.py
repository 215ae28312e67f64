"""What of a contiguous array is fetched before a sequential reader asks for it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from h5fs.model.objects import Contiguous, DatasetInfo, ObjectRef
from h5fs.store.ahead.array_ahead import ArrayAhead
from h5fs.store.sources.local_file import LocalFile

MB = 2**20
BEGIN = 4096
ARRAY_BYTES = 1024 * MB
REF = ObjectRef(file=0, id=800, path=b"/x")
ARRAY = DatasetInfo((ARRAY_BYTES // 4,), np.dtype("<i4"), ARRAY_BYTES, data=Contiguous(BEGIN))


class Recorder(LocalFile):
    """A source that only remembers what it was to fetch ahead."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.asked: list[tuple[int, int]] = []

    def fetch_ahead(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.asked += ranges


@pytest.mark.semantics("Z43")
@pytest.mark.parametrize(("cache_mb", "most_mb"), [(10240, 128), (64, 16)])
def test_a_reader_that_goes_on_has_much_fetched_but_never_too_much(
    cache_mb: int, most_mb: int
) -> None:
    source = Recorder()
    ahead = ArrayAhead(source, cache_bytes=cache_mb * MB)
    stop = 0
    for at in range(0, ARRAY_BYTES, 2 * MB):
        before = len(source.asked)
        ahead.note(REF, ARRAY, at, 2 * MB)
        for start, end in source.asked[before:]:
            assert start == max(stop, BEGIN + at + 2 * MB)  # nothing twice, nothing left out
            assert end <= BEGIN + min(at + 2 * MB + most_mb * MB, ARRAY_BYTES)
            stop = end
    assert stop == BEGIN + ARRAY_BYTES
    full_speed = [end - start for start, end in source.asked if start > 256 * MB][:-1]
    assert min(full_speed) >= most_mb * MB // 4


@pytest.mark.semantics("Z43")
def test_a_reader_that_has_only_begun_has_little_fetched() -> None:
    source = Recorder()
    ArrayAhead(source, cache_bytes=1024 * MB).note(REF, ARRAY, 0, 2 * MB)
    assert sum(end - start for start, end in source.asked) <= 8 * MB

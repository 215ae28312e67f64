"""Has the stored bytes of chunks of a remote file fetched before somebody decodes them.

The chunk index says where chunks lie. It may be wrong (``hdf5.reading.chunk_index``): whoever reads
a chunk then fetches what the library says, so that a wrong place costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from h5fs.model.objects import ChunkIndex
from h5fs.store.chunks.geometry import Grid
from h5fs.store.chunks.streams import Stream
from h5fs.store.sources.interface import Source

# Stored bytes that are under way for one reader; as many as keep all requests busy.
_WINDOW_BYTES = 64 * 2**20
# The window grows with what was read, since a reader that has only begun may not go on.
_WINDOW_PER_READ = 4
_STEPS_PER_WINDOW = 2
_SPARE_BYTES = 2**20  # by how much a stored chunk may be longer than a decoded one


class ChunkFetcher:
    """Fetches chunks of one file. Safe to use from any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def begin(self, index: ChunkIndex | None, grid: Grid, chunks: Iterable[int]) -> None:
        """Begin to fetch chunks; wait for nothing."""
        self._source.fetch_ahead(list(_places(index, grid, chunks)))

    def wait(self, index: ChunkIndex | None, grid: Grid, chunks: Iterable[int]) -> None:
        """Return when chunks are here. Raises ``H5fsError``."""
        self._source.ensure(list(_places(index, grid, chunks)))

    def read_ahead(self, index: ChunkIndex | None, grid: Grid, stream: Stream, offset: int) -> None:
        """Begin to fetch what a sequential reader will want from byte ``offset`` on."""
        if index is None or index.offsets is None or index.sizes is None:
            return
        window = min(_WINDOW_BYTES, _WINDOW_PER_READ * stream.read_bytes)
        sizes = np.frombuffer(index.sizes, "<u8")
        number, ahead, fresh = grid.block_of(offset), 0, 0
        wanted: list[int] = []
        while ahead < window and number * grid.bands_per_block < grid.band_count:
            chunks = grid.block(number).chunks
            size = int(sizes[chunks.start : chunks.stop].sum())
            ahead += size
            if number > stream.fetched_block:
                wanted += chunks
                fresh += size
            number += 1
        # Few large steps, each with room for large requests.
        is_end = ahead < window
        if wanted and (is_end or fresh >= window // _STEPS_PER_WINDOW):
            stream.fetched_block = number - 1
            self.begin(index, grid, wanted)


def _places(
    index: ChunkIndex | None, grid: Grid, chunks: Iterable[int]
) -> Iterator[tuple[int, int]]:
    """Yield where chunks are stored, without those whose sizes in the index cannot be right."""
    if index is None or index.sizes is None or index.offsets is None:
        return
    sizes, offsets = np.frombuffer(index.sizes, "<u8"), np.frombuffer(index.offsets, "<u8")
    most = 2 * grid.chunk_bytes + _SPARE_BYTES
    numbers = list(chunks)
    pairs = zip(offsets[numbers].tolist(), sizes[numbers].tolist(), strict=True)
    for offset, size in pairs:
        if 0 < size <= most:
            yield offset, offset + size

"""What a tree tells about itself: plain values, which can be added up over several trees."""

from __future__ import annotations

from msgspec import Struct, field

from h5fs.store.statistics import StoreStatistics


class TreeStatistics(Struct, frozen=True):
    """A tree and the stores below it.

    ``open_file_count``: file handles. ``draft_count``, ``draft_bytes``: files with something that
    programs wrote and the HDF5 file does not have (open ones, scratch files, attributes that wait
    for their dataset), and how many bytes were written to them.
    """

    store: StoreStatistics = field(default_factory=StoreStatistics)
    open_file_count: int = 0
    draft_count: int = 0
    draft_bytes: int = 0

    def __add__(self, other: TreeStatistics) -> TreeStatistics:
        return TreeStatistics(
            self.store + other.store,
            self.open_file_count + other.open_file_count,
            self.draft_count + other.draft_count,
            self.draft_bytes + other.draft_bytes,
        )

    def counts_only(self) -> TreeStatistics:
        """Return the counts since the start alone: what remains when the tree is closed."""
        return TreeStatistics(self.store.counts_only())

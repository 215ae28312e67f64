"""How programs go through the objects of one group: in which order, how far, and for what.

Pure; keeps the table of links that a listing gave, and makes no copy of it. Not thread-safe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from enum import Enum

import numpy as np
import numpy.typing as npt

from h5fs.model.link_table import OBJECT_KINDS, ROW, LinkTable
from h5fs.model.objects import ObjectKind, ObjectRef
from h5fs.store.library_interface import Look

FIRST_LOOKS = 8
MOST_LOOKS = 256

# A program may pass over so many objects (by a pattern of names, or since a listing told all).
_GAP = 16

_UNREADABLE = OBJECT_KINDS.index(ObjectKind.UNREADABLE)
_DATASET = OBJECT_KINDS.index(ObjectKind.DATASET)


class Asked(Enum):
    """What is asked about an object: what its attribute file holds, how its array looks, its
    elements, or how they are stored."""

    ATTRIBUTES = "attributes"
    DATASET = "dataset"
    DATA = "data"
    STORAGE = "storage"


class Walk:
    """One group that was listed, and how its objects are asked for.

    Programs go by name (``ls``, ``rsync``) or by inode number, which is the object's id (``cp``).
    ``asked``: what is being asked for; ``stop``: up to where, in that order, workers were asked.
    """

    def __init__(self, table: LinkTable) -> None:
        self._group = table.group
        self._names = table.names
        self._stops = np.frombuffer(table.name_stops, "<u8")
        self._rows = np.frombuffer(table.rows, ROW)
        self._by_id: npt.NDArray[np.int64] | None = None
        self._rank_by_id: npt.NDArray[np.int64] | None = None
        self._goes_by_id = False
        self._last = -1  # the place of the object that was asked for last
        self._run = 0  # how many objects in a row were asked for in order
        self.asked: set[Asked] = set()
        self.stop = 0
        self.look_count = FIRST_LOOKS

    @property
    def size_bytes(self) -> int:
        """How much memory the table takes."""
        return len(self._names) + self._rows.nbytes + self._stops.nbytes

    @property
    def object_count(self) -> int:
        """How many objects the group has."""
        return len(self._rows)

    @property
    def is_new(self) -> bool:
        """Whether nobody has asked for anything in it."""
        return self._last < 0

    @property
    def is_at_end(self) -> bool:
        """Whether everything was asked for, or will be at hand."""
        return self.stop >= len(self._rows) or self._run >= len(self._rows) - 1

    def note(self, ref: ObjectRef, asked: Asked) -> bool:
        """Take in a question about an object; return whether more of the kind are to be expected.

        False, too, for an object that is not in the group.
        """
        place = self._place_of(ref)
        if place is None:
            return False
        if place != self._last and not self._goes_on(place):
            self._run = 0
            self.asked = set()
            self.look_count = FIRST_LOOKS
        if asked not in self.asked:
            self.asked.add(asked)
            self.stop = self._rank(place)
        self._last = place
        return self._run > 0

    def needs_more(self) -> bool:
        """Whether what was asked of workers will soon be used up."""
        count = len(self._rows)
        return self.stop < count and self._rank(self._last) + self.look_count // 2 >= self.stop

    def end(self) -> None:
        """Ask for no more, unless programs begin to ask for something else."""
        self.stop = len(self._rows)

    def next_looks(self) -> Iterator[tuple[int, Look]]:
        """Yield what will be asked for next, each with its rank, from the first not yet asked."""
        start = max(self.stop, self._rank(self._last))
        for rank in range(start, len(self._rows)):
            look = self._look(int(self._order()[rank]) if self._goes_by_id else rank)
            if look is not None:
                yield rank, look

    def _look(self, place: int) -> Look | None:
        row = self._rows[place]
        kind = row["kind"]
        is_dataset = kind == _DATASET
        wants = (
            bool(Asked.ATTRIBUTES in self.asked and row["attribute_count"] and kind != _UNREADABLE),
            bool(Asked.DATASET in self.asked and is_dataset and row["dataset"] < 0),
            bool(
                Asked.DATA in self.asked and is_dataset and row["file_offset"] < 0
                and not row["holds_sequences"]
            ),
            bool(Asked.STORAGE in self.asked and is_dataset),
        )  # fmt: skip
        if not any(wants):
            return None
        path = self._group.path.rstrip(b"/") + b"/" + self._name(place)
        return Look(ObjectRef(self._group.file, int(row["object_id"]), path), *wants)

    def _goes_on(self, place: int) -> bool:
        """Whether a place comes after the last one, in the order of names or of ids."""
        if self._last < 0:
            return False
        if not 0 < self._rank(place) - self._rank(self._last) <= _GAP:
            self._goes_by_id = not self._goes_by_id
            if not 0 < self._rank(place) - self._rank(self._last) <= _GAP:
                self._goes_by_id = False
                return False
            self.stop = self._rank(place)
        self._run += 1
        return True

    def _rank(self, place: int) -> int:
        if not self._goes_by_id:
            return place
        self._order()
        assert self._rank_by_id is not None
        return int(self._rank_by_id[place])

    def _order(self) -> npt.NDArray[np.int64]:
        if self._by_id is None:
            self._by_id = np.argsort(self._rows["object_id"], kind="stable")
            self._rank_by_id = np.empty_like(self._by_id)
            self._rank_by_id[self._by_id] = np.arange(len(self._by_id))
        return self._by_id

    def _place_of(self, ref: ObjectRef) -> int | None:
        name = ref.path.rpartition(b"/")[2]
        for place in (self._last, self._last + 1):  # as a rule it is one of these
            if 0 <= place < len(self._rows) and self._name(place) == name:
                break
        else:
            place = bisect_left(range(len(self._rows)), name, key=self._name)
            if place == len(self._rows) or self._name(place) != name:
                return None
        return place if int(self._rows["object_id"][place]) == ref.id else None

    def _name(self, place: int) -> bytes:
        start = int(self._stops[place - 1]) if place else 0
        return self._names[start : int(self._stops[place])]

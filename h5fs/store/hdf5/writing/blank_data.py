"""Which datasets have data that nobody has written yet, and which blank pages of the file they are.

Under the store's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from h5fs.model.objects import Region
from h5fs.store.library_interface import ChangedObjects, first_changed_bytes
from h5fs.store.log.logged_file import LoggedFile


class BlankData:
    """The blank pages of each dataset, until its data are changed otherwise than by a map."""

    def __init__(self, file: LoggedFile) -> None:
        self._file = file
        self._pages: dict[int, list[tuple[int, int]]] = {}  # by object id: first, after the last

    def note(self, object_id: int, region: Region) -> None:
        """Take note of what was left blank of a dataset that gets its name now."""
        page_bytes = self._file.page_bytes
        for start, stop in region.blanks:
            first = -(-(region.file_offset + start) // page_bytes)
            after = (region.file_offset + stop) // page_bytes
            if first < after:
                self._file.blank.note(first, after)
                self._pages.setdefault(object_id, []).append((first, after))

    def note_change(self, changed: ChangedObjects) -> None:
        """Take note that data are others now, or gone; None: any."""
        if self._file.fills_blanks or not self._pages:
            return
        ids = self._pages if changed is None else first_changed_bytes(changed)
        for object_id in [each for each in self._pages if each in ids]:
            for first, after in self._pages.pop(object_id):
                self._file.blank.end(first, after)

    @contextmanager
    def filling(self, is_mapped: bool) -> Iterator[None]:
        """Let what the block writes from a map to blank pages go to the file itself."""
        self._file.fills_blanks = is_mapped
        try:
            yield
        finally:
            self._file.fills_blanks = False

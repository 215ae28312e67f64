"""Statuses of the HDF5 files that are shown, so that nobody asks for them again.

Safe to use from any thread.
"""

from __future__ import annotations

from h5fs.model.file_status import FileStatus
from h5fs.store.interface import Store


class FileStatuses:
    """Statuses by file number (``ObjectRef.file``); the store bounds how many there are."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[int, FileStatus] = {}
        self._present: set[int] = set()

    def present(self, number: int) -> FileStatus:
        """Return a status that was asked for since ``forget``. Raises ``H5fsError``s."""
        if number not in self._present:
            self._latest[number] = self._store.file_status(number)
            self._present.add(number)
        return self._latest[number]

    def latest(self, number: int) -> FileStatus:
        """Return the status that was asked for last, however long ago.

        It says whose the file is, and with which permissions, also while nobody answers.
        """
        latest = self._latest.get(number)
        return self.present(number) if latest is None else latest

    def forget(self) -> None:
        """Ask anew for what is to be present: others may have changed the files."""
        self._present.clear()

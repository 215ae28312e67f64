"""The store of a process that reads beside the one that writes: the file as of a commit.

It opens the file anew for each commit that a request needs and it does not have, which takes
milliseconds: the library cannot take over what another process has changed.
"""

from __future__ import annotations

from typing import Any

from h5fs.errors import UnreadableError
from h5fs.model.objects import ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.store.hdf5.logged_main import SnapshotMain
from h5fs.store.hdf5.plugins import register_plugins
from h5fs.store.hdf5.store import Hdf5Store
from h5fs.store.hdf5.writing.hidden_group import as_named_now


class SnapshotStore(Hdf5Store):
    """A store that is at a commit; the first request says at which.

    ``is_broken``: it must not be used any more.
    """

    def __init__(self, options: StoreOptions, main: SnapshotMain, **others: Any) -> None:
        super().__init__(options, driven=main, **others)
        self._committed = main

    def open(self) -> None:
        """Get ready; ``catch_up`` opens the file."""
        register_plugins()

    def catch_up(self, number: int, stop: int) -> None:
        """Be at the commit of a log that ends at byte ``stop``. ``number``: of the log.

        Raises ``UnreadableError``.
        """
        with self._lock:
            if self._committed.has(number, stop):
                return
            try:
                self._files.close_mounted()
                self._committed.follow(number, stop)
                self._files.open_mounted()
            except OSError as error:
                self.is_broken = True
                raise UnreadableError(f"the file as of the last commit: {error}") from None
            except Exception:
                self.is_broken = True
                raise

    def _open_identifier(self, ref: ObjectRef) -> Any:
        return super()._open_identifier(
            as_named_now(self._files.file_id(0), ref, self._on_progress)
        )

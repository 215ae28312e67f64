"""The workers that read beside the one that writes: each request sees the last commit.

Lives in the daemon. No checkpoint is made while one of these workers has a request.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from h5fs.model.settings import Mode, StoreOptions
from h5fs.store.log.reading.committed_state import Commit, CommittedState
from h5fs.store.workers.grants import Grants
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.quarantine import Quarantine, Subject
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.store.workers.worker_file import WorkerFile


class ReaderPool(WorkerPool):
    """Workers that catch up with the last commit at each request. Safe to use from any thread.

    ``writer``: the pool of the worker that writes, which numbers the files that links lead to.
    """

    def __init__(
        self,
        options: StoreOptions,
        count: int,
        quarantine: Quarantine,
        starter: WorkerStarter,
        grants: Grants,
        *,
        state: CommittedState,
        writer: WorkerPool,
    ) -> None:
        beside = structs.replace(options, mode=Mode.READ, is_beside_writer=True)
        super().__init__(beside, count, quarantine, starter, grants)
        self._state = state
        self._writer = writer

    def lend(self, file: WorkerFile) -> None:
        """Let workers have the file and its log, to read; they open it with the first request."""
        self._file = file

    def call(self, method: str, *arguments: Any, subject: Subject, **how: Any) -> Any:
        """Return a worker's answer, as ``WorkerPool.call`` does."""
        if subject.ref.file:
            self._on_file(subject.ref.file, self._writer.numbered_file(subject.ref.file))
        with self._state.gate:
            return super().call(method, *arguments, subject=subject, **how)

    def _commit_for(self, _subject: Subject) -> Commit:
        return self._state.last_commit()

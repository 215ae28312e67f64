"""The process that starts workers is killed, or the daemon, whose workers then end quietly."""

from __future__ import annotations

import select
import subprocess
from pathlib import Path
from typing import Any

import h5py
import pytest
from support.waiting import PATIENCE_SECONDS, wait_until

from h5fs.model.settings import StoreOptions
from h5fs.store import open_store
from h5fs.store.workers.starting.worker_starter import WorkerStarter


class KilledStarter(WorkerStarter):
    """One whose first processes are killed as they start."""

    kills = 3

    def _run_process(self, *arguments: Any) -> subprocess.Popen[bytes]:
        process = super()._run_process(*arguments)
        assert isinstance(process, subprocess.Popen)
        if self.kills:
            self.kills -= 1
            process.kill()
        return process


@pytest.fixture
def file(tmp_path: Path) -> Path:
    h5py.File(tmp_path / "f.h5", "w").create_dataset("x", data=1).file.close()
    return tmp_path / "f.h5"


def test_a_worker_is_started_though_one_starter_after_another_is_killed(file: Path) -> None:
    starter = KilledStarter()
    store = open_store(StoreOptions(file, workers=1), starter)
    try:
        assert store.list_links(store.root().ref).names == b"x"
        assert starter.kills == 0
    finally:
        store.close()
        starter.close()


def test_a_worker_whose_daemon_is_gone_with_its_answer_unread_says_nothing(file: Path) -> None:
    said = file.with_name("stderr")
    with open(said, "wb") as stderr:
        starter = WorkerStarter(stderr.fileno())
        store: Any = open_store(StoreOptions(file, workers=1), starter)
        try:
            (slot,) = store._pool._slots
            connection = slot.connection
            connection._socket.send(b"no request")
            assert select.select([connection._socket], [], [], PATIENCE_SECONDS)[0]
            connection._socket.close()
            wait_until(lambda: not connection.is_alive())
        finally:
            store.close()
            starter.close()
    assert said.read_text() == ""

"""What tests of stores and sources share: an object server, and hangs on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.object_server import ObjectServer

from h5fs.store.workers import packet_reader


@pytest.fixture(scope="session")
def _process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with ObjectServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def server(_process: ObjectServer) -> ObjectServer:
    _process.reset()
    return _process


@pytest.fixture
def hangs_at_any_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that only waits computes nothing; one in a loop, a little even if others do much."""
    monkeypatch.setattr(packet_reader, "_WORKING_SHARE", 0.005)

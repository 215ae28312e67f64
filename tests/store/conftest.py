"""An object server over a folder of its own, for all tests of stores and sources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.object_server import ObjectServer


@pytest.fixture(scope="session")
def _process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with ObjectServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def server(_process: ObjectServer) -> ObjectServer:
    _process.reset()
    return _process

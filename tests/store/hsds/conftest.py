"""One service for all tests of this room, on Unix sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.hsds_service import Service, running_service, why_missing


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A data service with two data nodes."""
    if why_missing():
        pytest.skip(why_missing())
    with running_service(tmp_path_factory.mktemp("hsds") / "c") as running:
        yield running

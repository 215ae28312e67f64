"""Settings and fixtures of all tests: hypothesis profiles, the corpus, the rules of mount tests."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.mount_points import mounts_below

IN_CI = os.environ.get("CI") == "true"
TESTS = Path(__file__).parent
CORPUS = TESTS.parent.parent / "shared" / "corpus"

# Under nohup(1), and in some CI, SIGHUP is ignored, which mounts in the tests would inherit.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No deadline and no complaint about slow examples: the machine may be busy with other work.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if IN_CI else "default")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of other people's HDF5 files; without it the test is skipped."""
    if not (CORPUS / "MANIFEST.json").is_file():
        pytest.skip(f"the corpus is not there: {CORPUS}")
    return CORPUS


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let every temporary file of this session be in one folder, so that what stays is found."""
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path_factory.mktemp("session"))
    yield
    tempfile.tempdir = before


@pytest.fixture(autouse=True)
def _rules_of_mount_tests(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No /dev/fuse: a failure in CI, else a skip. A mount that a test leaves is a failure."""
    if not request.path.is_relative_to(TESTS / "mounts"):
        yield
        return
    if not os.path.exists("/dev/fuse"):
        if IN_CI:
            pytest.fail("/dev/fuse is missing: mount tests cannot run")
        pytest.skip("/dev/fuse is missing: nothing can be mounted")
    folder = tmp_path_factory.getbasetemp().resolve()
    before = mounts_below(folder)
    yield
    left = mounts_below(folder) - before
    for mountpoint in left:
        subprocess.run(["umount", "-l", mountpoint], check=False)
    assert not left, f"left mounted: {left}"

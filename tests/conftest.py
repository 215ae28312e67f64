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

# What computes longest begins first, so that all processes of `scripts/test` end at about the same
# time. Of the rest, most of which mount something, those in mounts go before the others.
LONGEST_FIRST = (
    "mounts/test_corpus_sample.py", "mounts/test_fuzz_sample.py", "mounts/test_readme.py",
    "mounts/test_roundtrip_sample.py", "mounts/test_durability.py", "mounts/test_worker_kills.py",
    "mounts/test_exclusion.py", "mounts/test_wheel.py", "mounts/test_hostile.py",
    "mounts/test_life.py", "mounts/test_command.py", "mounts/test_writing_open_files.py",
    "mounts/test_writing_model.py", "mounts/test_commands.py", "mounts/test_replaced_files.py",
    "store/hsds/test_restarted_nodes.py", "store/hsds/test_hsds_conformance.py",
    "store/remote/test_remote_corpus.py", "store/hdf5/test_attributes.py",
)  # fmt: skip

# Under nohup(1), in the background of a script, and in some CI these are ignored, which programs
# that tests start, and send them to, would inherit.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; within a file all stays as it is."""
    ranks = {TESTS / name: number for number, name in enumerate(LONGEST_FIRST)}
    gone = [str(path) for path in ranks if not path.is_file()]
    assert not gone, f"conftest.LONGEST_FIRST names what is not there: {gone}"

    def rank(item: pytest.Item) -> int:
        others = len(ranks) + (not item.path.is_relative_to(TESTS / "mounts"))
        return ranks.get(item.path, others)

    items.sort(key=rank)


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

"""``h5fs status`` of a daemon that ends while it is asked: no error of whoever asks."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from h5fs.cli.commands import status
from h5fs.daemon.registry import Daemon

DAEMON = Daemon(4711, 0, "/mnt", "f.h5", 0, Path("/run/4711.json"))
ALL = argparse.Namespace(mountpoint=None, json=False, color="never")


@pytest.mark.semantics("C20", "C21")
@pytest.mark.parametrize("failure", [ConnectionResetError, BrokenPipeError, TimeoutError])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_daemon_that_ends_while_it_is_asked_is_no_mount_any_more(
    failure: type[OSError], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], *, is_gone: bool,
) -> None:  # fmt: skip
    registered = [[DAEMON], [] if is_gone else [DAEMON]]

    def fail(*_arguments: object) -> bytes:
        raise failure

    monkeypatch.setattr(status, "ask", fail)
    monkeypatch.setattr(status, "recent_reports", list)
    monkeypatch.setattr(status, "find_daemons", lambda: registered.pop(0))
    is_error = not is_gone and failure is not ConnectionResetError
    assert status.run(ALL) == int(is_error)
    printed = capsys.readouterr()
    assert ("no h5fs mounts" in printed.out) == is_gone
    assert ("pid 4711" in printed.err) == is_error

"""Folders for the records of a test's daemons, in place of the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from h5fs.daemon import runtime_folders


def isolate(patch: pytest.MonkeyPatch, runtime: Path) -> Path:
    """Let this process look for daemons below ``runtime`` alone; return where it leaves its own.

    ``runtime`` is as a login's folder is; in ``runtime/shared`` is what else is in /tmp.
    """
    (runtime / "shared").mkdir()
    patch.setenv("XDG_RUNTIME_DIR", str(runtime))
    patch.setattr(runtime_folders, "_SHARED", runtime / "shared")
    patch.setattr(runtime_folders, "_USERS", runtime / "users")
    return runtime / "h5fs"

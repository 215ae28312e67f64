"""Rows of scripts/bench that change files: what they time must leave what h5py leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.mounts import needs_libfuse_3

PROGRAM = Path(__file__).parent.parent.parent / "scripts" / "bench.py"


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, *words],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip


def test_every_row_has_a_name_of_its_own() -> None:
    lines = bench("--list").stdout.splitlines()
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert len(names) == len(set(names)) > 60


@needs_libfuse_3
def test_rows_of_changes_leave_the_same_file_as_h5py(tmp_path: Path) -> None:
    rows = ["31-save", "31-attributes", "32-rm", "33-one", "34", "36-small"]
    results = tmp_path / "all.json"
    numbers = ["--changes", "40", "--small", "50", "--runs", "1"]
    said = bench(*rows, *numbers, "--json", str(results))
    found = json.loads(results.read_text())["rows"]
    problems = {row["row"]: row["problem"] for row in found if row["problem"]}
    assert not problems, said.stderr
    assert len(found) == 2 * len(rows) - 1  # all but one beside something else, too
    assert all(row["measured"] and row["compared"] for row in found)

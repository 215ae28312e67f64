"""A short run of scripts/fuzz.py: other people's files, damaged at random, mounted and read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.bulk_fuzzing import check_in_bulk, start_starter, stop_starter
from support.fuzzing import (
    Limits,
    check_mutant,
)
from support.mutants import (
    find_sources,
    lookup3,
    make_mutant,
)
from support.waiting import PATIENCE_SECONDS

PROGRAM = Path(__file__).parent.parent.parent / "scripts" / "fuzz.py"
MUTANTS = 30


@pytest.mark.semantics("E3", "E4")
@pytest.mark.timeout(600)
def test_mounts_of_damaged_files_answer_to_the_end(corpus: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, PROGRAM, corpus, "--count", str(MUTANTS), "--seed", "1000",
         "--slack", "60", "--json", report],
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(report.read_text())
    assert counts["mutants"] == MUTANTS
    assert counts["failures"] == {}
    assert counts["outcomes"]["mounted"] > MUTANTS / 4


def test_a_mutant_is_the_same_whenever_it_is_made(corpus: Path) -> None:
    sources = find_sources(corpus)
    for seed in range(5):
        one, other = make_mutant(seed, sources), make_mutant(seed, sources)
        assert (one.source, one.changes, one.digest) == (other.source, other.changes, other.digest)
        assert one.content != one.source.read_bytes()


def test_checksums_are_those_of_the_file_format() -> None:
    assert lookup3(b"") == 0xDEADBEEF  # lookup3.c, driver5
    assert lookup3(b"Four score and seven years ago") == 0x17770551


def test_a_mount_that_hangs_would_be_found(tmp_path: Path) -> None:
    """The judge is no rubber stamp: a mount that answers later than it may is a failure."""
    import h5py
    from support.hostile import HEAP_LOOPS, write_looping_heap
    from support.mutants import (
        Mutant,
    )

    file = tmp_path / "f.h5"
    write_looping_heap(file, HEAP_LOOPS[0])
    assert h5py.is_hdf5(file)
    mutant = Mutant(1, file, (), file.read_bytes())
    verdict = check_mutant(mutant, Limits(deadline_seconds=2, slack_seconds=-1.5))
    assert any("slow" in failure for failure in verdict.failures), verdict
    assert verdict.trouble == {"hang": 1}


@pytest.mark.semantics("W2", "E3")
def test_mutants_without_mounts_cost_errnos_and_nothing_else(corpus: Path) -> None:
    sources = find_sources(corpus)
    start_starter()
    try:
        for seed in range(60):
            limits = Limits(slack_seconds=PATIENCE_SECONDS)
            verdict = check_in_bulk(make_mutant(seed, sources), limits)
            assert not verdict.failures, f"seed {seed}: {verdict.failures}"
    finally:
        stop_starter()

"""Four mounts write to one domain, and nodes are killed (for long: scripts/stress_cluster.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cluster_writing import running_cluster
from support.hsds_service import why_missing
from support.mounts import needs_libfuse_3


@needs_libfuse_3
@pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "it is there")
@pytest.mark.semantics("G10", "G11", "G12", "G13", "G14", "G16", "G18", "G19")
def test_of_what_four_mounts_write_at_once_nothing_is_lost_that_was_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where mounts leave what is left over
    with running_cluster(tmp_path, 5) as cluster:
        cluster.run_round()
        assert cluster.counts["rounds"] == 1

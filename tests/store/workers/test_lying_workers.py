"""Workers that were taken over, a few hundred answers of each kind.

``scripts/fuzz.py --worker`` has 10,000.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lying_workers import MODES, meet_liars

ANSWERS = 300


@pytest.mark.semantics("W2")
@pytest.mark.parametrize("mode", MODES)
def test_no_answer_takes_the_daemon_down_or_holds_it_up(mode: str, tmp_path: Path) -> None:
    asking = meet_liars(mode, ANSWERS, 1, tmp_path)
    assert asking.failures == []
    assert asking.answers >= ANSWERS
    assert asking.outcomes["answered"]

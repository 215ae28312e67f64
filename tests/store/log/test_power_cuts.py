"""Short runs of ``scripts/powercut.py``: cuts, kills, faults, and mutants that must be noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from change_cuts import CHANGE_MUTANTS, run_changes_campaign
from fault_injection import inject_faults
from file_model import find_loss
from power_cuts import MUTANTS, run_campaign

LARGEST = 200_000


def say_nothing(_text: str) -> None:
    """Hear of progress, and do nothing."""


@pytest.mark.semantics("U1", "U2", "U3", "U4")
def test_no_power_cut_and_no_kill_loses_a_commit() -> None:
    tally = run_campaign(400, 7, LARGEST, say_nothing)
    assert not tally.losses
    assert tally.counts["power cuts"] > 200 and tally.counts["kills"] > 50


@pytest.mark.semantics("U1", "R21")
def test_no_system_call_that_fails_loses_a_commit() -> None:
    tally = inject_faults(7, say_nothing, step=9)
    assert not tally.losses
    assert sum(tally.counts.values()) > 50


# Those that show soon; ``scripts/powercut.py --mutants`` has all.
SHOW_SOON = (
    "no fsync of the log after a durable commit frame",
    "no fsync of the main file in a checkpoint",
    "a checksum that always matches",
    "soft commits count whatever the boot",
    "a checkpoint of what is not durable",
)


@pytest.mark.parametrize("name", SHOW_SOON)
def test_a_log_without_one_of_its_rules_is_noticed(name: str) -> None:
    with MUTANTS[name]() as skipped:
        tally = run_campaign(200, 0, LARGEST, say_nothing, skipped, stops_early=True)
        assert tally.losses or find_loss(100, 0, skipped)


@pytest.mark.semantics("U1", "U2", "U3", "U16")
def test_no_power_cut_and_no_kill_loses_an_answered_change_or_tears_several_apart() -> None:
    tally = run_changes_campaign(300, 7, Path(__file__))
    assert not tally.losses
    assert tally.counts["power cuts"] > 80 and tally.counts["kills"] > 80
    assert tally.counts["changes"] > 2 * tally.counts["requests of changes"] > 50
    assert tally.counts["requests that failed half way"] and tally.counts["durable commits"]


@pytest.mark.parametrize("name", CHANGE_MUTANTS)
def test_changes_together_without_one_of_their_rules_are_noticed(name: str) -> None:
    with CHANGE_MUTANTS[name]():
        assert run_changes_campaign(400, 0, Path(__file__), stops_early=True).losses

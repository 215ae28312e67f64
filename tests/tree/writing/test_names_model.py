"""Random operations on arrays of several names (``scripts/fuzz_writing.py --names``)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from support.names_playing import play, random_operations

SEEDS, STEPS = (103, 109, 127), 60  # each has found something
MUST_HAPPEN = {
    ("link", "success"), ("rename", "success"), ("unlink", "success"), ("write", "success"),
    ("close", "success"), ("flush", "success"),

}  # fmt: skip


@pytest.mark.semantics("R4", "R17", "R20")
def test_arrays_of_several_names_are_as_files_of_several_names() -> None:
    counts: dict[Any, int] = {}
    for seed in SEEDS:
        message, done = play(random_operations(Random(seed), STEPS), counts)
        assert not message, f"{message}\nafter {done}"
    assert set(counts) >= MUST_HAPPEN

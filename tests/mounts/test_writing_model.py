"""Random operations on a mount that writes and on a plain folder (``scripts/fuzz_writing.py``)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.write_machine import Session, WriteMachine, minimize

EXAMPLES, STEPS = 20, 30


@pytest.mark.semantics("R14")
def test_a_mount_answers_as_a_plain_folder_does() -> None:
    session = Session()

    class Machine(WriteMachine):
        pass

    Machine.session = session
    chosen = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        report_multiple_bugs=False,
    )  # fmt: skip
    try:
        run_state_machine_as_test(Machine, settings=chosen)
        session.finish()
    except Exception:
        if not session.failed:
            raise
        pytest.fail(minimize(session, session.failed))
    finally:
        session.abandon()

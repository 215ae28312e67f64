"""A logged file against an array of bytes, whatever is done to it and wherever it is cut off."""

from __future__ import annotations

from file_model import END, PAGE, Session, Step, fill, find_loss, play, small_limits
from hypothesis import given, settings
from hypothesis import strategies as st

offsets = st.one_of(st.integers(0, END), st.integers(0, 40).map(lambda page: page * PAGE))
sizes = st.one_of(st.integers(1, 2 * PAGE), st.integers(1, 16).map(lambda pages: pages * PAGE))
steps = st.one_of(
    st.tuples(st.just("write"), offsets, sizes, st.integers(0, 3)),
    st.tuples(st.just("write"), offsets, sizes, st.integers(0, 3)),
    st.tuples(st.just("rewrite"), offsets, sizes, st.integers(0, END), st.integers(0, 3)),
    st.tuples(st.just("append"), sizes, st.integers(0, 3)),
    st.tuples(st.just("direct"), offsets, sizes, st.integers(1, 3)),
    st.tuples(st.just("truncate"), offsets),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("kill"), st.integers(0, 6)),
    st.tuples(st.just("power cut"), st.integers(0, 12), st.integers(0, 1000)),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3 * PAGE), st.lists(steps, max_size=30))
def test_a_file_is_what_was_written_and_after_a_cut_what_was_committed(
    first_bytes: int, history: list[Step]
) -> None:
    with small_limits():
        session = Session(fill(first_bytes, 9))
        for step in history:
            play(session, step)


def test_long_sessions_lose_nothing() -> None:
    assert find_loss(500, 0) is None

"""Hypothesis strategies for numpy dtypes: scalars of every kind, compounds with padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

SUBARRAY_SHAPES = [(2,), (1,), (2, 3)]
FIELD_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
SCALARS = st.one_of(
    npst.scalar_dtypes(),
    npst.complex_number_dtypes(endianness="?"),
    npst.byte_string_dtypes(min_len=1, max_len=9),
    npst.unicode_string_dtypes(endianness="?", min_len=1, max_len=9),
    st.integers(1, 12).map(lambda size: np.dtype(f"V{size}")),
)


@st.composite
def compounds(draw: st.DrawFn, members: st.SearchStrategy[np.dtype[Any]]) -> np.dtype[Any]:
    """Structured dtypes with padding before, between and after their fields."""
    names = draw(st.lists(FIELD_NAMES, min_size=1, max_size=4, unique=True))
    formats, offsets, place = [], [], 0
    for _ in names:
        member = draw(members)
        if draw(st.booleans()):
            member = np.dtype((member, draw(st.sampled_from(SUBARRAY_SHAPES))))
        place += draw(st.integers(0, 3))
        formats.append(member)
        offsets.append(place)
        place += member.itemsize
    return np.dtype(
        {
            "names": names,
            "formats": formats,
            "offsets": offsets,
            "itemsize": place + draw(st.integers(0, 3)),
        }
    )

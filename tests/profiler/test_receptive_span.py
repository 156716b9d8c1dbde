"""First and last inputs in arrays: short ways of working them out against the long ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profiler.receptive.span import NOTHING, Span


@st.composite
def spans(draw):
    """Any spans, positions that see nothing among them."""
    ends = draw(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 9), st.integers(0, 9))), min_size=1, max_size=8))
    pairs = [(NOTHING, -NOTHING) if e is None else (min(e), max(e)) for e in ends]
    return Span(np.array([first for first, _ in pairs]), np.array([last for _, last in pairs]))


@given(spans(), st.data())
def test_looking_at_the_first_positions_is_looking_through_their_mask(span, data):
    size = len(span.first)
    counts = np.array(data.draw(st.lists(st.integers(0, size), min_size=1, max_size=8)))
    mask = np.arange(size) < counts[:, None]
    assert span.looked(counts) == span.looked(mask)


@given(spans(), st.data())
def test_looking_through_a_mask_is_a_union_of_what_it_shows(span, data):
    size = len(span.first)
    mask = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=size, max_size=size), min_size=1, max_size=5)))
    seen = span.looked(mask)
    for row, first, last in zip(mask, seen.first, seen.last, strict=True):
        assert first == span.first[row].min(initial=NOTHING)
        assert last == span.last[row].max(initial=-NOTHING)

"""Cut names: as wide as allowed, and still different."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from profiler.report.names import shorten

BLOCKS = [
    f"{part}.{a}.attentions.{b}.transformer_blocks.0.attn{c}.{what}"
    for part in ("down_blocks", "up_blocks")
    for a in range(3)
    for b in range(2)
    for c in (1, 2)
    for what in ("to_q", "to_k", "to_out.0")
]
LLAMA = [f"model.layers.{n}.self_attn.{what}_proj" for n in range(126) for what in "qkvo"]


@pytest.mark.parametrize("names", [BLOCKS, LLAMA], ids=["diffusion", "llama"])
@pytest.mark.parametrize("width", [24, 30, 40, 50])
def test_names_of_real_networks_stay_different(names, width):
    shown = shorten(names, width)
    assert len(set(shown.values())) == len(names)
    assert all(cell_len(text) <= width for text in shown.values())


def test_the_ways_to_cut():
    assert shorten(["model.layers.10.mlp.up_proj"], 20) == {"model.layers.10.mlp.up_proj": "...rs.10.mlp.up_proj"}
    same_ends = ["encoder.layer1.0.some_long_projection", "decoder.layer1.0.some_long_projection"]
    assert list(shorten(same_ends, 27).values()) == ["e.l1.0.some_long_projection", "d.l1.0.some_long_projection"]
    both = ["first_of_a_kind_of_module_x", "second_of_a_kind_of_module_x"]
    assert len(set(shorten(both, 16).values())) == 2


def test_call_numbers_and_branches_are_kept():
    shown = shorten(["a.very.long.path.to.a.module #2", "│ └ a_very_long_module_name_indeed"], 16)
    first, second = shown.values()
    assert first.endswith(" #2")
    assert second.startswith("│ └ ")


ANY = st.text(st.sampled_from("ab.1_日é "), min_size=1, max_size=40)


@given(st.lists(ANY, max_size=12), st.integers(4, 30))
def test_nothing_is_wider_than_allowed_and_what_fits_is_left_alone(names, width):
    shown = shorten(names, width)
    assert shown.keys() == set(names)
    for name, text in shown.items():
        assert cell_len(text) <= width
        assert text == name or cell_len(name) > width

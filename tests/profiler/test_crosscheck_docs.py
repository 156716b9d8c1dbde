"""Every reason that a cross-check can give is listed, with its source, in docs/crosscheck.md."""

import re
from pathlib import Path

import pytest

from profiler.crosscheck import fvcore, fvcore_rules, prediction, torch_counter, torch_rules

PAGE = (Path(__file__).parents[2] / "docs" / "crosscheck.md").read_text()
FVCORE, TORCH = PAGE.split("\n## torch.utils.flop_counter")


def reasons(rules, peer):
    shared = (prediction.NO_RULE, prediction.UNCOUNTED, prediction.INTEGERS)
    return {rule.reason for rule in rules if rule.reason} | {r.format(peer=peer, op="{op}") for r in shared}


FVCORE_REASONS = reasons([*fvcore_rules.RULES.values(), fvcore_rules.PADDED_BY_WORD], fvcore.PEER)
TORCH_REASONS = reasons(torch_rules.RULES.values(), torch_counter.COUNTER)


@pytest.mark.parametrize(
    ("page", "given"),
    [
        (FVCORE, FVCORE_REASONS | {fvcore.UNUSED, fvcore.CUSTOM}),
        (TORCH, TORCH_REASONS | {torch_counter.CONVENTION}),
    ],
    ids=["fvcore", "torch"],
)
def test_the_page_lists_the_very_reasons_that_are_given(page, given):
    listed = {row.split(" | ")[0] for row in re.findall(r"^\| (.+) \|$", page, re.MULTILINE)}
    assert given <= listed
    assert {row for row in listed if row.startswith(("fvcore", "torch"))} <= given

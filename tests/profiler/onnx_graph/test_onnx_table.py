"""The table of ONNX operators: complete, without overlap, each entry with its section in the documentation."""

import re
from pathlib import Path

import onnx
import pytest

from profiler.onnx_ops import CONTROL, EXPANDED, FAMILIES, OPERATORS, UNCOUNTED

FORMULAS = Path(__file__).parents[3] / "docs" / "formulas.md"
STANDARD = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})


@pytest.mark.parametrize("name", STANDARD)
def test_every_standard_operator_is_counted_free_or_uncounted_on_purpose(name):
    places = [name in OPERATORS, name in EXPANDED, name in CONTROL, name in UNCOUNTED]
    assert places.count(True) == 1


def test_reasons_are_sentences():
    assert all(len(reason.split()) >= 4 for reason in UNCOUNTED.values())


def test_the_table_names_no_operator_that_does_not_exist():
    # ONNX Runtime writes SimplifiedLayerNormalization in the standard domain.
    own = {name for name in OPERATORS if "." not in name} - {"SimplifiedLayerNormalization"}
    assert own <= set(STANDARD)
    assert EXPANDED | CONTROL | UNCOUNTED.keys() <= set(STANDARD)


def test_the_standard_defines_what_is_counted_by_its_definition():
    for name in EXPANDED:
        schema = onnx.defs.get_schema(name)
        assert schema.has_function or schema.has_context_dependent_function


def test_every_formula_has_its_section():
    sections = set(re.findall(r"^## (.+)$", FORMULAS.read_text(), re.MULTILINE))
    assert {op.formula for op in OPERATORS.values()} <= sections


def test_families_do_not_overlap():
    assert sum(len(f.TABLE) for f in FAMILIES) == len(OPERATORS)

"""The JSON report keeps to its schema, and the schema ships and is documented."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from torch import nn

import profiler.report
from profiler import analyze, commands
from profiler.crosscheck import PEERS
from profiler.profile import Backward
from profiler.report import Options, as_json, schema
from profiler.report.columns import BASE, COLUMNS, DROPPED
from profiler.report.select import SORTS
from profiler.report.units import UNITS

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "profile.md"


class Everything(nn.Module):
    """Local and unknown fields, free rows, uncounted operators, calls that repeat."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.conv = nn.Conv2d(4, 4, 3, stride=2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x, ids):
        x = self.up(self.conv(self.conv(x)))
        return torch.special.bessel_j0(x).mean((2, 3)) + self.embed(ids).mean(1)


@pytest.fixture(scope="module")
def found():
    return analyze(Everything().eval(), (1, 4, 16, 16), torch.zeros((1, 3), dtype=torch.int64))


def errors(profile, **options):
    report = json.loads(as_json(profile, Options(**options)))
    return [f"{e.json_path}: {e.message}" for e in Draft202012Validator(schema()).iter_errors(report)]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(schema())


def test_reports_keep_to_it(found):
    assert errors(found) == []
    back = Backward(3, 6, 100, found.layers[:2], {"aten.odd": 1}, {})
    assert errors(replace(found, backward=back, notes=("a note",))) == []


def test_reports_with_checks_keep_to_it():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    assert errors(analyze(network, (1, 3, 8, 8)), peers=("fvcore",)) == []
    with torch.device("meta"):
        skipped = nn.Conv2d(3, 4, 3)
    assert errors(analyze(skipped, (1, 3, 8, 8)), peers=("fvcore",)) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("totals"),
        lambda d: d["totals"].pop("macs"),
        lambda d: d["layers"][0].update(macs=-1),
        lambda d: d["layers"][0].update(status="guessed"),
        lambda d: d["layers"][0].update(unheard=1),
        lambda d: d["layers"][0]["receptive_field"].update(stride=["a half"]),
        lambda d: d.update(schema="netgauge.profile/2"),
    ],
)
def test_the_schema_can_fail(found, spoil):
    report = json.loads(as_json(found, Options()))
    spoil(report)
    assert list(Draft202012Validator(schema()).iter_errors(report))


def keys(part):
    """Every name that the schema gives to a value."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "properties":
                yield from value
            yield from keys(value)
    elif isinstance(part, list):
        for value in part:
            yield from keys(value)


def test_every_key_is_documented():
    documented = set(re.findall(r"`(\w+)`", GUIDE.read_text()))
    assert set(keys(schema())) <= documented, set(keys(schema())) - documented


def test_every_option_and_every_column_is_documented():
    text = GUIDE.read_text()
    options = [name for option in commands.profile.params for name in option.opts if name.startswith("--")]
    assert [name for name in options if f"`{name}" not in text and name not in ("--help", "--debug")] == []
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE) == list(COLUMNS)
    order = text.partition("columns go in this order:")[2].partition(". MACs")[0]
    assert re.findall(r"`(\w+)`", order) == [name for name in DROPPED if not name.startswith("backward")]
    for name, column in COLUMNS.items():
        assert f"| `{name}` | {column.header} |" in text


def test_the_command_names_what_there_is():
    assert tuple(commands.FORMATS) == tuple(profiler.report.FORMATS)
    assert tuple(commands.SORTS) == tuple(SORTS)
    assert tuple(commands.UNITS) == tuple(UNITS)
    assert tuple(commands.ROWS) == tuple(BASE)
    assert set(PEERS) <= set(commands.PEERS)


def test_every_object_is_closed_and_described():
    def objects(part):
        if isinstance(part, dict):
            if "properties" in part:
                yield part
            for value in part.values():
                yield from objects(value)

    for each in objects(schema()):
        assert each["additionalProperties"] is False
        assert each["description"]


def test_it_is_in_the_wheel():
    """Everything in the packages ships, unless git ignores it."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    home = Path(profiler.report.__file__).parent
    assert home.relative_to(ROOT).parts[0] in wheel["packages"]
    assert "exclude" not in wheel
    for name in ("profile.schema.json", "page.css"):
        assert (home / name).is_file()
        assert not any((home / name).match(line) for line in (ROOT / ".gitignore").read_text().split())

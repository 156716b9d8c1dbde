"""The views of a profile: what stands where, that sums are sums, and that lines fit."""

import csv
import io
import re
from fractions import Fraction
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from torch import nn

from profiler import analyze
from profiler.errors import UsageError
from profiler.profile import Backward, Layer, ModuleSum, Phases, Profile, ReceptiveField, Totals
from profiler.report import FORMATS, Options, as_csv, html, markdown, table, tree, units
from profiler.report.columns import BASE, COLUMNS, CSV, DROPPED, EXTRA, check_columns
from profiler.report.options import WITHOUT, check_form
from profiler.report.select import SORTS, select, select_tree


def layer(name, kind, op, macs, flops, params, **other):
    fields = {
        "call": 0,
        "input_shapes": ((1, 4, 8, 8),),
        "output_shapes": ((1, 4, 8, 8),),
        "param_bytes": 4 * params,
        "output_bytes": 1024,
        "read_bytes": 1024 + 4 * params,
        "write_bytes": 1024,
        "formula": "Convolution",
        "status": "counted",
        "receptive_field": seen(3),
    }
    return Layer(name, kind, op, macs=macs, flops=flops, params=params, **{**fields, **other})


def seen(size, status="exact", local=None):
    half = (size - 1) // 2
    return ReceptiveField((size, size), (Fraction(1), Fraction(1)), (-half, -half), status, local)


LAYERS = (
    layer("stem", "Conv2d", "convolution", 27_648, 55_552, 112, input_shapes=((1, 3, 8, 8),)),
    layer("block.conv", "Conv2d", "convolution", 36_864, 73_984, 148, receptive_field=seen(5)),
    layer("block", "Block", "add", 0, 256, 0, input_shapes=((1, 4, 8, 8),) * 2, receptive_field=seen(5)),
    layer("block.conv", "Conv2d", "convolution", 36_864, 73_984, 0, call=1, receptive_field=seen(7)),
    layer("odd", "Odd", "bessel_j0", 0, 0, 0, status="uncounted", formula="", receptive_field=seen(8, "unknown")),
    layer("fc", "Linear", "fully connected", 40, 84, 44, output_shapes=((1, 4),),
          receptive_field=seen(8, "whole-input", seen(7))),
)  # fmt: skip
BACK = (
    layer("fc", "Linear", "fully connected backward", 80, 160, 0),
    layer("block.conv", "Conv2d", "convolution backward", 73_728, 147_456, 0),
)


def leaf(name, kind, macs, flops, params):
    return ModuleSum(name, kind, macs, flops, params, 4 * params, ())


def profile(layers=LAYERS, *, backward=False, **other):
    tree = ModuleSum("", "Net", 101_416, 203_860, 304, 1216, (
        leaf("stem", "Conv2d", 27_648, 55_552, 112),
        ModuleSum("block", "Block", 73_728, 148_224, 148, 592, (leaf("block.conv", "Conv2d", 73_728, 147_968, 148),)),
        leaf("odd", "Odd", 0, 0, 0),
        leaf("fc", "Linear", 40, 84, 44),
    ))  # fmt: skip
    names = ("macs", "flops", "params", "params", "param_bytes", "output_bytes", "write_bytes", "read_bytes",
             "write_bytes")  # fmt: skip
    totals = Totals(*(sum(getattr(x, n) for x in layers) for n in names))
    back = Backward(73_808, 147_616, 9_000, BACK, {}, {}) if backward else None
    unknown = {"aten.special_bessel_j0": 1}
    return Profile(totals, layers, tree, unknown, {"aten.view": 1}, ((1, 3, 8, 8),), back, **other)


TABLE = """\
name           type        output size  receptive field       MACs        FLOPs  params   share
-------------  ----------  -----------  ---------------  ---------  -----------  ------  ------
stem           Conv2d      1x4x8x8      3x3               27.648 k     55.552 k     112   27.3%
block.conv     Conv2d      1x4x8x8      5x5               36.864 k     73.984 k     148   36.3%
block          Block: add  1x4x8x8      5x5                                 256
block.conv #2  Conv2d      1x4x8x8      7x7               36.864 k     73.984 k           36.3%
odd            Odd         1x4x8x8      ?                           not counted
fc             Linear      1x4          all (7x7)               40           84      44   <0.1%
total                                                    101.416 k   >203.860 k     304  100.0%

at least 101,416 MACs, 203,860 FLOPs, 304 parameters (304 trainable, 1.19 KiB)
activations: 6.00 KiB computed, 6.00 KiB alive at most
memory traffic: 7.19 KiB read, 6.00 KiB written, 15.10 FLOPs per byte
NOT COUNTED, no formula known: aten.special_bessel_j0 (1 call)

backward: 73,808 MACs, 147,616 FLOPs
training step, forward and backward: 175,224 MACs, 351,476 FLOPs
training step: 8.79 KiB of activations and gradients alive at most

name        operation                 output size      MACs      FLOPs   share
----------  ------------------------  -----------  --------  ---------  ------
fc          fully connected backward  1x4x8x8            80        160    0.1%
block.conv  convolution backward      1x4x8x8      73.728 k  147.456 k   99.9%
total                                              73.808 k  147.616 k  100.0%"""

TREE = """\
name      type    output size  receptive field       MACs        FLOPs  params   share  back. MACs  back. FLOPs
--------  ------  -----------  ---------------  ---------  -----------  ------  ------  ----------  -----------
.         Net     1x4          all (7x7)        101.416 k   >203.860 k     304  100.0%    73.808 k    147.616 k
├ stem    Conv2d  1x4x8x8      3x3               27.648 k     55.552 k     112   27.3%
├ block   Block   1x4x8x8      7x7               73.728 k    148.224 k     148   72.7%    73.728 k    147.456 k
│ └ conv  Conv2d  1x4x8x8      7x7               73.728 k    147.968 k     148   72.7%    73.728 k    147.456 k
├ odd     Odd     1x4x8x8      ?                           not counted
└ fc      Linear  1x4          all (7x7)               40           84      44   <0.1%          80          160
"""

NARROW = """\
name           type       field       MACs        FLOPs
-------------  ---------  -----  ---------  -----------
"""

OPERATORS = """\
operation        calls  MACs [k]    FLOPs [k]  params [k]   share
---------------  -----  --------  -----------  ----------  ------
convolution          3   101.376      203.520       0.260  100.0%
fully connected      1     0.040        0.084       0.044   <0.1%
add                  1                  0.256
bessel_j0            1            not counted
total                6   101.416     >203.860       0.304  100.0%
sorted by MACs, largest first
"""


def test_the_table():
    assert table(profile(backward=True), Options()) == TABLE


def test_the_tree():
    assert tree(profile(backward=True), Options()).startswith(TREE)


def test_the_operators():
    assert table(profile(), Options(by="operator", units="k", sort="macs")).startswith(OPERATORS)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


class Twice(nn.Module):
    """A module that runs twice, functional work, tied parameters, an operator without a formula."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.head.weight

    def forward(self, x):
        x = self.inner(self.inner(x)) + x
        return self.tied(self.head(torch.special.bessel_j0(x.mean((2, 3)))))


NETWORKS = {
    "twice": lambda: analyze(Twice().eval(), (1, 4, 8, 8)),
    "encoder": lambda: analyze(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), (2, 5, 8)),
    "by hand": profile,
}
SUMMED = ("macs", "flops", "params", "read_bytes", "write_bytes")


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("by", ["layer", "operator"])
def test_columns_add_up_to_the_totals(make, by):
    found = make()
    rows = rows_of(as_csv(found, Options(by=by)))
    for name in SUMMED:
        assert sum(int(row[name]) for row in rows) == getattr(found.totals, name), name


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_every_module_is_the_sum_of_what_is_in_it(make):
    found = make()
    rows = rows_of(as_csv(found, Options(by="module")))
    assert [row["name"] for row in rows] == [module.name for module in found.modules.walk()]
    assert {name: int(rows[0][name]) for name in SUMMED} == {name: getattr(found.totals, name) for name in SUMMED}
    for row in rows:
        path = row["name"]
        inside = [x for x in found.layers if not path or x.name == path or x.name.startswith(f"{path}.")]
        assert int(row["macs"]) == sum(x.macs for x in inside)
        assert int(row["read_bytes"]) == sum(x.read_bytes for x in inside)
        assert int(row["calls"]) == len(inside) or not inside


def test_a_modules_field_and_size_are_those_of_its_last_row():
    rows = {row["name"]: row for row in rows_of(as_csv(profile(), Options(by="module")))}
    assert rows["block"]["rf_size"] == "7x7"
    assert rows[""]["output_shapes"] == "1x4"


@pytest.mark.parametrize("width", [34, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("view", [table, tree])
@pytest.mark.parametrize("by", ["layer", "module", "operator"])
def test_no_line_is_wider_than_the_terminal(view, by, width):
    text = view(profile(backward=True), Options(by=by, width=width))
    assert max(map(cell_len, text.splitlines())) <= width
    for word in ("MACs", "FLOPs"):
        assert word in text.splitlines()[0]


LETTERS = st.text(st.sampled_from("abc_01日"), min_size=1, max_size=12)
PATHS = st.lists(st.lists(LETTERS, min_size=1, max_size=6).map(".".join), min_size=1, max_size=8)


@given(PATHS, st.integers(40, 220))
def test_lines_fit_whatever_the_names(paths, width):
    layers = tuple(LAYERS[0]._replace(name=path, op=path) for path in paths)
    for by in ("layer", "operator"):
        text = table(profile(layers), Options(by=by, width=width))
        assert max(map(cell_len, text.splitlines())) <= width


def headings(width, by="layer"):
    line = table(profile(), Options(by=by, width=width)).splitlines()[0]
    return [n for n, c in COLUMNS.items() if {c.header, c.short or c.header} & set(re.split(r"\s{2,}", line.strip()))]


@pytest.mark.parametrize("by", BASE)
def test_columns_come_and_go_with_the_width_in_the_stated_order(by):
    assert headings(None, by) == list(BASE[by])
    assert set(headings(300, by)) == {*BASE[by], *chain(*EXTRA[by])}
    seen = set()
    for width in range(34, 300):
        found = headings(width, by)
        dropped = [name for name in DROPPED if name in BASE[by][1:] and name not in found]
        assert dropped == [name for name in DROPPED if name in BASE[by][1:]][: len(dropped)]
        assert {"macs", "flops", BASE[by][0]} <= set(found)
        assert ("read_bytes" in found) == ("write_bytes" in found)
        seen.add(tuple(found))
    assert len(seen) > len(BASE[by]) - 3


def test_columns_that_were_asked_for_stay():
    names = ("name", "macs", "params", "intensity", "formula", "read_bytes", "write_bytes")
    first = table(profile(), Options(columns=names, width=40)).splitlines()[0]
    assert first.split("  ")[0] == "name"
    assert re.split(r"\s{2,}", first) == [COLUMNS[n].header for n in names]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("block*",), ["block.conv", "block", "block.conv"]),
        (("Conv2d",), ["stem", "block.conv", "block.conv"]),
        (("fully*", "odd"), ["odd", "fc"]),
        (("*.conv",), ["block.conv", "block.conv"]),
    ],
)
def test_filters_leave_the_totals_alone(patterns, names):
    chosen = select(profile(), Options(filters=patterns))
    assert [row.name for row in chosen.rows] == names
    assert chosen.sums[-1].macs == profile().totals.macs
    assert chosen.sums[0].macs == sum(row.macs for row in chosen.rows)
    assert f"{6 - len(names)} of 6 rows are hidden" in chosen.notes[-1]
    assert f"{6 - len(names)} of 6 rows are hidden" in table(profile(), Options(filters=patterns))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("conv", "did you mean '*conv*'"), ("Conv2D", "did you mean 'Conv2d'"), ("zzz", "Conv2d, Block, Odd")],
)
@pytest.mark.parametrize("view", [table, tree, markdown, html, as_csv])
def test_a_filter_that_matches_nothing_says_so(view, pattern, words):
    with pytest.raises(UsageError, match="matches no path") as error:
        view(profile(), Options(filters=(pattern,)))
    assert words in str(error.value)


def test_one_filter_of_several_that_matches_nothing_is_named():
    assert "--filter zzz matches nothing" in table(profile(), Options(filters=("fc", "zzz")))


def test_the_tree_keeps_what_a_match_lies_in():
    lines = tree(profile(), Options(filters=("*conv",))).splitlines()
    assert [line[: line.index(" ", 5)].rstrip() for line in lines[2:5]] == [".", "└ block", "  └ conv"]
    assert "3 of 6 rows are hidden" in lines[5]


@pytest.mark.parametrize("name", SORTS)
def test_sorting(name):
    rows = select(profile(), Options(sort=name)).rows
    if name == "order":
        assert [r.name for r in rows] == [x.name for x in LAYERS]
    elif name == "name":
        assert [r.name for r in rows] == sorted(x.name for x in LAYERS)
    else:
        values = [getattr(r, name) for r in rows]
        assert values == sorted(values, reverse=True)
    assert name == "order" or f"sorted by {SORTS[name].words}" in table(profile(), Options(sort=name))


def test_numbers_in_names_sort_as_numbers():
    layers = tuple(LAYERS[0]._replace(name=f"layer{n}.a") for n in (10, 2, 1))
    assert [r.name for r in select(profile(layers), Options(sort="name")).rows] == ["layer1.a", "layer2.a", "layer10.a"]


def test_sorting_equal_rows_says_that_nothing_was_sorted():
    still = tuple(x._replace(macs=0) for x in LAYERS)
    assert "all rows are equal in that" in table(profile(still), Options(sort="macs"))


def test_top_takes_the_first_after_sorting():
    chosen = select(profile(), Options(sort="flops", top=2))
    assert [r.name for r in chosen.rows] == ["block.conv", "block.conv"]
    assert "4 of 6 rows are hidden" in chosen.notes[-1]


@pytest.mark.parametrize("depth", [0, 1, 2, None])
def test_depth_cuts_the_tree(depth):
    root, chosen = select_tree(profile(), Options(depth=depth))
    assert len(chosen.rows) == {0: 1, 1: 5, 2: 6, None: 6}[depth]
    assert root.macs == profile().totals.macs


def test_siblings_of_the_tree_are_sorted_within_their_module():
    names = [row.name for row in select_tree(profile(), Options(sort="macs"))[1].rows]
    assert names == ["", "block", "block.conv", "stem", "fc", "odd"]


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "auto", "0"),
        (999, "auto", "999"),
        (1000, "auto", "1.000 k"),
        (999_999_999, "auto", "1.000 G"),
        (4_089_284_608, "auto", "4.089 G"),
        (1_660_000_000_000_000, "auto", "1.660 P"),
        (1_234_567, "raw", "1,234,567"),
        (1_234_567, "M", "1.235"),
        (1_234_567, "G", "0.001"),
        (1_234, "G", "<0.001"),
        (0, "G", "0.000"),
    ],
)
def test_counts(number, unit, text):
    assert units.count(number, unit) == text


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [(0, "auto", "0 B"), (1023, "auto", "1023 B"), (1024, "auto", "1.00 KiB"), (2**20 - 1, "auto", "1.00 MiB"),
     (3 << 40, "auto", "3.00 TiB"), (5 << 20, "M", "5.000"), (5 << 20, "raw", "5,242,880")],
)  # fmt: skip
def test_bytes(number, unit, text):
    assert units.size_of(number, unit) == text


@given(st.integers(0, 10**17), st.sampled_from(units.UNITS))
def test_a_number_is_shown_as_zero_only_if_it_is(number, unit):
    for show in (units.count, units.size_of):
        text = show(number, unit)
        assert (float(re.sub(r"[^0-9.]", "", text)) == 0) == (number == 0)


UNEVEN = Phases(2, ((7, -3), (9, -4)), 7, 9)
SINGLE = Phases(None, ((1, 0), (2, 0), (0, None)), 0, 2)
EVEN = Phases(2, ((9, 0), (9, 1)), 9, 9)


@pytest.mark.parametrize(
    ("phases", "text", "listed"),
    [
        ((), "9x9", ""),
        ((None, None), "9x9", ""),
        ((UNEVEN, UNEVEN), "7..9x7..9 /2", "/2: 7@-3 9@-4 | /2: 7@-3 9@-4"),
        ((EVEN, None), "9x9 /2x1", "/2: 9@0 9@1 | -"),
        ((SINGLE, None), "0..2x9", "/-: 1@0 2@0 nothing | -"),
        ((Phases(None, (), 1, 9), None), "1..9x9", "/-: 1..9 | -"),
    ],
)
def test_phases_are_shown_as_a_range_and_listed(phases, text, listed):
    found = seen(9)._replace(phases=phases)
    assert units.field(found) == text
    assert units.phases(found) == listed


def test_fields_of_several_inputs_are_numbered():
    second = seen(5)._replace(input=1)
    assert units.field(seen(3)._replace(others=(second,))) == "3x3 + #2: 5x5"
    assert units.field(second) == "#2: 5x5"


HOSTILE = '<script src="http://x">|`*_\x1b[31m'


def hostile():
    return profile(tuple(x._replace(name=f"{HOSTILE}.{n}", type=HOSTILE, op=HOSTILE) for n, x in enumerate(LAYERS)))


@pytest.mark.parametrize("style", FORMATS)
def test_names_from_files_are_harmless(style):
    text = FORMATS[style](hostile(), Options(title=HOSTILE))
    assert "\x1b" not in text
    if style == "html":
        assert "<script" not in text
    if style == "markdown":
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
        assert bars == {9}
        assert "<script" not in text.replace(r"\<script", "")


def test_a_spreadsheet_finds_no_formula():
    layers = tuple(x._replace(name=f"{sign}cmd()") for sign, x in zip("=@+-", LAYERS, strict=False))
    assert all(row["name"].startswith("'") for row in rows_of(as_csv(profile(layers), Options())))


def test_csv_says_which_pass_a_row_is_of():
    rows = rows_of(as_csv(profile(backward=True), Options()))
    assert [row["pass"] for row in rows] == ["forward"] * len(LAYERS) + ["backward"] * len(BACK)
    assert "pass" not in rows_of(as_csv(profile(), Options()))[0]


@pytest.mark.parametrize("by", BASE)
def test_every_column_is_of_the_rows_that_name_it(by):
    assert all(by in COLUMNS[name].rows for name in (*BASE[by], *CSV[by]))
    every = tuple(name for name, column in COLUMNS.items() if by in column.rows)
    for view in (table, as_csv, markdown, html):
        assert view(profile(), Options(by=by, columns=every))


def test_wrong_columns_list_the_right_ones():
    assert check_columns("name, macs,name", "layer") == ("name", "macs")
    with pytest.raises(UsageError, match=r"no column 'mac' \(did you mean macs\?\).*read_bytes"):
        check_columns("name,mac", "layer")
    with pytest.raises(UsageError, match="rows by operator; there are op, calls, macs"):
        check_columns("output_shapes", "operator")
    with pytest.raises(UsageError, match="no name"):
        check_columns(" , ", "layer")


@pytest.mark.parametrize("style", WITHOUT)
def test_options_without_effect_are_refused(style):
    for name in WITHOUT[style]:
        with pytest.raises(UsageError, match=f"{name}: not with --format {style}"):
            check_form(style, {name})


def test_colour_marks_what_must_not_be_missed():
    plain, coloured = (table(profile(), Options(color=on)) for on in (False, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    marked = [line for line in coloured.splitlines() if line.startswith("\x1b")]
    assert any("\x1b[31m" in line and "NOT COUNTED" in line for line in marked)
    assert any("\x1b[33m" in line and "odd" in line for line in marked)

"""torch.export programs: read from their JSON, equal to the live network, and nothing in a hostile one runs.

The reference for every figure is the network itself, analyzed in this process; for what the program computes it is
torch's own interpreter of it, on the same inputs.
"""

import copy
import importlib
import json
import pickle
import re
import time
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn import functional as F

from profiler import analyze, open_model
from profiler.commands import profile as command
from profiler.errors import ModelError, NetgaugeError, RefusedError, UsageError
from profiler.sources.limits import Limits

pytestmark = pytest.mark.filterwarnings("default")  # torch's exporter warns of itself

REFERENCE = ("cnn", "lstm", "mobile", "resnet", "unet", "vit")
TOTALS = ("macs", "flops", "params", "trainable_params", "param_bytes", "activation_bytes", "read_bytes", "write_bytes")


def export(path, model, args=(), kwargs=None, dynamic=None, **options):
    program = torch.export.export(model, args, kwargs or {}, dynamic_shapes=dynamic, **options)
    torch.export.save(program, path)
    return program


def analyzed(opened, dims=None):
    example = opened.inputs(dims or {})
    return analyze(opened.module, *example.args, **example.kwargs)


def rows(profile):
    fields = ("name", "type", "op", "call", "input_shapes", "output_shapes", "macs", "flops", "params", "param_bytes")
    fields += ("read_bytes", "write_bytes", "formula", "status", "receptive_field")
    return [tuple(getattr(layer, name) for name in fields) for layer in profile.layers]


def assert_same(found, live):
    assert rows(found) == rows(live)
    assert {n: getattr(found.totals, n) for n in TOTALS} == {n: getattr(live.totals, n) for n in TOTALS}
    assert (found.uncounted, found.inputs) == (live.uncounted, live.inputs)


def reference(name):
    return getattr(importlib.import_module(f"models.digits_{name}"), f"digits_{name}")().eval()


# What equals the live network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCE)
def test_a_reference_network_is_profiled_as_the_live_one(name, tmp_path):
    model, x = reference(name), torch.randn(1, 1, 32, 32)
    program = export(tmp_path / "m.pt2", model, (x,))
    opened = open_model(tmp_path / "m.pt2")
    found, live = analyzed(opened), analyze(model, x)
    assert_same(found, live)
    named = {path: type(module).__name__ for path, module in model.named_modules()}
    assert {m.name: m.type for m in tree(found.modules)} == {
        m.name: named[m.name] if m.name in called(program) else "Module" for m in tree(live.modules)
    }
    with torch.no_grad():
        assert torch.equal(opened.module(x), program.module()(x))


def tree(module):
    yield module
    for child in module.children:
        yield from tree(child)


def called(program):
    return {path for node in program.graph.nodes for path, _ in node.meta.get("nn_module_stack", {}).values()}


@pytest.mark.parametrize(
    "name", [n if n in ("cnn", "resnet") else pytest.param(n, marks=pytest.mark.slow) for n in REFERENCE]
)
def test_a_free_batch_is_set_by_dim(name, tmp_path):
    model = reference(name)
    export(tmp_path / "m.pt2", model, (torch.randn(2, 1, 32, 32),), dynamic=({0: torch.export.Dim("batch", max=64)},))
    opened = open_model(tmp_path / "m.pt2")
    ((symbol, at_export),) = opened.dims.items()
    assert (symbol, at_export) == ("batch", 2)
    for batch in (2, 5):
        assert_same(analyzed(opened, {symbol: batch}), analyze(model, (batch, 1, 32, 32)))
    assert f"--dim {symbol}=2 sets axis 0 of" in opened.inputs({}).note
    with pytest.raises(UsageError, match=f"{symbol} = 65; the program was exported for 0 to 64"):
        opened.inputs({symbol: 65})


class Everything(nn.Module):
    """What a graph may hold: lifted constants, mutated buffers, tied and shared modules, regions, nests, None."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.1)
        self.emb = nn.Embedding(10, 4)
        self.out = nn.Linear(4, 10, bias=False)
        self.out.weight = self.emb.weight
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.unused = nn.Linear(3, 3)
        self.register_buffer("mask", torch.tensor([True, False, True, True]), persistent=False)
        self.register_buffer("count", torch.zeros(1))
        self.fixed = nn.Parameter(torch.ones(4, dtype=torch.float64), requires_grad=False)

    def forward(self, x, nest, nothing=None, scale=2.0, *, key):
        self.count += 1
        x = self.drop(self.relu(self.conv(self.relu(self.conv(x)))))
        y = self.emb(nest["ids"][0]) + torch.tensor([1.0, 2.0, 3.0, 4.0])
        for block in self.blocks:
            y = block(y)
        with torch.no_grad():
            z = self.out(y) * scale
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = z + self.out(y)
        return {"x": x.view(x.shape[0], -1), "rest": [z, y[:, self.mask] + self.fixed.float()[0], key * 2]}


def everything():
    ids = {"ids": [torch.zeros(3, 4, dtype=torch.int64)]}
    return Everything().eval(), (torch.randn(2, 4, 8, 8), ids, None, 3.0), {"key": torch.ones(3)}


def test_regions_constants_ties_and_nests(tmp_path):
    model, args, kwargs = everything()
    program = export(tmp_path / "m.pt2", model, args, kwargs)
    opened = open_model(tmp_path / "m.pt2")
    found, live = analyzed(opened), analyze(model, *args, **kwargs)
    assert {n: getattr(found.totals, n) for n in TOTALS if n != "activation_bytes"} == {
        n: getattr(live.totals, n) for n in TOTALS if n != "activation_bytes"
    }
    constants = 4  # a lifted constant is an input of the operators that take it, and in the network it is none
    assert [r[:constants] + r[5:] for r in rows(found)] == [r[:constants] + r[5:] for r in rows(live)]
    assert {layer.call for layer in found.layers if layer.name == "conv"} == {0, 1}
    with torch.no_grad():
        given = opened.module(args[0], args[1]["ids"][0], None, 3.0, kwargs["key"])
        expected = program.module()(*args, **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(given, [expected["x"], *expected["rest"]], strict=True))


class Sized(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, times):
        return self.linear(x).reshape(x.shape[0] // 2, -1).repeat(times, 1), x.shape[0] + times


def test_sizes_are_computed_as_torch_does(tmp_path):
    dim = torch.export.Dim
    sizes = ({0: 2 * dim("half", min=1, max=50)}, dim.DYNAMIC)
    program = export(tmp_path / "m.pt2", Sized(), (torch.randn(6, 8), 3), dynamic=sizes)
    opened = open_model(tmp_path / "m.pt2")
    half, times = opened.dims
    assert list(opened.dims.values()) == [3, 3]
    example = opened.inputs({half: 7, times: 5})
    assert [tuple(example.args[0].shape), example.args[1]] == [(14, 8), 5]
    x = torch.randn(14, 8)
    with torch.no_grad():
        given, expected = opened.module(x, 5), program.module()(x, 5)
    assert torch.equal(given[0], expected[0])
    assert given[1] == expected[1] == 19
    assert_same(analyzed(opened, {half: 7, times: 5}), analyze(Sized(), (14, 8), 5))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_both_modes_and_both_tracers(train, strict, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.Flatten(), nn.Linear(288, 4))
    x = torch.randn(2, 3, 8, 8)
    export(tmp_path / "m.pt2", model.train(train), (x,), strict=strict)
    opened = open_model(tmp_path / "m.pt2")
    assert_same(analyzed(opened), analyze(model, x))
    assert any("training mode" in note for note in opened.notes) is train


def test_a_decomposed_program_has_the_same_products(tmp_path):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval()
    x = torch.randn(2, 5, 16)
    torch.export.save(torch.export.export(model, (x,)).run_decompositions(), tmp_path / "m.pt2")
    found, live = analyzed(open_model(tmp_path / "m.pt2")), analyze(model, x)
    assert found.totals.params == live.totals.params
    assert found.totals.macs == live.totals.macs
    assert set(found.uncounted) <= {"aten.native_layer_norm"}


def test_a_program_without_values_has_its_sizes(tmp_path):
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        model, x = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8)).eval(), torch.randn(2, 4)
    export(tmp_path / "m.pt2", model, (x,))
    found = analyzed(open_model(tmp_path / "m.pt2"))
    assert found.totals.params == 4 * 8 + 8 + 8 * 8 + 8
    check = found.crosscheck("fvcore")
    assert (check.status, check.unexplained) == ("skipped", 0)


def test_the_backward_pass_is_that_of_the_live_network(tmp_path):
    model, x = reference("cnn"), torch.randn(2, 1, 32, 32)
    export(tmp_path / "m.pt2", model, (x,))
    found = analyze(open_model(tmp_path / "m.pt2").module, x, backward=True).backward
    live = analyze(model, x, backward=True).backward
    assert (found.macs, found.flops, len(found.layers)) == (live.macs, live.flops, len(live.layers))


@pytest.mark.parametrize("peer", ["fvcore", "torch"])
def test_other_counters_run_on_the_program(peer, tmp_path):
    export(tmp_path / "m.pt2", reference("resnet"), (torch.randn(2, 1, 32, 32),))
    check = analyzed(open_model(tmp_path / "m.pt2")).crosscheck(peer)
    assert (check.status, check.unexplained) == ("reconciled", 0)


def test_integer_buffers_keep_their_values(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([True, False, True, True, False]))

        def forward(self, x):
            return x[self.mask] * 2

    export(tmp_path / "m.pt2", Masked(), (torch.randn(5, 3),))
    assert analyzed(open_model(tmp_path / "m.pt2")).layers[-1].output_shapes == ((3, 3),)


def test_integers_are_zeros_and_masks_let_everything_through(tmp_path):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)

        def forward(self, ids, attention_mask):
            return self.table(ids) * attention_mask[..., None]

    ids = torch.ones(2, 3, dtype=torch.int64)
    export(tmp_path / "m.pt2", Tokens(), (ids, ids))
    example = open_model(tmp_path / "m.pt2").inputs({})
    assert example.args[0].tolist() == [[0, 0, 0]] * 2
    assert example.args[1].tolist() == [[1, 1, 1]] * 2
    assert "ids 2x3:int64, attention_mask 2x3:int64" in example.note
    assert "integers 0, those of masks 1" in example.note


# Networks that nobody here wrote -----------------------------------------------------------------------------------

ZOO = ("torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:vit_b_16", "torchvision:swin_t")
ZOO += ("torchvision:convnext_tiny", "timm:mobilevit_s", "transformers:bert", "transformers:gpt2")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_a_published_network_is_profiled_as_the_live_one(name, tmp_path, monkeypatch):
    source, _, kind = name.partition(":")
    if find_spec(source) is None:
        pytest.skip(f"{source} is not installed")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks" / "zoo"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from zoos import load

    model, args, kwargs = BUILD[source](load(source), kind)
    export(tmp_path / "m.pt2", model.eval(), args, kwargs)
    found, live = analyzed(open_model(tmp_path / "m.pt2")), analyze(model, *args, **kwargs)
    assert found.uncounted == live.uncounted == {}
    for total in ("macs", "params", "trainable_params", "param_bytes"):
        assert getattr(found.totals, total) == getattr(live.totals, total)
    if source != "transformers":  # they apply a mask where they are exported that they leave out where it masks nothing
        assert rows(found) == rows(live)
    assert [r[:2] + r[5:7] for r in rows(found)] == [r[:2] + r[5:7] for r in rows(live)]


def small_transformer(package, kind):
    config, network, sizes = {
        "bert": ("BertConfig", "BertModel", {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}),
        "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False}),
    }[kind]
    model = getattr(package, network)(getattr(package, config)(vocab_size=100, **sizes))
    return model, (), {"input_ids": torch.zeros(2, 16, dtype=torch.int64)}


BUILD = {
    "torchvision": lambda package, kind: (getattr(package, kind)(), (torch.randn(1, 3, 224, 224),), {}),
    "timm": lambda package, kind: (package.create_model(kind), (torch.randn(1, 3, 256, 256),), {}),
    "transformers": small_transformer,
}


# What is given -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A program of one convolution and one linear layer, as a file."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.head = nn.Linear(72, 4)

        def forward(self, x):
            return self.head(F.relu(self.conv(x)).flatten(1))

    path = tmp_path_factory.mktemp("small") / "small.pt2"
    export(path, Small().eval(), (torch.randn(2, 1, 8, 8),), dynamic=({0: torch.export.Dim("batch")},))
    return path


def run(*args):
    return CliRunner().invoke(command, [str(a) for a in args])


def test_the_command_takes_sizes_by_name_and_by_position(small):
    for given in (["--input", "3x1x8x8"], ["--input", "x=3x1x8x8"]):
        result = run(small, *given, "--format", "json", "--check", "none")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["inputs"] == [[3, 1, 8, 8]]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (["--input", "2x1x9x8"], ModelError, "axis 2 of x was exported as 8, got 9"),
        (["--input", "2x1x8"], ModelError, "was exported as"),
        (["--input", "2x1x8x8:float16"], ModelError, "float32, got 2x1x8x8:float16"),
        (["--input", "y=2x1x8x8"], UsageError, "no input named 'y'"),
        (["--dim", "rows=3"], UsageError, "no size of that name; it has"),
        (["--train"], UsageError, "in the mode that it was exported in"),
    ],
)
def test_what_does_not_fit_is_said(small, given, error, says):
    result = run(small, *given, "--check", "none")
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


# Files that nobody vouches for -------------------------------------------------------------------------------------


class Canary:
    """A pickle that touches a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def rewritten(source, target, change, compression=zipfile.ZIP_STORED):
    """A copy of an archive with each member as `change(name, data)` gives it: its new data, or None to leave it out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return target


def with_json(source, target, change, member="models/"):
    """A copy of an archive whose JSON `change` has changed in place."""

    def edit(name, data):
        if member not in name or not name.endswith(".json"):
            return data
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return rewritten(source, target, edit)


def graph(value):
    return value["graph_module"]["graph"]


def test_no_pickle_is_opened(small, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    poison = pickle.dumps(Canary(canary))

    def poisoned(name, data):
        if "sample_inputs" in name or name.endswith("weight_0"):
            return poison
        if name.endswith("weights_config.json"):
            config = json.loads(data)
            config["config"]["conv.weight"]["use_pickle"] = True
            return json.dumps(config).encode()
        return data

    path = rewritten(small, tmp_path / "p.pt2", poisoned)
    opened_members = []
    original = zipfile.ZipFile.open
    monkeypatch.setattr(
        zipfile.ZipFile,
        "open",
        lambda self, name, *a, **k: opened_members.append(str(name)) or original(self, name, *a, **k),
    )
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    monkeypatch.setattr(torch.export, "load", lambda *_, **__: pytest.fail("torch.export.load was called"))
    result = run(path, "--check", "all", "--verify-rf")
    assert result.exit_code == 0, result.output
    assert "1 tensors are stored as pickles" in result.stderr
    assert "2 tensors" not in result.stderr
    assert not canary.exists()
    assert not [m for m in opened_members if "sample_inputs" in m or "weight_0" in m]
    live = analyzed(open_model(small)).totals
    assert analyzed(open_model(path)).totals.params == live.params


def test_the_older_flat_layout_is_read_without_its_pickles(small, tmp_path):
    canary = tmp_path / "canary"
    with zipfile.ZipFile(small) as old, zipfile.ZipFile(tmp_path / "old.pt2", "w") as new:
        new.writestr("serialized_exported_program.json", old.read("small/models/model.json"))
        for name in ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt"):
            new.writestr(name, pickle.dumps(Canary(canary)))
        new.writestr("version", "8.5")
    opened = open_model(tmp_path / "old.pt2")
    assert_same(analyzed(opened), analyzed(open_model(small)))
    assert any("stays closed" in note for note in opened.notes)
    assert not canary.exists()


def test_an_earlier_minor_version_is_read(small, tmp_path):
    def older(value):
        value["schema_version"]["minor"] = 1
        for name in ("sym_float_values", "custom_obj_values"):
            graph(value).pop(name)
        for step in graph(value)["nodes"]:
            step.pop("name")
            step.pop("is_hop_single_tensor_return")
            for given in step["inputs"]:
                given.pop("kind")
                given["arg"] = {"as_none": []} if "as_none" in given["arg"] else given["arg"]
        text = re.sub(r"Symbol\('(\w+)', positive=True, integer=True\)", r"\1", json.dumps(value["graph_module"]))
        assert "Symbol" not in text
        value["graph_module"] = json.loads(text)

    opened = open_model(with_json(small, tmp_path / "p.pt2", older))
    assert_same(analyzed(opened), analyzed(open_model(small)))
    assert opened.dims == open_model(small).dims


OPERATORS = [
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.save.default",
    "torch.ops.aten.format.default",
    "torch.ops.aten.__class__.default",
    "torch.ops.aten.relu.__class__",
    "torch.ops.aten.relu.nonesuch",
    "torch.ops.mylib.fancy.default",
    "torch.ops.load_library",
    "torch.hub.load",
    "torch._C._jit_set_profiling_mode",
    "_operator.methodcaller",
    "_operator.attrgetter",
    "math.dist",
    "os.system",
    "#extension:op",
    "",
]


@pytest.mark.parametrize("name", [*OPERATORS, "torch.ops.higher_order.while_loop", "torch.ops.higher_order.cond"])
def test_no_other_function_is_called(name, small, tmp_path):
    path = with_json(small, tmp_path / "p.pt2", lambda v: graph(v)["nodes"][0].update(target=name))
    with pytest.raises(RefusedError) as caught:
        open_model(path)
    assert {t.name for t in caught.value.known.tensors} == {"conv.weight", "conv.bias", "head.weight", "head.bias"}


def test_a_refused_program_lists_its_tensors(small, tmp_path):
    path = with_json(
        small, tmp_path / "p.pt2", lambda v: graph(v)["nodes"][0].update(target="torch.ops.mylib.fancy.default")
    )
    result = run(path)
    assert isinstance(result.exception, RefusedError)
    assert "conv.weight" in result.stdout


def test_a_size_is_no_python(small, tmp_path):
    canary = tmp_path / "canary"
    sizes = [
        f"__import__('pathlib').Path({str(canary)!r}).touch()",
        "9**9**9",
        "(" * 3000,
        "Pow(Integer(9), Integer(99))",
    ]
    sizes += ["lambda: 0", "s0.__class__", "[1, 2]", "Symbol(Symbol('a'))", "FloorDiv(Integer(1), Integer(0))"]
    for text in [*sizes, "Integer(-5)", "-" * 3000 + "1", "1.5", "x" * 5000]:
        size = {"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}
        path = with_json(
            small, tmp_path / "p.pt2", lambda v, s=size: graph(v)["tensor_values"]["x"]["sizes"].__setitem__(0, s)
        )
        with pytest.raises((ModelError, RefusedError)):
            analyzed(open_model(path))
    assert not canary.exists()


def node(target, arguments, output, **more):
    inputs = [{"name": name, "arg": arg, "kind": 1} for name, arg in arguments.items()]
    return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}], "metadata": {}, **more}


def tensor(name):
    return {"as_tensor": {"name": name}}


def relu(source, output):
    return node("torch.ops.aten.relu.default", {"self": tensor(source)}, output)


def prepended(*nodes):
    return lambda v: graph(v)["nodes"].__setitem__(slice(0, 0), nodes)


def set_size(size):
    return lambda v: graph(v)["tensor_values"]["x"]["sizes"].__setitem__(2, {"as_int": size})


def nested(depth):
    def change(value):
        inner = {"as_int": 1}
        for _ in range(depth):
            inner = {"as_string_to_argument": {"a": inner}}
        graph(value)["nodes"][0]["inputs"][0]["arg"] = inner

    return change


def nested_graphs(depth):
    def change(value):
        empty = {"inputs": [], "outputs": [], "nodes": [], "tensor_values": {}}
        inner = dict(empty)
        for _ in range(depth):
            argument = {"as_graph": {"name": "g", "graph": inner}}
            wrapped = node("torch.ops.higher_order.wrap", {"": argument}, "o")
            inner = {**empty, "nodes": [{**wrapped, "outputs": []}]}
        graph(value)["nodes"] += inner["nodes"]

    return change


def test_graphs_inside_graphs_have_a_limit(small, tmp_path):
    path = with_json(small, tmp_path / "p.pt2", nested_graphs(30))
    open_model(path)
    with pytest.raises(RefusedError, match="nesting"):
        open_model(path, limits=Limits(nesting=20))


HOSTILE = {
    "a value of its own": (prepended(relu("a", "a")), ModelError, "nothing before defines"),
    "a value of a later one": (prepended(relu("b", "a"), relu("a", "b")), ModelError, "nothing before defines"),
    "a value defined twice": (prepended(relu("x", "a"), relu("x", "a")), ModelError, "twice"),
    "an unknown output": (lambda v: graph(v)["outputs"].clear(), None, ""),
    "an argument that is none": (
        prepended(node("torch.ops.aten.relu.default", {"nonesuch": tensor("x")}, "a")), ModelError, "no argument",
    ),
    "a schema of tomorrow": (lambda v: v["schema_version"].update(major=9), ModelError, "schema 9"),
    "no schema": (lambda v: v.pop("schema_version"), ModelError, "schema None"),
    "a list": (lambda v: v.update(graph_module=[]), ModelError, "list is where an object belongs"),
    "arguments nested": (nested(300), (ModelError, RefusedError), "nest"),
    "a negative size": (set_size(-1), ModelError, "no size"),
    "a giant size": (set_size(1 << 61), RefusedError, "elements"),
    "a size beyond all": (set_size(1 << 70), ModelError, "no size"),
    "a module without a name": (
        lambda v: v["graph_module"]["module_call_graph"].append({"fqn": "a..b"}), ModelError, "module of the name",
    ),
    "modules inside modules": (
        lambda v: v["graph_module"]["module_call_graph"].append({"fqn": ".".join("a" * 400)}), RefusedError, "nesting",
    ),
    "a name beyond all": (lambda v: graph(v)["nodes"][0].update(target="a" * 5000), RefusedError, "one name"),
    "a name with a zero": (
        lambda v: graph(v)["nodes"][0]["metadata"].update(nn_module_stack="a,b\0,c"), ModelError, "string belongs",
    ),
    "a name that drives the terminal": (
        lambda v: graph(v)["nodes"][0]["metadata"].update(nn_module_stack="a,\x1b[31mb,c"), ModelError, "be shown",
    ),
    "a symbol that drives the terminal": (
        lambda v: graph(v)["tensor_values"]["x"]["sizes"].__setitem__(
            2, {"as_expr": {"expr_str": r"Symbol('\x1b[31m')", "hint": {"as_int": 8}}}
        ), ModelError, "the size",
    ),
    "an input that is no name": (
        lambda v: json_renamed(v, "x", "not a name"), ModelError, "no signature",
    ),
}  # fmt: skip


def json_renamed(value, old, new):
    text = json.dumps(value["graph_module"]).replace(f'"name": "{old}"', f'"name": "{new}"')
    value["graph_module"] = json.loads(text.replace(f'"{old}": {{"dtype"', f'"{new}": {{"dtype"'))


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_graph_ends_in_an_error(case, small, tmp_path):
    change, error, says = HOSTILE[case]
    path = with_json(small, tmp_path / "p.pt2", change)
    begun = time.monotonic()
    if error is None:
        analyzed(open_model(path))
    else:
        with pytest.raises(error, match=re.escape(says)):
            analyzed(open_model(path))
    assert time.monotonic() - begun < 5


def set_meta(**fields):
    return lambda v: v["config"]["conv.weight"]["tensor_meta"].update(fields)


STORED = {
    "negative": (set_meta(sizes=[{"as_int": -1}] * 4), ModelError),
    "giant": (set_meta(sizes=[{"as_int": 1 << 40}] * 4), RefusedError),
    "reaching beyond": (set_meta(sizes=[{"as_int": 3}, {"as_int": 1}, {"as_int": 3}, {"as_int": 3}]), ModelError),
    "striding beyond": (set_meta(strides=[{"as_int": 1 << 30}] * 4), ModelError),
    "offset": (set_meta(storage_offset={"as_int": 1 << 20}), ModelError),
    "open": (set_meta(sizes=[{"as_expr": {"expr_str": "s0", "hint": None}}] * 4), ModelError),
    "of fewer strides": (set_meta(strides=[]), ModelError),
    "of no type": (set_meta(dtype=77), ModelError),
    "missing": (lambda v: v["config"]["conv.weight"].update(path_name="weight_77"), ModelError),
    "outside": (lambda v: v["config"]["conv.weight"].update(path_name="../../../etc/passwd"), ModelError),
    "an integer to be trained": (set_meta(dtype=5, requires_grad=True), ModelError),
}


@pytest.mark.parametrize("case", STORED)
def test_a_hostile_weight_ends_in_an_error(case, small, tmp_path):
    change, error = STORED[case]
    with pytest.raises(error):
        analyzed(open_model(with_json(small, tmp_path / "p.pt2", change, member="weights_config")))


@pytest.mark.parametrize(("name", "most"), [("nodes", 3), ("members", 5), ("header_bytes", 100), ("tensors", 2)])
def test_limits_are_kept_and_can_be_raised(name, most, small):
    with pytest.raises(RefusedError, match=f"--limit {name}="):
        open_model(small, limits=Limits(**{name: most}))
    open_model(small, limits=Limits())


def test_many_nodes_are_read_in_time(small, tmp_path):
    chain = [relu(f"v{n}" if n else "x", f"v{n + 1}") for n in range(10_000)]
    path = with_json(small, tmp_path / "p.pt2", prepended(*chain))
    begun = time.monotonic()
    assert len(analyzed(open_model(path)).layers) == 10_000 + 3
    assert time.monotonic() - begun < 20


def whole(number):
    return {"as_int": number}


BOMBS = {
    "repeated numbers": [
        node("torch.ops.aten.arange.default", {"end": whole(1 << 20)}, "n0"),
        node("torch.ops.aten.repeat.default", {"self": tensor("n0"), "repeats": {"as_ints": [1 << 19]}}, "n1"),
        node("torch.ops.aten.neg.default", {"self": tensor("n1")}, "n2"),
    ],
    "products of integers": [
        node("torch.ops.aten.ones.default", {"size": {"as_ints": [4096, 4096]}, "dtype": {"as_scalar_type": 5}}, "n0"),
        *(
            node("torch.ops.aten.mm.default", {"self": tensor(f"n{n}"), "mat2": tensor("n0")}, f"n{n + 1}")
            for n in range(10)
        ),
    ],
    "numbers that say how many": [
        node("torch.ops.aten.full.default", {"size": {"as_ints": [4]}, "fill_value": whole(1 << 40)}, "n0"),
        node("torch.ops.aten.repeat_interleave.Tensor", {"repeats": tensor("n0")}, "n1"),
    ],
    "giant constants where values are computed": [
        node("torch.ops.aten.sum.default", {"self": tensor("x")}, "n0"),
        {
            **node("torch.ops.aten.item.default", {"self": tensor("n0")}, ""),
            "outputs": [{"as_sym_float": {"as_name": "n1"}}],
        },
        node("torch.ops.aten.zeros.default", {"size": {"as_ints": [1 << 36]}}, "n2"),
        *(
            node("torch.ops.aten.repeat.default", {"self": tensor(f"n{n}"), "repeats": {"as_ints": [60]}}, f"n{n + 1}")
            for n in range(2, 9)
        ),
    ],
    "giant constants": [
        node("torch.ops.aten.full.default", {"size": {"as_ints": [1 << 35]}, "fill_value": whole(1)}, "n0"),
        node("torch.ops.aten.neg.default", {"self": tensor("n0")}, "n1"),
    ],
}


@pytest.mark.parametrize("case", BOMBS)
def test_small_values_do_not_become_large_ones(case, small, tmp_path):
    path = with_json(small, tmp_path / "p.pt2", prepended(*BOMBS[case]))
    begun = time.monotonic()
    with suppress(NetgaugeError):
        analyzed(open_model(path))
    assert time.monotonic() - begun < 10


def test_arithmetic_on_sizes_is_bounded(small, tmp_path):
    for target, values in {
        "_operator.pow": (9, 1 << 60),
        "_operator.lshift": (1, 1 << 50),
        "_operator.mul": (1 << 62, 1 << 62),
        "_operator.floordiv": (1, 0),
    }.items():
        step = node(target, {"a": whole(values[0]), "b": whole(values[1])}, "s")
        path = with_json(small, tmp_path / "p.pt2", prepended(step))
        with pytest.raises(ModelError):
            analyzed(open_model(path))


def test_an_undocumented_operator_never_sees_values(small, tmp_path):
    arguments = {"self": tensor("p_conv_weight"), "size": {"as_ints": [1 << 20]}, "stride": {"as_ints": [1]}}

    def change(value):
        prepended(node("torch.ops.aten._reshape_alias.default", arguments, "a"))(value)
        value["graph_module"]["signature"]["output_specs"] = [{"user_output": {"arg": tensor("a")}}]

    opened = open_model(with_json(small, tmp_path / "p.pt2", change))
    assert opened.module(torch.zeros(2, 1, 8, 8)).is_meta
    check = analyzed(opened).crosscheck("fvcore")
    assert (check.status, check.unexplained) == ("failed", 0)
    assert "is not run on values" in check.reason


def paths(value, at=()):
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if key not in ("metadata", "treespec_namedtuple_fields"):
            yield from paths(child, (*at, key))


def replaced(value, at, new):
    value = copy.deepcopy(value)
    if not at:
        return new
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return value


WRONG = (None, -1, 1 << 65, 1.5, True, "", "x", [], [None], {}, {"as_int": 1}, {"as_tensor": {"name": "x"}}, [[[]]])


def damaged_everywhere(small, tmp_path, member, every):
    """Open and analyze the program with one value after the other replaced; whatever is no error of ours comes out."""
    with zipfile.ZipFile(small) as archive:
        name = next(n for n in archive.namelist() if member in n and n.endswith(".json"))
        members = {n: archive.read(n) for n in archive.namelist() if n != name}
        value = json.loads(archive.read(name))
    cases = [(at, new) for at in paths(value) for new in WRONG]
    ended = 0
    for at, new in cases[::every]:
        path = tmp_path / "damaged.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            for n, data in {**members, name: json.dumps(replaced(value, at, new)).encode()}.items():
                archive.writestr(n, data)
        try:
            analyzed(open_model(path))
        except NetgaugeError:
            ended += 1
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            pytest.fail(f"{at} = {new!r}: {type(error).__name__}: {error}")
    assert ended > 0


@pytest.mark.parametrize("member", ["models/", "weights_config"])
def test_any_wrong_value_is_an_error_of_ours(member, small, tmp_path):
    damaged_everywhere(small, tmp_path, member, every=61)


@pytest.mark.slow
@pytest.mark.parametrize("member", ["models/", "weights_config"])
def test_every_wrong_value_is_an_error_of_ours(member, small, tmp_path):
    damaged_everywhere(small, tmp_path, member, every=1)


# Archives ----------------------------------------------------------------------------------------------------------


def test_a_compressed_archive_is_refused(small, tmp_path):
    with pytest.raises(RefusedError, match="compressed"):
        open_model(rewritten(small, tmp_path / "p.pt2", lambda _, data: data, zipfile.ZIP_DEFLATED))


def test_a_member_listed_twice_is_refused(small, tmp_path):
    path = rewritten(small, tmp_path / "p.pt2", lambda _, data: data)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("small/models/model.json", b"{}")
    with pytest.raises(RefusedError, match="twice"):
        open_model(path)


def test_a_cut_archive_is_an_error(small, tmp_path):
    data = small.read_bytes()
    for length in range(10, len(data), len(data) // 7):
        (tmp_path / "p.pt2").write_bytes(data[:length])
        with pytest.raises(NetgaugeError):
            analyzed(open_model(tmp_path / "p.pt2"))


def test_json_that_is_none_is_an_error(small, tmp_path):
    for data in (b"", b"{", b"[" * 200_000, b"\xff\xfe", b"1" * 5000, b'"x"', b"null"):
        path = rewritten(small, tmp_path / "p.pt2", lambda n, old, d=data: d if n.endswith("model.json") else old)
        with pytest.raises(NetgaugeError):
            open_model(path)


def test_several_programs_and_none_are_told_apart(small, tmp_path):
    path = rewritten(small, tmp_path / "p.pt2", lambda _, data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("small/models/second.json", b"{}")
    with pytest.raises(ModelError, match="several programs \\('model', 'second'\\)"):
        open_model(path)
    path = rewritten(small, tmp_path / "q.pt2", lambda n, data: None if "models/" in n else data)
    with pytest.raises(ModelError, match=r"no torch\.export program"):
        open_model(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("small/data/aotinductor/model/code.so", b"")
    with pytest.raises(ModelError, match="AOTInductor"):
        open_model(path)


def test_the_file_stays_as_it_is(tmp_path):
    model, args, kwargs = everything()
    export(tmp_path / "m.pt2", model, args, kwargs)
    before = (tmp_path / "m.pt2").read_bytes()
    opened = open_model(tmp_path / "m.pt2")
    opened.module(args[0], args[1]["ids"][0], None, 3.0, kwargs["key"])  # counts its calls in a buffer
    assert dict(opened.module.named_buffers())["count"].item() == 1
    assert (tmp_path / "m.pt2").read_bytes() == before

"""torch.export programs and TorchScript that would run code, read or write files when torch loads them."""

import io
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .assemble import blob, call, mapping, pickled, tensor, text, torch_zip, unzipped, zipped
from .case import Case, Harmless, Scene
from .pickles import mkdir


@cache
def program() -> dict[str, bytes]:
    """The members of a small exported program."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
        exported = torch.export.export(network, (torch.zeros(1, 4),))
        torch.export.save(exported, file)
    return unzipped(file.getvalue())


def path_of(ending: str) -> str:
    """The member whose name ends so."""
    return next(name for name in program() if name.endswith(ending))


GRAPH, WEIGHTS = "models/model.json", "weights_config.json"
CONSTANTS, SAMPLES = "constants_config.json", "sample_inputs/model.pt"


def edited(member: str, change: Callable[[Any], Any]) -> dict[str, bytes]:
    """The program with one of its JSON members changed in place, or replaced by what `change` returns."""
    members = dict(program())
    path = path_of(member)
    tree = json.loads(members[path])
    replaced = change(tree)
    members[path] = json.dumps(tree if replaced is None else replaced).encode()
    return members


def _put(members: dict[str, bytes]) -> Callable[[Scene], Path]:
    return lambda s: s.put("model.pt2", zipped(members))


def graph(change: Callable[[Any], Any]) -> Callable[[Scene], Path]:
    """The program with its graph changed."""
    return lambda s: s.put("model.pt2", zipped(edited(GRAPH, change)))


def weights(change: Callable[[Any], Any]) -> Callable[[Scene], Path]:
    """The program with the list of its weights changed."""
    return lambda s: s.put("model.pt2", zipped(edited(WEIGHTS, change)))


def _samples(scene: Scene) -> Path:
    members = {**program(), path_of(SAMPLES): torch_zip(mkdir(scene))}
    return scene.put("model.pt2", zipped(members))


def _pickled_weight(scene: Scene) -> Path:
    """`use_pickle`: the weight is a torch.save file."""

    def change(tree: Any) -> None:
        tree["config"]["0.weight"]["use_pickle"] = True

    members = edited(WEIGHTS, change)
    members[path_of("weights/weight_0")] = torch_zip(mkdir(scene))
    return scene.put("model.pt2", zipped(members))


def _opaque_constant(scene: Scene) -> Path:
    def change(tree: Any) -> None:
        tree["config"]["c"] = {"path_name": "custom_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}

    members = edited(CONSTANTS, change)
    folder = path_of(CONSTANTS).rpartition("/")[0]
    members[f"{folder}/custom_obj_0"] = pickled(mkdir(scene))
    members[f"{folder}/opaque_obj_0"] = pickled(mkdir(scene))
    return scene.put("model.pt2", zipped(members))


def _target(name: str, *arguments: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        node = tree["graph_module"]["graph"]["nodes"][1]
        node["target"] = name
        node["inputs"] += [{"name": f"a{n}", "arg": a, "kind": 1} for n, a in enumerate(arguments)]

    return change


def _sizes(*sizes: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        values = tree["graph_module"]["graph"]["tensor_values"]
        for value in values.values():
            value["sizes"] = [{"as_int": n} for n in sizes]

    return change


def _expression(source: str) -> Callable[[Any], None]:
    """A size as an expression: torch hands these to sympy, which evaluates them."""

    def change(tree: Any) -> None:
        size = {"as_expr": {"expr_str": source, "hint": {"as_int": 4}}}
        tree["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = size

    return change


def _many_nodes(tree: Any) -> None:
    nodes = tree["graph_module"]["graph"]["nodes"]
    nodes += [nodes[1]] * 5000


def _cycle(tree: Any) -> None:
    nodes = tree["graph_module"]["graph"]["nodes"]
    nodes[0]["inputs"][0]["arg"]["as_tensor"]["name"] = "relu"


def _nested(scene: Scene) -> Path:
    members = {**program(), path_of(GRAPH): b'{"graph_module":' + b"[" * 100_000 + b"]" * 100_000 + b"}"}
    return scene.put("model.pt2", zipped(members))


def _stray(tree: Any) -> None:
    tree["config"]["0.weight"]["path_name"] = "../../../../outside/secret.bin"


def _huge(tree: Any) -> None:
    tree["config"]["0.weight"]["tensor_meta"]["sizes"] = [{"as_int": 1 << 31}, {"as_int": 1 << 31}]


def _digits(scene: Scene) -> Path:
    members = dict(program())
    path = path_of(GRAPH)
    members[path] = members[path].replace(b'{"as_int": 4}', b'{"as_int": ' + b"9" * 10_000 + b"}")
    return scene.put("model.pt2", zipped(members))


NASTY = "\x1b[2J\x1b]0;owned\x07</script><img src=x onerror=alert(1)>\u202e"


def _names(tree: Any) -> None:
    for node in tree["graph_module"]["graph"]["nodes"]:
        node["metadata"]["nn_module_stack"] = f"L__self__,,{NASTY};L__self__0,{NASTY},torch.nn.modules.linear.Linear"


def _without(ending: str) -> Callable[[Scene], Path]:
    return lambda s: s.put("model.pt2", zipped({n: d for n, d in program().items() if not n.endswith(ending)}))


_ANY = "."
PROGRAMS: dict[str, Case] = {
    "operator aten::save": Case(graph(_target("torch.ops.aten.save.default", {"as_string": "canary"})), "save|export"),
    "operator from_file": Case(
        graph(_target("torch.ops.aten.from_file.default", {"as_string": "../outside/secret.bin"}, {"as_int": 16})),
        "from_file|export",
    ),
    "operator os.mkdir": Case(graph(_target("os.mkdir")), "os.mkdir|export", (3, 4)),
    "operator with a path": Case(graph(_target("torch.ops.../../outside.default")), _ANY, (3, 4)),
    "operator by attribute": Case(graph(_target("torch.ops.__class__.__init__.__globals__")), _ANY, (3, 4)),
    "operator torch.load": Case(graph(_target("torch.load")), "torch.load|export", (3, 4)),
    "operator that is a number": Case(graph(_target(7)), _ANY, (3, 4)),  # type: ignore[arg-type]
    "size by eval": Case(graph(_expression("__import__('os').mkdir('canary')")), _ANY, (3, 4)),
    "size 9**9**9**9": Case(graph(_expression("9**9**9**9")), _ANY, (3, 4)),
    "size of 100,000 brackets": Case(graph(_expression("(" * 100_000 + "1" + ")" * 100_000)), _ANY, (3, 4)),
    "negative sizes": Case(graph(_sizes(-4, -4)), _ANY, (3, 4)),
    "sizes of 2**62": Case(graph(_sizes(1 << 62, 1 << 62)), _ANY, (3, 4)),
    "sizes of 10,000 digits": Case(_digits, _ANY, (3, 4)),
    "a cycle": Case(graph(_cycle), _ANY, (3, 4)),
    "JSON 100,000 deep": Case(_nested, _ANY, (3, 4)),
    "graph that is a list": Case(graph(lambda _: [1]), _ANY, (3, 4)),
    "graph that is a text": Case(graph(lambda _: "graph"), _ANY, (3, 4)),
    "no nodes": Case(graph(lambda t: t["graph_module"]["graph"].pop("nodes") and None), _ANY, (3, 4)),
    "schema of the future": Case(
        graph(lambda t: t["schema_version"].update(major=99)), "schema|version|export", (3, 4)
    ),
    "no graph": Case(_without(GRAPH), _ANY, (3, 4)),
    "weights that are a list": Case(weights(lambda _: [1]), _ANY, (3, 4)),
}
CODED: dict[str, Harmless] = {
    "code in the sample inputs": Harmless(_samples, ("Linear|linear|export",), codes=(0, 3), naive="torch.export.load"),
    "code in a pickled weight": Harmless(
        _pickled_weight, ("Linear|linear|pickle|export",), codes=(0, 3), naive="torch.export.load"
    ),
    "code in a constant": Harmless(_opaque_constant, ("Linear|linear|pickle|export",), codes=(0, 3)),
    "no weights": Harmless(_without(WEIGHTS), ("",), codes=(0, 3, 4)),
    "weight outside": Harmless(weights(_stray), ("",), codes=(0, 3, 4)),
    "weight of 2**62 elements": Harmless(weights(_huge), ("",), codes=(0, 3, 4)),
    "5,000 nodes of one name": Harmless(graph(_many_nodes), ("",), codes=(0, 3, 4)),
    "names with escapes": Harmless(graph(_names), ("",), ("\x1b", "\x07", "\u202e"), codes=(0, 3, 4)),
    "names with escapes in HTML": Harmless(
        graph(_names), ("",), ("\x1b", "<img src=x"), ("--format", "html"), codes=(0, 3, 4)
    ),
}


# TorchScript.


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


@cache
def script() -> dict[str, bytes]:
    """The members of a small TorchScript archive."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(_Plain().eval(), torch.zeros(1, 2)), file)
    return unzipped(file.getvalue())


def _source() -> str:
    return next(name for name in script() if name.endswith(".py"))


def _scripted(method: str) -> Callable[[Scene], Path]:
    """With a method more in its source; `{canary}` stands for the canary's path."""

    def make(scene: Scene) -> Path:
        members = dict(script())
        indented = "".join(f"  {line}\n" for line in method.format(canary=scene.canary).splitlines())
        members[_source()] = members[_source()].rstrip(b"\n") + b"\n" + indented.encode()
        return scene.put("model.pt", zipped(members))

    return make


def _setstate(scene: Scene) -> Path:
    """`__setstate__` writes a file as the archive is loaded: made by torch itself, then aimed at the canary."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.zeros(2)

        @torch.jit.export
        def __getstate__(self) -> tuple[torch.Tensor, bool]:
            return self.weight, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
            self.weight = state[0]
            self.training = state[1]
            torch.save(state[0], "CANARY")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.weight

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Writes()), file)
    members = unzipped(file.getvalue())
    aimed = {n: d.replace(b'"CANARY"', json.dumps(str(scene.canary)).encode()) for n, d in members.items()}
    return scene.put("model.pt", zipped(aimed))


def _script_pickle(scene: Scene) -> Path:
    """The pickle of the attributes asks for os.mkdir."""
    members = dict(script())
    members[next(n for n in members if n.endswith("data.pkl"))] = pickled(mkdir(scene))
    return scene.put("model.pt", zipped(members))


def _script_constants(scene: Scene) -> Path:
    members = dict(script())
    members[next(n for n in members if n.endswith("constants.pkl"))] = pickled(mkdir(scene))
    return scene.put("model.pt", zipped(members))


def _debug_pickle(scene: Scene) -> Path:
    """The debugging records beside the source, which torch.utils.model_dump unpickles."""
    members = dict(script())
    for name in [n for n in members if n.endswith(".debug_pkl")]:
        members[name] = pickled(mkdir(scene))
    return scene.put("model.pt", zipped(members))


def _deep_source(scene: Scene) -> Path:
    members = dict(script())
    members[_source()] = b"x = " + b"(" * 200_000 + b"1" + b")" * 200_000
    return scene.put("model.pt", zipped(members))


def _empty_constants(scene: Scene) -> Path:
    """A torch.save archive that calls itself TorchScript."""
    body = pickled(
        mapping({"w": tensor((4,), (1,)), "c": call("torch.jit._pickle", "build_intlist", blob(b"")), "t": text("x")})
    )
    return scene.put("model.pt", zipped({"m/data.pkl": body, "m/constants.pkl": b"\x80\x02).", "m/data/0": bytes(16)}))


_SCRIPT = "TorchScript"
SCRIPTS: dict[str, Case] = {
    "__setstate__ that writes": Case(_setstate, _SCRIPT, naive="torch.jit.load"),
    "method that saves": Case(_scripted('def also(self, x: Tensor) -> None:\n  torch.save(x, "{canary}")'), _SCRIPT),
    "method that reads": Case(
        _scripted('def also(self) -> Tensor:\n  return torch.from_file("/etc/passwd", False, 16)'), _SCRIPT
    ),
    "plain": Case(lambda s: s.put("model.pt", zipped(script())), _SCRIPT),
    "code in its pickle": Case(_script_pickle, _SCRIPT + "|run code|refused", (3, 4)),
    "code in its constants": Case(_script_constants, _SCRIPT + "|run code|refused", (3, 4)),
    "code in its debugging records": Case(_debug_pickle, _SCRIPT),
    "source with 200,000 brackets": Case(_deep_source, _SCRIPT + "|nest|damaged", (3, 4)),
    "torch.save that says so": Case(_empty_constants, _SCRIPT + "|run code", (3, 4)),
}
CASES: dict[str, Case] = {
    **{f"program, {name}": case for name, case in PROGRAMS.items()},
    **{f"TorchScript, {name}": case for name, case in SCRIPTS.items()},
}
HARMLESS: dict[str, Harmless] = {f"program, {name}": case for name, case in CODED.items()}

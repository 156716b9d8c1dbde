"""ONNX graphs that point outside their folder, ask for too much or carry what a reader would run or print."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .case import Case, Harmless, Scene

F32 = TensorProto.FLOAT
NAME = "model.onnx"


def value(name: str, shape: tuple[Any, ...] | None = (1, 4)) -> onnx.ValueInfoProto:
    """A floating-point input or output."""
    return helper.make_tensor_value_info(name, F32, shape)


def graph_of(nodes: list[onnx.NodeProto], arrays: tuple[onnx.TensorProto, ...] = (), **more: Any) -> onnx.ModelProto:
    """A model from x to y."""
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y", None)], list(arrays))
    return helper.make_model(graph, ir_version=10, **{"opset_imports": [helper.make_opsetid("", 22)], **more})


def small() -> onnx.ModelProto:
    """x times a stored matrix."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    return graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="n")], (weight,))


def external(location: str, **more: Any) -> onnx.ModelProto:
    """The same with the matrix in another file."""
    tensor = TensorProto(name="w", data_type=F32, dims=(4, 4), data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(text))
    return graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="n")], (tensor,))


def saved(model: onnx.ModelProto | Callable[[Scene], onnx.ModelProto]) -> Callable[[Scene], Path]:
    """The model as a file, with data beside it that would do for its matrix."""

    def make(scene: Scene) -> Path:
        scene.put("data.bin", bytes(64))
        made = model(scene) if callable(model) else model
        return scene.put(NAME, made.SerializeToString())

    return make


def pointing(location: str, **more: Any) -> Callable[[Scene], Path]:
    """Its data elsewhere; `{outside}` stands for the folder of the secret."""
    return saved(lambda s: external(location.format(outside=s.outside), **more))


def _linked(link: str, target: str, location: str) -> Callable[[Scene], Path]:
    def make(scene: Scene) -> Path:
        (scene.model / link).symlink_to(target.format(outside=scene.outside))
        return scene.put(NAME, external(location).SerializeToString())

    return make


def _hard_link(scene: Scene) -> Path:
    os.link(scene.secret, scene.model / "hard.bin")
    return scene.put(NAME, external("hard.bin").SerializeToString())


def _pipe(scene: Scene) -> Path:
    os.mkfifo(scene.model / "pipe.bin")
    return scene.put(NAME, external("pipe.bin").SerializeToString())


def _cached(scene: Scene) -> Path:
    """As a Hugging Face cache keeps files: under their hashes, linked to by name."""
    blobs = scene.model / "blobs"
    snapshot = scene.model / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name, data in ((NAME, external("data.bin").SerializeToString()), ("data.bin", bytes(64))):
        (blobs / f"hash-of-{name}").write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/hash-of-{name}")
    return snapshot / NAME


def _in_an_attribute(scene: Scene) -> onnx.ModelProto:
    """The external tensor is a Constant's."""
    constant = helper.make_node("Constant", [], ["w"], value=external("../outside/secret.bin").graph.initializer[0])
    return graph_of([constant, helper.make_node("MatMul", ["x", "w"], ["y"])])


def _in_a_sparse_tensor(_scene: Scene) -> onnx.ModelProto:
    model = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])])
    sparse = model.graph.sparse_initializer.add(dims=(4, 4))
    sparse.values.CopyFrom(external("../outside/secret.bin").graph.initializer[0])
    sparse.values.dims[:] = [4]
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4), "i"))
    return model


def _in_a_branch(_scene: Scene) -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "b",
        [],
        [value("z", None)],
        list(external("../outside/secret.bin").graph.initializer),
    )
    condition = numpy_helper.from_array(np.array(True), "c")
    return graph_of([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], (condition,))


def _in_a_function(_scene: Scene) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=external("../outside/secret.bin").graph.initializer[0])
    body = [constant, helper.make_node("MatMul", ["x", "w"], ["y"])]
    function = helper.make_function("own", "F", ["x"], ["y"], body, [helper.make_opsetid("", 22)])
    imports = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
    return graph_of([helper.make_node("F", ["x"], ["y"], domain="own")], opset_imports=imports, functions=[function])


def _deep_branches(levels: int) -> Callable[[Scene], Path]:
    """Graphs in each other, put together as bytes: the library itself stops at a hundred."""

    def field(tag: int, data: bytes) -> bytes:
        length, size = b"", len(data)
        while True:
            length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
            size >>= 7
            if not size:
                return bytes([tag]) + length + data

    def make(scene: Scene) -> Path:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])], "g", [], [value("y")]
        ).SerializeToString()
        for _ in range(levels):
            # AttributeProto: name (1), type GRAPH (20), g (6); NodeProto: output (2), op_type (4), attribute (5)
            attribute = field(0x0A, b"then_branch") + b"\xa0\x01\x05" + field(0x32, graph)
            node = field(0x0A, b"c") + field(0x12, b"y") + field(0x22, b"If") + field(0x2A, attribute)
            graph = field(0x0A, node) + field(0x12, b"g")
        return scene.put(NAME, b"\x08\x0a" + field(0x3A, graph) + field(0x42, b"\x10\x16"))

    return make


def _repeated(node: onnx.NodeProto, times: int) -> Callable[[Scene], Path]:
    """The same node over and over, as bytes."""

    def make(scene: Scene) -> Path:
        model = graph_of([])
        graph = model.graph.SerializeToString()
        one = onnx.GraphProto(node=[node]).SerializeToString()
        model.ClearField("graph")
        size, length = len(graph) + len(one) * times, b""
        while size > 0x7F:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        length += bytes([size])
        return scene.put(NAME, model.SerializeToString() + b"\x3a" + length + graph + one * times)

    return make


def _cycle(_scene: Scene) -> onnx.ModelProto:
    return graph_of(
        [
            helper.make_node("Add", ["x", "b"], ["a"]),
            helper.make_node("Add", ["a", "x"], ["b"]),
            helper.make_node("Relu", ["b"], ["y"]),
        ]
    )


def _function_of_itself(_scene: Scene) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("F", ["x"], ["y"], domain="own")], imports
    )
    return graph_of([helper.make_node("F", ["x"], ["y"], domain="own")], opset_imports=imports, functions=[function])


def _doubling_functions(levels: int) -> Callable[[Scene], onnx.ModelProto]:
    """Functions that call the next one twice: 2**levels nodes when expanded."""

    def make(_scene: Scene) -> onnx.ModelProto:
        imports = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
        functions = [helper.make_function("own", "F0", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], imports)]
        for n in range(1, levels):
            calls = [
                helper.make_node(f"F{n - 1}", ["x"], ["z"], domain="own"),
                helper.make_node(f"F{n - 1}", ["z"], ["y"], domain="own"),
            ]
            functions.append(helper.make_function("own", f"F{n}", ["x"], ["y"], calls, imports))
        last = helper.make_node(f"F{levels - 1}", ["x"], ["y"], domain="own")
        return graph_of([last], opset_imports=imports, functions=functions)

    return make


def _constant_of_shape(_scene: Scene) -> onnx.ModelProto:
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "s")
    return graph_of(
        [
            helper.make_node("ConstantOfShape", ["s"], ["c"]),
            helper.make_node("ReduceMax", ["c"], ["m"]),
            helper.make_node("Add", ["x", "m"], ["y"]),
        ],
        (shape,),
    )


def _folded_giant(op: str, numbers: list[int]) -> Callable[[Scene], onnx.ModelProto]:
    """Integers that constant folding would make 2**40 of."""

    def make(_scene: Scene) -> onnx.ModelProto:
        shape = numpy_helper.from_array(np.array(numbers), "s")
        one = numpy_helper.from_array(np.array(1), "one")
        nodes = {
            "Range": [helper.make_node("Range", ["zero", "big", "one"], ["c"])],
            "Expand": [helper.make_node("Expand", ["one", "s"], ["c"])],
            "Tile": [helper.make_node("Unsqueeze", ["one", "s0"], ["u"]), helper.make_node("Tile", ["u", "s"], ["c"])],
        }[op]
        more = (
            numpy_helper.from_array(np.array(0), "zero"),
            numpy_helper.from_array(np.array(1 << 40), "big"),
            numpy_helper.from_array(np.array([0]), "s0"),
        )
        nodes += [helper.make_node("Reshape", ["x", "c"], ["y"])]
        return graph_of(nodes, (shape, one, *more))

    return make


def _declared(dims: tuple[int, ...], data: bytes = b"") -> onnx.ModelProto:
    """A stored matrix of these sizes with too few bytes."""
    tensor = TensorProto(name="w", data_type=F32, dims=dims, raw_data=data)
    return graph_of([helper.make_node("MatMul", ["x", "w"], ["y"])], (tensor,))


def _padded(op: str, **attributes: Any) -> onnx.ModelProto:
    """A window that is far longer than what it slides over."""
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [value("x", (1, 1, 8))], [value("y", None)])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])


def _context(_scene: Scene) -> onnx.ModelProto:
    """What a vendor's compiler leaves: a path to a library that the provider loads."""
    node = helper.make_node(
        "EPContext",
        ["x"],
        ["y"],
        domain="com.microsoft",
        embed_mode=0,
        main_context=1,
        ep_cache_context="../outside/secret.bin",
        source="QNN",
    )
    return graph_of([node], opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)])


def _own_domain(_scene: Scene) -> onnx.ModelProto:
    node = helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib", compute="os.system('mkdir canary')")
    return graph_of([node], opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid("ai.onnx.contrib", 1)])


def _loop(_scene: Scene) -> onnx.ModelProto:
    """A loop of 2**60 turns."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            value("a"),
        ],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), value("b")],
    )
    turns = numpy_helper.from_array(np.array(1 << 60), "turns")
    return graph_of([helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)], (turns,))


NASTY = "\x1b[2J\x1b]0;owned\x07</script><img src=x onerror=alert(1)>\x00\r\n\u202e"


def _nasty_names(_scene: Scene) -> onnx.ModelProto:
    model = small()
    model.graph.node[0].name = NASTY
    model.graph.node[0].output[0] = model.graph.output[0].name = NASTY
    model.graph.initializer[0].name = model.graph.node[0].input[1] = NASTY + "w"
    model.producer_name = model.graph.name = model.doc_string = NASTY
    return model


def _long_name(_scene: Scene) -> onnx.ModelProto:
    model = small()
    model.graph.node[0].name = "n" * (1 << 20)
    return model


_OUT = "outside|folder|beyond|refused"
_DATA = "data|bytes|beyond|refused|file"
CASES: dict[str, Case] = {
    "../": Case(pointing("../outside/secret.bin"), _OUT, (3, 4)),
    "junk/../..": Case(pointing("junk/../../outside/secret.bin"), _OUT, (3, 4)),
    "absolute": Case(pointing("{outside}/secret.bin"), _OUT, (3, 4)),
    "/proc/self/environ": Case(pointing("/proc/self/environ"), _OUT, (3, 4)),
    "/dev/zero": Case(pointing("/dev/zero"), _OUT, (3, 4)),
    "an address in memory": Case(pointing("*/_ORT_MEM_ADDR_/*", offset=4096, length=64), _OUT + "|memory", (3, 4)),
    "backslashes": Case(pointing("..\\outside\\secret.bin"), _OUT + "|no such|missing", (3, 4)),
    "linked file": Case(_linked("link.bin", "{outside}/secret.bin", "link.bin"), _OUT + "|link", (3, 4)),
    "linked folder": Case(_linked("folder", "{outside}", "folder/secret.bin"), _OUT + "|link", (3, 4)),
    "link to /dev/zero": Case(_linked("link.bin", "/dev/zero", "link.bin"), _OUT + "|link|regular", (3, 4)),
    "link to itself": Case(_linked("link.bin", "link.bin", "link.bin"), _OUT + "|link|regular|no such", (3, 4)),
    "hard link": Case(_hard_link, "link", (3, 4)),
    "named pipe": Case(_pipe, "regular|pipe", (3, 4)),
    "empty location": Case(pointing(""), "location|external|folder|names no|no path", (3, 4)),
    "location is the folder": Case(pointing("."), "folder|regular|file", (3, 4)),
    "location with NUL": Case(pointing("data\0.bin"), "name|location|file", (3, 4)),
    "location of a megabyte": Case(pointing("n" * (1 << 20)), "name|location|long", (3, 4)),
    "offset beyond the file": Case(pointing("data.bin", offset=1 << 40), _DATA, (3, 4)),
    "length beyond the file": Case(pointing("data.bin", length=1 << 40), _DATA, (3, 4)),
    "offset and length overflow": Case(pointing("data.bin", offset=(1 << 63) - 32, length=64), _DATA, (3, 4)),
    "negative offset": Case(pointing("data.bin", offset=-64), _DATA, (3, 4)),
    "negative length": Case(pointing("data.bin", length=-1), _DATA, (3, 4)),
    "offset that is no number": Case(pointing("data.bin", offset="__class__"), _DATA, (3, 4)),
    "offset of 10,000 digits": Case(pointing("data.bin", offset="9" * 10_000), _DATA, (3, 4)),
    "length that is not the tensor's": Case(pointing("data.bin", length=4), _DATA, (3, 4)),
    "external Constant": Case(saved(_in_an_attribute), _OUT, (3, 4)),
    "external sparse tensor": Case(saved(_in_a_sparse_tensor), _OUT, (3, 4)),
    "external in a branch": Case(saved(_in_a_branch), _OUT, (3, 4)),
    "external in a function": Case(saved(_in_a_function), _OUT, (3, 4)),
    "graphs 90 deep": Case(_deep_branches(40), ".", (0, 3, 4)),
    "graphs 5,000 deep": Case(_deep_branches(5000), ".", (3, 4)),
    "a cycle": Case(saved(_cycle), "cycle|order|before|not known|no node", (3, 4)),
    "a function of itself": Case(saved(_function_of_itself), "itself|recurs|function", (3, 4)),
    "functions of 2**60 nodes": Case(saved(_doubling_functions(60)), "nodes|function|nest", (3, 4)),
    "1,100,000 nodes": Case(_repeated(helper.make_node("Relu", ["x"], ["y"]), 1_100_000), "nodes", (3, 4)),
    "matrix without its data": Case(saved(_declared((1 << 31, 1 << 31))), "elements|bytes|data", (3, 4)),
    "matrix of negative size": Case(saved(_declared((-4, -4), bytes(64))), "size|negative|shape|bytes", (3, 4)),
    "matrix with too few bytes": Case(saved(_declared((4, 4), bytes(8))), "bytes|data|stored", (3, 4)),
    "padding of 2**30": Case(
        saved(_padded("MaxPool", kernel_shape=[2], pads=[1 << 30, 1 << 30])), "positions|elements|ONNX Runtime", (3, 4)
    ),
    "window of 2**31": Case(
        saved(_padded("AveragePool", kernel_shape=[1 << 31], pads=[1 << 31, 1 << 31])),
        "positions|elements|ONNX Runtime",
        (3, 4),
    ),
    "no graph": Case(lambda s: s.put(NAME, b"\x08\x0a\x12\x00"), "graph", (3, 4)),
    "name of a megabyte": Case(saved(_long_name), "name", (3, 4)),
    "varint without end": Case(lambda s: s.put(NAME, b"\x08" + b"\xff" * 1000), "ONNX", (3, 4)),
    "field of 2**63 bytes": Case(lambda s: s.put(NAME, b"\x08\x0a\x3a" + b"\xff" * 8 + b"\x7f"), "ONNX", (3, 4)),
}
CASES = {f"ONNX, {name}": case for name, case in CASES.items()}


HARMLESS: dict[str, Harmless] = {
    "ONNX, secret of the working directory": Harmless(pointing("secret.bin"), ("MatMul|secret.bin",), codes=(0, 3, 4)),
    "ONNX, file: address": Harmless(pointing("file://{outside}/secret.bin"), ("MatMul|secret.bin",), codes=(0, 3, 4)),
    "ONNX, in a Hugging Face cache": Harmless(_cached, ("MatMul",)),
    "ONNX, data beside it": Harmless(pointing("data.bin", offset=0, length=64), ("MatMul",)),
    "ONNX, EPContext": Harmless(saved(_context), ("EPContext",), codes=(0, 3)),
    **{
        f"ONNX, {op} of 2**40": Harmless(saved(_folded_giant(op, [1 << 40])), ("Reshape",), codes=(0, 3, 4))
        for op in ("Range", "Expand", "Tile")
    },
    "ONNX, ConstantOfShape of 2**40": Harmless(saved(_constant_of_shape), ("ConstantOfShape|Add",), codes=(0, 3, 4)),
    "ONNX, loop of 2**60 turns": Harmless(saved(_loop), ("Loop|Relu|turns",), codes=(0, 3, 4)),
    "ONNX, operator of another domain": Harmless(saved(_own_domain), ("PyOp",), codes=(0, 3, 4)),
    "ONNX, names with escapes": Harmless(saved(_nasty_names), ("MatMul",), ("\x1b", "\x07", "\x00", "\u202e")),
    "ONNX, names with escapes in HTML": Harmless(
        saved(_nasty_names), ("MatMul",), ("\x1b", "</script><img", "<img src=x"), ("--format", "html")
    ),
    "ONNX, names with escapes in JSON": Harmless(
        saved(_nasty_names), ("MatMul",), ("\x1b", "\x00"), ("--format", "json")
    ),
    "ONNX, names with escapes in CSV": Harmless(
        saved(_nasty_names), ("MatMul",), ("\x1b", "\x00"), ("--format", "csv")
    ),
    "ONNX, names with escapes as a tree": Harmless(
        saved(_nasty_names), ("MatMul",), ("\x1b", "\x00"), ("--format", "tree")
    ),
}

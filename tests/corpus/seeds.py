"""Small valid files of every kind, to be mutated."""

import io
import json
import pickle
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import nn

from .assemble import zipped
from .onnx_files import external, graph_of, value
from .programs import program, script

Files = dict[str, bytes]


def _saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class _Numbered(pickle.Pickler):
    """Storages by number, where torch itself takes their addresses: files are the same every time."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 2)
        self.storages: dict[int, torch.TypedStorage] = {}

    def persistent_id(self, value: object) -> tuple[object, ...] | None:
        if not isinstance(value, torch.TypedStorage):
            return None
        self.storages.setdefault(value._cdata, value)
        key = list(self.storages).index(value._cdata)
        kind = getattr(torch, value._pickle_storage_type())
        return "storage", kind, f"{key:03}", "cpu", value._size(), None


def _legacy(value: object) -> bytes:
    """As torch.save wrote up to torch 1.5."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
    file = io.BytesIO()
    pickler = _Numbered(file)
    pickler.dump(value)
    keys = [f"{n:03}" for n in range(len(pickler.storages))]
    stored = (s._size().to_bytes(8, "little") + bytes(s._untyped_storage.tolist()) for s in pickler.storages.values())
    return head + file.getvalue() + pickle.dumps(keys, 2) + b"".join(stored)


def _network() -> nn.Module:
    torch.manual_seed(0)
    pooled = (nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 2))
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.ConvTranspose2d(2, 2, 2, stride=2), *pooled
    )


def _checkpoint() -> dict[str, object]:
    state = _network().state_dict()
    return {"epoch": 3, "arch": "net", "model": state, "ema": {"shadow": state}, "loss": [0.5, 0.25], "best": (1, None)}


def _index() -> Files:
    parts = {"a.safetensors": {"w": torch.zeros(2, 3)}, "b.safetensors": {"v": torch.zeros(4)}}
    weights = {name: file for file, tensors in parts.items() for name in tensors}
    index = {"metadata": {"total_size": 40}, "weight_map": weights}
    return {"model.safetensors.index.json": json.dumps(index).encode(), **{f: save(t) for f, t in parts.items()}}


def _convolutional() -> onnx.ModelProto:
    arrays = {"w": np.ones((2, 1, 3, 3), np.float32), "b": np.zeros(2, np.float32), "s": np.array([1, -1])}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Concat", ["p", "r2"], ["k"], axis=1),
        helper.make_node("Slice", ["r", "zero", "two", "axes"], ["r2"]),
        helper.make_node("Reshape", ["k", "s"], ["y"]),
    ]
    nodes[3], nodes[4] = nodes[4], nodes[3]
    arrays |= {"zero": np.array([0, 0]), "two": np.array([4, 4]), "axes": np.array([2, 3])}
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", (1, 1, 8, 8))],
        [value("y", None)],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 22)])


def _controlled() -> onnx.ModelProto:
    """A loop, a branch, a function and a constant."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["a", "a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            value("a"),
        ],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), value("b")],
    )
    branch = helper.make_graph([helper.make_node("Relu", ["l"], ["t"])], "then", [], [value("t")])
    arrays = {"turns": np.array(3), "condition": np.array(True)}
    imports = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["q"], ["z"], [helper.make_node("Sigmoid", ["q"], ["z"])], imports)
    nodes = [
        helper.make_node("Loop", ["turns", "", "x"], ["l"], body=body),
        helper.make_node("If", ["condition"], ["f"], then_branch=branch, else_branch=branch),
        helper.make_node("F", ["f"], ["g"], domain="own"),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones((4, 2), np.float32))),
        helper.make_node("MatMul", ["g", "k"], ["y"]),
    ]
    stored = tuple(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return graph_of(nodes, stored, opset_imports=imports, functions=[function])


def _arrays() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((1, 4), np.float32))
    return zipped({"x.npy": file.getvalue()})


def _recurrent() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.LSTM(4, 3, bidirectional=True))


# By kind: the files, the one that is named first.
SEEDS: dict[str, Callable[[], Files]] = {
    "state_dict": lambda: {"model.pt": _saved(_network().state_dict())},
    "checkpoint": lambda: {"model.pt": _saved(_checkpoint())},
    "module": lambda: {"model.pt": _saved(_network())},
    "recurrent": lambda: {"model.pt": _saved(_recurrent())},
    "legacy": lambda: {"model.pt": _legacy(_checkpoint())},
    "legacy module": lambda: {"model.pt": _legacy(_network())},
    "torchscript": lambda: {"model.pt": zipped(script())},
    "program": lambda: {"model.pt2": zipped(program())},
    "safetensors": lambda: {"model.safetensors": save(_network().state_dict(), {"format": "pt"})},
    "index": _index,
    "onnx": lambda: {"model.onnx": _convolutional().SerializeToString()},
    "onnx control": lambda: {"model.onnx": _controlled().SerializeToString()},
    "onnx external": lambda: {
        "model.onnx": external("data.bin", offset=0, length=64).SerializeToString(),
        "data.bin": bytes(64),
    },
}


def seeds() -> dict[str, Files]:
    """All of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {kind: make() for kind, make in SEEDS.items()}

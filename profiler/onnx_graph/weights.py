"""Which stored tensors are parameters.

torch's exporter writes down what it exported: PARAMETER or BUFFER. Elsewhere the use decides: a floating-point tensor
is a parameter unless the operator takes it for structure (running statistics, scales, limits), or it is a single
number that is added, multiplied or compared. Integers are parameters where an operator takes them for rounded weights.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx

from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import Value, Weight

_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_LINE = re.compile(r"^\s*\S+: (\w+) target='([^']+)'", re.MULTILINE)
_FOLDED = "pkg.onnxscript.optimizer.folded_from"
_QUOTED = re.compile(r"'([^']*)'")

# Inputs that are floating-point numbers and no parameters.
STRUCTURE: dict[str, frozenset[int]] = {
    "BatchNormalization": frozenset((3, 4)),
    "Resize": frozenset((1, 2, 3)),
    "Upsample": frozenset((1,)),
    "Clip": frozenset((1, 2)),
    "Pad": frozenset((2,)),
    "Dropout": frozenset((1, 2)),
    "OneHot": frozenset((2,)),
    "Pow": frozenset((1,)),
    "LSTM": frozenset((4, 5, 6)),
    "GRU": frozenset((4, 5)),
    "RNN": frozenset((4, 5)),
    "NonMaxSuppression": frozenset((3, 4)),
    "QuantizeLinear": frozenset((1, 2)),
    "DequantizeLinear": frozenset((1, 2)),
    "QLinearConv": frozenset((1, 2, 4, 5, 6, 7)),
    "QLinearMatMul": frozenset((1, 2, 4, 5, 6, 7)),
    "QGemm": frozenset((1, 2, 4, 5, 7, 8)),
    "QAttention": frozenset((3, 4, 6, 7)),
    "MatMulIntegerToFloat": frozenset((2, 3, 4, 5)),
    "DynamicQuantizeMatMul": frozenset((2, 3)),
    "MatMulNBits": frozenset((2, 3)),
    **{name: frozenset((1, 2, 4, 5, 6, 7)) for name in ("QLinearAdd", "QLinearMul")},
}
# Inputs where integers stand for rounded parameters.
ROUNDED: dict[str, frozenset[int]] = {
    "DequantizeLinear": frozenset((0,)),
    "QLinearConv": frozenset((3, 8)),
    "ConvInteger": frozenset((1,)),
    "MatMulInteger": frozenset((0, 1)),
    "QLinearMatMul": frozenset((0, 3)),
    "QGemm": frozenset((3, 6)),
    "QAttention": frozenset((1,)),
    "MatMulIntegerToFloat": frozenset((1,)),
    "DynamicQuantizeMatMul": frozenset((1,)),
    "DynamicQuantizeLSTM": frozenset((1, 2)),
    "MatMulNBits": frozenset((1,)),
    "QLinearAdd": frozenset((0, 3)),
    "QLinearMul": frozenset((0, 3)),
}
# Several numbers to a byte: the attributes K and N say how many they are.
_PACKED = ("MatMulNBits", 1)
# Operators that take weights by their definition, so that a single number may be one.
_LAYERS = frozenset(
    (
        *("Conv", "ConvTranspose", "Gemm", "PRelu", "BatchNormalization", "InstanceNormalization"),
        *("GroupNormalization", "LayerNormalization", "RMSNormalization", "QLinearConv", "FusedConv", "FusedGemm"),
        *("MatMul", "FusedMatMul", "QLinearMatMul", "QGemm", "LSTM", "GRU", "RNN", "Einsum", "DeformConv"),
    )
)


@dataclass(slots=True)
class Kinds:
    """What the exporter wrote down about each stored tensor."""

    written: dict[str, str] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_model(cls, model: onnx.ModelProto) -> "Kinds":
        """Read the metadata of torch's exporter, where it is there."""
        kinds = cls()
        for p in (*model.graph.metadata_props, *model.metadata_props):
            if p.key == _SIGNATURE:
                kinds.written.update((name, kind) for kind, name in _LINE.findall(p.value))
        for info in model.graph.value_info:
            for p in info.metadata_props:
                if p.key == _FOLDED:
                    kinds.sources[info.name] = tuple(_QUOTED.findall(p.value))
        return kinds

    def of(self, tensor: str) -> str:
        """What is written of a tensor: "parameter", "buffer", or "" for nothing."""
        sources = self.sources.get(tensor, (tensor,))
        found = {self.written.get(name) for name in sources}
        if "PARAMETER" in found:
            return "parameter"
        # What was computed from constants alone is no parameter either.
        derived = bool(self.written) and tensor in self.sources
        return "buffer" if derived or found & {"BUFFER", "CONSTANT_TENSOR"} else ""


def originals(model: onnx.ModelProto, kinds: Kinds) -> dict[str, str]:
    """Stored tensors that are another one turned or cast: its name, so that tied weights count once."""
    elements = {}
    for t in model.graph.initializer:
        n = 1
        for d in t.dims:
            n *= d
        elements[t.name] = n
    return {
        name: sources[0]
        for name, sources in kinds.sources.items()
        if len(sources) == 1 and sources[0] in elements and elements.get(name) == elements[sources[0]]
    }


def carried(operator: str, inputs: Iterable[Value | None]) -> tuple[Weight, ...]:
    """Weights behind the result of a node that only has constants: they wait for the node that uses the result."""
    name = operator.rpartition(".")[2]
    kept: dict[str, Weight] = {}
    for position, value in enumerate(inputs):
        if value is None or position in STRUCTURE.get(name, ()):
            continue
        for weight in value.weights:
            kept[weight.name] = _settled(weight, name, position)
    return tuple(kept.values())


def used(call: NodeCall) -> tuple[Weight, ...]:
    """Parameters that a node uses."""
    if not any(v.weights for v in call.tensors):
        return ()
    name = call.op.rpartition(".")[2]
    found: dict[str, Weight] = {}
    for position, value in enumerate(call.inputs):
        for weight in value.weights if value is not None else ():
            settled = _settled(weight, name, position)
            if _is_parameter(settled, name, position):
                packed = (name, position) == _PACKED
                stands_for = int(call.attr("K")) * int(call.attr("N")) if packed else settled.elements
                found[weight.name] = settled._replace(elements=stands_for)
    return tuple(found.values())


def _settled(weight: Weight, operator: str, position: int) -> Weight:
    if not weight.kind and not weight.floating and position in ROUNDED.get(operator, ()):
        return weight._replace(kind="rounded")
    return weight


def _is_parameter(weight: Weight, operator: str, position: int) -> bool:
    if weight.kind in ("parameter", "buffer"):
        return weight.kind == "parameter"
    if position in STRUCTURE.get(operator, ()):
        return False
    if not weight.floating and weight.kind != "rounded":
        return False
    return weight.elements > 1 or operator in _LAYERS

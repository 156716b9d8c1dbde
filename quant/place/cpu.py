"""ONNX Runtime's CPU provider: which operators have int8 kernels, and what must hold for a Q/DQ pattern to reach them.

The rules follow onnxruntime/core/optimizer/qdq_transformer/selectors_actions (1.31). Two that shape everything:

* A Conv becomes QLinearConv only if its output is quantized too. Gemm and MatMul may write float.
* Relu and Clip vanish only into a grid with zero point: symmetric activations would leave each one as a float island.
"""

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from quant.affine import Range
from quant.graph import constant, has_input, scalar
from quant.place.choose import Target, choose
from quant.place.plan import Mode, Operands, Plan, Role, Rule


def _conv_operands(node: ir.Node) -> Operands:
    return Operands((0,), weight=1, weight_axis=0, bias=2 if has_input(node, 2) else None)


def _gemm_operands(node: ir.Node) -> Operands:
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    return Operands((0,), weight=1, weight_axis=axis, bias=2 if has_input(node, 2) else None)


def _matmul_operands(node: ir.Node) -> Operands:
    weight = constant(node.inputs[1])
    if weight is None:
        return Operands((0, 1))
    return Operands((0,), weight=1, weight_axis=1 if weight.ndim == 2 else None)


def _every_operand(node: ir.Node) -> Operands:
    return Operands(tuple(range(len(node.inputs))))


def _where_operands(_: ir.Node) -> Operands:
    return Operands((1, 2))


def _conv_obstacle(node: ir.Node) -> str:
    return _constant_obstacle(node, 1, "weights") or _constant_obstacle(node, 2, "bias")


def _gemm_obstacle(node: ir.Node) -> str:
    if node.attributes.get_float("alpha", 1.0) != 1.0 or node.attributes.get_float("beta", 1.0) != 1.0:
        return "the int8 kernel wants alpha and beta to be 1"
    bias = constant(node.inputs[2]) if has_input(node, 2) else None
    if bias is not None and bias.ndim != 1:
        return f"the int8 kernel wants a bias with one axis, this one has {bias.ndim}"
    return _constant_obstacle(node, 1, "weights") or _constant_obstacle(node, 2, "bias")


def _matmul_obstacle(node: ir.Node) -> str:
    weight = constant(node.inputs[1])
    if weight is None:
        return "multiplies two activations; rounding both costs accuracy, so it is left float unless asked for"
    return "" if weight.ndim >= 2 else "its weights are a vector"


def _lstm_obstacle(node: ir.Node) -> str:
    if node.attributes.get_int("layout", 0) != 0:
        return "the int8 kernel wants the sequence axis first"
    return _constant_obstacle(node, 1, "weights") or _constant_obstacle(node, 2, "recurrent weights")


def _add_obstacle(node: ir.Node) -> str:
    """A bias is added to a product in float, which costs no rounding, rather than being rounded to eight bits."""
    for value, other in (node.inputs, node.inputs[::-1]):
        producer = value.producer() if value is not None else None
        if constant(other) is not None and producer is not None and producer.op_type == "MatMul":
            return "the bias of a matrix product that writes float"
    return ""


def _scale_factor(node: ir.Node) -> float:
    """The constant that a Mul multiplies by; 0 if it has none that is a single number."""
    for value in node.inputs:
        factor = scalar(value)
        if factor is not None:
            return factor
    return 0.0


def _scale_operands(node: ir.Node) -> Operands:
    return Operands((1,) if constant(node.inputs[0]) is not None else (0,))


def _maxpool_obstacle(node: ir.Node) -> str:
    return "its indices are used" if len(node.outputs) > 1 and node.outputs[1].uses() else ""


def _resize_obstacle(node: ir.Node) -> str:
    mode = node.attributes.get_string("mode", "nearest")
    if mode != "nearest":
        return f"{mode} interpolation has no int8 kernel; nearest has one"
    crops = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return "tf_crop_and_resize has no int8 kernel" if crops else ""


def _clip_obstacle(node: ir.Node) -> str:
    if any(has_input(node, i) and scalar(node.inputs[i]) is None for i in (1, 2)):
        return "its limits are computed, not constant"
    limits = _clip_limits(node)
    return "" if limits.low <= 0 <= limits.high else "its limits do not enclose zero, which every integer grid contains"


def _clip_limits(node: ir.Node) -> Range:
    low = scalar(node.inputs[1]) if has_input(node, 1) else None
    high = scalar(node.inputs[2]) if has_input(node, 2) else None
    return Range(float("-inf") if low is None else low, float("inf") if high is None else high)


def _constant_obstacle(node: ir.Node, position: int, what: str) -> str:
    if has_input(node, position) and constant(node.inputs[position]) is None:
        return f"its {what} are computed, not constant"
    return ""


_MOVE = Rule(Role.MOVE)
_PRODUCT_MODES = (Mode.STATIC, Mode.DYNAMIC)

RULES: Mapping[str, Rule] = {
    "Conv": Rule(Role.MATRIX, _conv_operands, _conv_obstacle),
    "Gemm": Rule(Role.MATRIX, _gemm_operands, _gemm_obstacle, float_output=True, modes=_PRODUCT_MODES),
    "MatMul": Rule(Role.MATRIX, _matmul_operands, _matmul_obstacle, float_output=True, modes=_PRODUCT_MODES),
    "LSTM": Rule(Role.MATRIX, obstacle=_lstm_obstacle, float_output=True, modes=(Mode.DYNAMIC,)),
    "Add": Rule(Role.ELEMENTWISE, _every_operand, _add_obstacle),
    "Mul": Rule(Role.ELEMENTWISE, _every_operand),
    "Concat": Rule(Role.ELEMENTWISE, _every_operand),
    "Where": Rule(Role.ELEMENTWISE, _where_operands),
    "AveragePool": Rule(Role.ELEMENTWISE),
    "GlobalAveragePool": Rule(Role.ELEMENTWISE),
    "Sigmoid": Rule(Role.ELEMENTWISE),
    "LeakyRelu": Rule(Role.ELEMENTWISE),
    "MaxPool": Rule(Role.MOVE, obstacle=_maxpool_obstacle),
    "Resize": Rule(Role.MOVE, obstacle=_resize_obstacle),
    "DepthToSpace": _MOVE,
    "Expand": _MOVE,
    "Flatten": _MOVE,
    "Gather": _MOVE,
    "GatherElements": _MOVE,
    "Reshape": _MOVE,
    "Slice": _MOVE,
    "Split": _MOVE,
    "Squeeze": _MOVE,
    "Tile": _MOVE,
    "Transpose": _MOVE,
    "Unsqueeze": _MOVE,
    "Relu": Rule(Role.FOLDED),
    "Clip": Rule(Role.FOLDED, obstacle=_clip_obstacle, limits=_clip_limits),
}
_SCALE = Rule(Role.SCALE, _scale_operands, factor=_scale_factor)
_ATTENTION = Rule(Role.MATRIX, _matmul_operands, float_output=True)

_FEW_CHANNELS = 4

REASONS: Mapping[str, str] = {
    "BatchNormalization": "it follows no convolution that it could be folded into",
    "ConvTranspose": "no int8 kernel; without groups and dilation, for pictures of one size, a Conv would replace it",
    "GRU": "no int8 kernel; ONNX Runtime has one for LSTM",
    "Gelu": "no int8 kernel; a ReLU would fold into the integer grid",
    "LayerNormalization": "no int8 kernel, and rounding before it costs accuracy; a batch norm would fold away",
    "Softmax": "left float: its small values need finer steps than eight bits have",
}


def rule(node: ir.Node) -> Rule | None:
    """How ONNX Runtime's CPU provider runs a node on integers; None if it cannot."""
    if node.domain != "":
        return None
    if node.op_type == "Mul" and _scale_factor(node) > 0:
        return _SCALE
    return RULES.get(node.op_type)


def rule_with_attention(node: ir.Node) -> Rule | None:
    """As `rule`, with int8 for the products of two activations too."""
    return _ATTENTION if node.op_type == "MatMul" and constant(node.inputs[1]) is None else rule(node)


TARGET = Target(rule, REASONS)
FULL = "full"
LEFT_FLOAT = "this placement leaves"
TARGET_WITH_ATTENTION = Target(rule_with_attention, REASONS)


def candidates(graph: ir.Graph) -> dict[str, Plan]:
    """Placements worth measuring against each other, by name, the most promising first.

    Which is fastest depends on the widths of the layers and on the machine. A first convolution of few channels gains
    little from int8, and leaving it float spares the rounding of the input; so that placement comes first where there
    is one. Placements that come out like an earlier one are left out.
    """
    full = choose(graph, TARGET, name=FULL)
    matrices = [node for node in graph if node.name in full.matrices]
    grouped = [node for node in matrices if node.attributes.get_int("group", 1) > 1]
    plans = (
        full,
        choose(graph, TARGET, name="static", modes={Mode.STATIC}),
        choose(graph, TARGET, name="float-stem", excluded=_left_float(matrices[:1], "the first layer")),
        choose(
            graph, TARGET, name="float-ends", excluded=_left_float(matrices[:1] + matrices[-1:], "the outer layers")
        ),
        choose(graph, TARGET, name="float-depthwise", excluded=_left_float(grouped, "grouped convolutions")),
        choose(graph, TARGET, name="float-elementwise", without={Role.ELEMENTWISE}),
        choose(graph, TARGET_WITH_ATTENTION, name="attention"),
    )
    distinct: dict[str, Plan] = {}
    for plan in sorted(plans, key=lambda plan: plan.name != "float-stem" or not _thin_stem(matrices)):
        if not any(plan.modes == other.modes for other in distinct.values()):
            distinct[plan.name] = plan
    return distinct


def _thin_stem(matrices: list[ir.Node]) -> bool:
    weight = constant(matrices[0].inputs[1]) if matrices and matrices[0].op_type == "Conv" else None
    return weight is not None and weight.shape[1] <= _FEW_CHANNELS


def _left_float(nodes: Iterable[ir.Node], what: str) -> dict[str, str]:
    return {node.name or "": f"{LEFT_FLOAT} {what} float" for node in nodes}

"""Small helpers over an ONNX graph, and the clean-up that every model gets before it is quantized."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir.passes import common as passes

from profiler.errors import ModelError, NetgaugeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

_OLDEST_OPSET = 13  # the first in which DequantizeLinear has a scale per channel
_OLDEST_IR = 8

_QUANTIZED_PREFIXES = (
    "QLinear",
    "QGemm",
    "QAttention",
    "QMoE",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantize",
)
_QUANTIZED_OPS = {"MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "MatMulNBits"}
# What a network computes with.
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}
_OTHER_FLOATS = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}

# Written by torch's exporter: module paths from the root to the operator, and the modules' classes.
_LAYER_NAMES = "pkg.torch.onnx.name_scopes"
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")  # three in four nodes; what they serve has the name

# Constant folding makes no tensor larger than this or the largest weight: a small file cannot ask for huge ones.
_SMALLEST_FOLD_LIMIT = 2**18


def prepare(model: ir.Model) -> ir.Model:
    """A cleaned copy of a model, computing the same: what every later stage works on.

    Functions are inlined, constants folded, batch norms and paddings folded into convolutions, types and shapes
    inferred, and every node and value has a name of its own.

    Raises:
        ModelError: the model is quantized already, computes in another type than float32, is too old, has all its
            layers inside an `If` or `Loop`, or takes inputs that cannot be stacked.
    """
    _refuse_quantized(model)
    try:
        with _quiet():
            copy = _cleaned(model)
    except NetgaugeError:
        raise
    except Exception as error:  # the passes raise whatever a damaged graph makes them stumble over
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the graph makes no sense to onnx: {type(error).__name__}: {reason}") from error
    _refuse_other_floats(copy)
    _refuse_hidden_layers(copy)
    _refuse_single_numbers(copy)
    return copy


def _cleaned(model: ir.Model) -> ir.Model:
    from onnxscript.optimizer import optimize

    copy = _convert_opset(model) if model.opset_imports.get("", _OLDEST_OPSET) < _OLDEST_OPSET else model.clone()
    copy.ir_version = max(copy.ir_version, _OLDEST_IR)
    passes.RemoveInitializersFromInputsPass()(copy)
    limit = max([_SMALLEST_FOLD_LIMIT, *(tensor.size for tensor in _constants(copy))])
    optimize(copy, input_size_limit=limit, output_size_limit=limit)
    passes.ShapeInferencePass()(copy)
    passes.NameFixPass()(copy)
    return copy


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence passes that report every node they leave as it is, and print tracebacks with names from the file."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _convert_opset(model: ir.Model) -> ir.Model:
    import onnx

    version = model.opset_imports[""]
    try:
        converted = onnx.version_converter.convert_version(ir.serde.serialize_model(model), _OLDEST_OPSET)
    except RuntimeError as error:
        raise ModelError(
            f"the model has opset {version}, int8 needs {_OLDEST_OPSET}, and onnx cannot convert it: "
            f"{str(error).splitlines()[0]}\nExport it again with a newer opset."
        ) from error
    return ir.serde.deserialize_model(converted)


def _refuse_quantized(model: ir.Model) -> None:
    found = Counter(
        node.op_type
        for node in model.graph.all_nodes()
        if node.op_type in _QUANTIZED_OPS or node.op_type.startswith(_QUANTIZED_PREFIXES)
    )
    if found:
        operator, count = found.most_common(1)[0]
        raise ModelError(f"the model is already quantized: it has {count} {operator} nodes. Give the float model.")


def _refuse_other_floats(model: ir.Model) -> None:
    types = Counter(output.dtype for node in model.graph for output in node.outputs)
    others = {dtype for dtype in types if dtype in _OTHER_FLOATS}
    if others and not types[ir.DataType.FLOAT]:
        name = min(dtype.name.lower() for dtype in others)
        raise ModelError(
            f"the model computes in {name}; int8 starts from float32. Convert it (module.float()) and export."
        )


def _refuse_hidden_layers(model: ir.Model) -> None:
    """Only nodes of the main graph become int8: where all layers are elsewhere there is nothing to do."""
    if any(node.op_type in _LAYERS for node in model.graph):
        return
    for node in model.graph:
        graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        if any(inner.op_type in _LAYERS for graph in graphs for inner in graph.all_nodes()):
            raise ModelError(
                f"all layers of the model are inside node {node.name!r} ({node.op_type}), and only the main graph "
                "becomes int8. Export the part that you need as a graph of its own"
            )


def _refuse_single_numbers(model: ir.Model) -> None:
    for value in model.graph.inputs:
        if value.shape is not None and not len(value.shape):
            raise ModelError(
                f"input {value.name!r} is a single number, and samples are stacked along the first axis of each input. "
                "Make it a constant of the graph"
            )


def name_of(value: ir.Value | None) -> str:
    """A value's name, "" for an input left out."""
    return (value.name or "") if value is not None else ""


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The array of an initializer, None for anything else."""
    if value is None or not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    return value.const_value.numpy()


def required_constant(node: ir.Node, position: int) -> npt.NDArray[Any]:
    """The array of an operand that the rules have found to be constant."""
    values = constant(node.inputs[position])
    if values is None:
        raise ValueError(f"{node.op_type} {node.name}: operand {position} is no constant")
    return values


def scalar(value: ir.Value | None) -> float | None:
    """The number that an initializer of one element holds, None for anything else."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is known to be float32."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def is_private(value: ir.Value | None) -> bool:
    """Whether a value has exactly one reader and is no output of the graph."""
    return value is not None and len(value.uses()) == 1 and not value.is_graph_output()


def has_input(node: ir.Node, position: int) -> bool:
    """Whether a node has an input at this position: optional ones may be missing or empty."""
    return position < len(node.inputs) and node.inputs[position] is not None


def values_of(graph: ir.Graph) -> dict[str, ir.Value]:
    """Inputs and intermediate values of a graph by name; not its constants."""
    values = {name_of(value): value for value in graph.inputs}
    values.update({name_of(output): output for node in graph for output in node.outputs})
    return values


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all constants."""
    return sum(tensor.nbytes for tensor in _constants(model))


def to_bytes(model: ir.Model) -> bytes:
    """The model as an ONNX file; the same model always gives the same bytes.

    Raises:
        ModelError: it is larger than the 2 GiB that one ONNX file may have, or damaged.
    """
    size = weight_bytes(model)
    if size >= 2**31:
        raise ModelError(f"the model has {size / 2**30:.1f} GiB of weights; a single ONNX file holds at most 2 GiB")
    try:
        data: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelError(f"the graph cannot be written: {' '.join(str(cause).split())[:200]}") from error
    return data


def without_traces(model: ir.Model) -> ir.Model:
    """A copy without what exporters write about origins: stack traces name files of the machine that exported.

    The paths of the modules that nodes come from stay: they name layers.
    """
    copy = model.clone()
    for holder in (copy, copy.graph, *copy.graph):
        path = holder.metadata_props.get(_LAYER_NAMES)
        holder.metadata_props.clear()
        if path and isinstance(holder, ir.Node) and holder.op_type not in _CONVERSIONS:
            holder.metadata_props[_LAYER_NAMES] = path
        holder.doc_string = None
    for node in copy.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*copy.graph.inputs, *copy.graph.initializers.values()):
        value.metadata_props.clear()
    return copy


def _constants(model: ir.Model) -> list[ir.TensorProtocol]:
    return [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]

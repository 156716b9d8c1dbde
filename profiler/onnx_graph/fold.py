"""Evaluates nodes on small tensors whose elements are known: sizes, positions, limits."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx.reference.ops._op_list import load_op

from profiler.onnx_graph.prepare import MOST_FLOATS, MOST_INTEGERS
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.value import FLOATS, Shape
from profiler.sources.onnx_parts import attribute_tensors, is_outside

Array = npt.NDArray[Any]

# Made anew at every run, or large before they are made.
_NEVER = frozenset(
    (
        *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"),
        *("Dropout", "ImageDecoder", "DequantizeLinear", "QuantizeLinear"),
    )
)
# How many come out is known only afterwards, and never more than went in.
_OPEN = frozenset(("NonZero", "Unique", "Compress"))


def size_array(call: NodeCall) -> Array | None:
    """Elements of what `Shape` and `Size` give: known with the size alone."""
    shape = call.inputs[0].shape if call.inputs and call.inputs[0] else None
    if shape is None:
        return None
    if call.op == "Size":
        return np.array(prod(shape), dtype=np.int64)
    return np.array(shape[call.attr("start", 0) : call.attr("end")], dtype=np.int64)


def evaluate(call: NodeCall, domain: str, shapes: Sequence[Shape | None]) -> list[Array] | None:
    """Elements of the outputs, None where they are not known, many, or not ours to compute.

    Args:
        call: the node.
        domain: of its operator.
        shapes: sizes of the outputs, as far as they are known.
    """
    if call.op in ("Shape", "Size"):
        array = size_array(call)
        return None if array is None else [array]
    if domain or call.op in _NEVER or any(v.array is None for v in call.tensors) or _elsewhere(call):
        return None
    floating = any(v.dtype in FLOATS for v in call.tensors) and call.op != "Shape"
    most = MOST_FLOATS if floating else MOST_INTEGERS
    if call.op not in _OPEN and any(s is None or prod(s) > most for s in shapes[: len(call.node.output)]):
        return None
    parameters = {
        "log": lambda *_: None,
        "opsets": {"": call.opset},
        "verbose": 0,
        "new_ops": None,
        "existing_functions": {},
        "evaluator_cls": None,
    }
    try:
        with np.errstate(all="ignore"):
            operator = load_op("", call.op, call.opset)(call.node, parameters)
            results = operator.run(*(None if v is None else v.array for v in call.inputs))
    except Exception:  # noqa: BLE001  # the reference raises whatever numpy raises; the sizes will tell
        return None
    if not all(isinstance(r, np.ndarray) and r.size <= MOST_INTEGERS for r in results):
        return None
    return list(results)


def _elsewhere(call: NodeCall) -> bool:
    """Whether an attribute is a tensor in another file: the reference would look for it in the current folder."""
    return any(is_outside(tensor) for a in call.node.attribute for tensor in attribute_tensors(a))

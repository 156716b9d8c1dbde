"""The float model that everything is compared with: any target as an ONNX graph."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import nn

from profiler.errors import DataError, ModelError
from profiler.sources import OpenedModel, open_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx

    from quant.data import Samples


@dataclass(frozen=True)
class Reference:
    """A float model as ONNX.

    Attributes:
        model: the graph.
        name: what the user called it.
        notes: what was assumed or could not be kept, in sentences.
    """

    model: ir.Model
    name: str
    notes: tuple[str, ...] = ()


def float_reference(
    target: str | Path | nn.Module | OpenedModel | onnx.ModelProto,
    samples: Samples,
    *,
    weights: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Reference:
    """Open a target and bring it to ONNX.

    Args:
        target: whatever `profiler.open_model` opens, a module, or an ONNX graph.
        samples: examples of the model's inputs; a module is exported with the first two.
        weights: a state dict for a factory or a named model.
        kwargs: arguments for a factory or a named model.
        trust: let code in the file run.

    Raises:
        ModelError: it cannot be opened or exported, or has no architecture.
        RefusedError: opening it would run code.
    """
    if isinstance(target, nn.Module):
        return _exported(target, type(target).__name__, samples)
    if not isinstance(target, str | Path | OpenedModel):
        return Reference(ir.serde.deserialize_model(target), target.graph.name or "model")
    if not isinstance(target, OpenedModel):
        target = open_model(target, weights=weights, kwargs=kwargs, trust=trust)
    opened = target
    if opened.module is not None:
        module, notes = _in_single_precision(opened.module)
        exported = _exported(module, opened.target, samples)
        return replace(exported, notes=(*opened.notes, *notes, *exported.notes))
    if opened.graph is not None:
        return Reference(_with_its_weights(opened), opened.target)
    raise ModelError(
        f"{opened.target}: holds tensors without an architecture; name it as FILE.py:factory and pass this file as "
        "--weights"
    )


def _in_single_precision(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """An opened module as the runtime can be given it, and notes: configurations may ask for half precision.

    Raises:
        ModelError: its parameters have no storage.
    """
    missing = next((name for name, p in module.named_parameters() if p.is_meta), None)
    if missing is not None:
        raise ModelError(f"{missing} has no storage: the model is larger than half of the free memory")
    types = {p.dtype for p in module.parameters() if p.is_floating_point()} & {torch.float16, torch.bfloat16}
    if not types:
        return module, ()
    return module.float(), (f"brought from {str(types.pop()).removeprefix('torch.')} to float32",)


def _exported(module: nn.Module, name: str, samples: Samples) -> Reference:
    from quant.export import export_onnx

    _check_fit(module, name, samples)
    examples = tuple(_example(array) for array in samples.inputs.values())
    _check_run(module, name, samples, examples)
    names = None if list(samples.inputs) == ["x"] else list(samples.inputs)
    exported = export_onnx(module, examples, input_names=names)
    return Reference(exported.model, name, exported.notes)


def _check_fit(module: nn.Module, name: str, samples: Samples) -> None:
    """The arrays are handed to `forward` in their order: there must be a parameter for each."""
    forward = inspect.signature(module.forward)
    try:
        forward.bind(*samples.inputs)
    except TypeError as error:
        arrays = ", ".join(map(repr, samples.inputs))
        raise DataError(f"{samples.name}: holds the arrays {arrays}; {name} takes {forward} ({error})") from error


def _example(array: np.ndarray) -> torch.Tensor:
    """Two samples as the model will get them: floating point in single precision."""
    few = torch.from_numpy(array[:2].copy())
    return few.float() if few.dtype == torch.float64 else few


def _check_run(module: nn.Module, name: str, samples: Samples, examples: tuple[torch.Tensor, ...]) -> None:
    """The module has to run on the data before anything is blamed on the exporter."""
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(*examples)
    except Exception as error:
        sizes = ", ".join(f"{key} {tuple(array.shape[1:])} {array.dtype}" for key, array in samples.inputs.items())
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{samples.name}: {name} fails on these samples ({sizes}): {reason}") from error
    finally:
        module.train(training)


def _with_its_weights(opened: OpenedModel) -> ir.Model:
    outside = [t.name for t in _external(opened.graph)] if opened.graph is not None else []
    if outside:
        raise ModelError(f"{opened.target}: keeps {len(outside)} tensors in other files; save it as one file first")
    return ir.serde.deserialize_model(opened.graph)  # type: ignore[arg-type]  # an ONNX target has its graph


def _external(graph: onnx.ModelProto) -> list[Any]:
    return [t for t in graph.graph.initializer if t.data_location == t.EXTERNAL]

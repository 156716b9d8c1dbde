"""The float model that everything is compared with: any target as an ONNX graph."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from profiler.errors import DataError, ModelError
from profiler.sources import OpenedModel, open_model
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.onnx_checks import check_graph
from quant.model_files import check_runs
from quant.stored import graph_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    import onnx_ir as ir

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
    limits: Limits = DEFAULT,
) -> Reference:
    """Open a target and bring it to ONNX.

    Args:
        target: whatever `profiler.open_model` opens, a module, or an ONNX graph.
        samples: examples of the model's inputs; a module is exported with the first two.
        weights: tensors for the network of a factory or a name.
        kwargs: arguments for a factory or a named model.
        trust: let code in the file run, in this process, and take files of tensors that have several names.
        limits: how much the file may ask for.

    Raises:
        ModelError: it cannot be opened or exported, or has no architecture.
        RefusedError: opening it would run code, or read what does not belong to it.
    """
    if isinstance(target, nn.Module):
        return _exported(target, type(target).__name__, samples)
    opened = _opened(target, weights, kwargs, trust, limits)
    if opened.module is not None:
        module, notes = _in_single_precision(opened.module)
        exported = _exported(module, opened.target, samples)
        return replace(exported, notes=(*opened.notes, *notes, *exported.notes))
    if opened.graph is not None:
        check_runs(opened, trust=trust)
        return Reference(graph_of(opened.graph, opened.path, opened.target, trust=trust), opened.target)
    raise ModelError(
        f"{opened.target}: holds tensors without an architecture; name it as FILE.py:factory and pass this file as "
        "--weights"
    )


def _opened(
    target: str | Path | OpenedModel | onnx.ModelProto,
    weights: str | Path | None,
    kwargs: Mapping[str, Any] | None,
    trust: bool,  # noqa: FBT001  # handed on as it came
    limits: Limits,
) -> OpenedModel:
    if isinstance(target, OpenedModel):
        return target
    if isinstance(target, str | Path):
        return open_model(target, weights=weights, kwargs=kwargs, trust=trust, limits=limits)
    name = target.graph.name or "model"
    check_graph(target, name, limits)
    return OpenedModel(name, "onnx", graph=target)


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

    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{name}: is TorchScript, which is not exported; name its factory or an ONNX file of it")
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

"""The float model that everything is compared with: any target as an ONNX graph."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
        samples: examples of the model's inputs; a module is exported with the first few.
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
        exported = _exported(module, opened.target, samples, _declared_batch(opened))
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


def _declared_batch(opened: OpenedModel) -> int | None:
    """How many samples the inputs that the model declares hold: a program may take exactly so many."""
    if opened.inputs is None:
        return None
    declared = opened.inputs({})
    tensors = (v for v in (*declared.args, *declared.kwargs.values()) if isinstance(v, torch.Tensor) and v.dim())
    return next((len(tensor) for tensor in tensors), None)


def _exported(module: nn.Module, name: str, samples: Samples, declared: int | None = None) -> Reference:
    from quant.export import export_onnx

    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{name}: is TorchScript, which is not exported; name its factory or an ONNX file of it")
    _check_fit(module, name, samples)
    examples = _examples(module, name, samples, declared)
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


def _examples(module: nn.Module, name: str, samples: Samples, declared: int | None) -> tuple[torch.Tensor, ...]:
    """Samples that the module runs on, by the first number of them that it takes.

    The module has to run on the data before anything is blamed on the exporter.
    """
    training = module.training
    module.eval()
    failures = []
    few = samples.first(max(2, declared or 1))
    try:
        for batch in (2, 1, declared) if declared else (2, 1):
            examples = tuple(_example(array, batch) for array in few.inputs.values())
            try:
                with torch.no_grad():
                    module(*examples)
            except Exception as error:  # noqa: BLE001  # whatever the model's code raises
                failures.append(error)
            else:
                return examples
    finally:
        module.train(training)
    sizes = ", ".join(f"{key} {tuple(array.shape[1:])} {array.dtype}" for key, array in samples.inputs.items())
    failure = failures[-1 if declared else 0]
    reason = " ".join(str(failure).split())[:200]
    raise DataError(f"{samples.name}: {name} fails on these samples ({sizes}): {reason}") from failure


def _example(array: np.ndarray, count: int) -> torch.Tensor:
    """So many samples, repeated if there are fewer, as the model will get them: floats in single precision."""
    few = torch.from_numpy(array[np.arange(count) % len(array)])
    return few.float() if few.dtype == torch.float64 else few

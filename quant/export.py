"""A torch module as an ONNX graph: for batches of any size where that can be exported, and checked against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from onnx_ir.passes.common import NameFixPass

from profiler.errors import ModelError, NetgaugeError
from quant.agreement import relative_difference
from quant.graph import to_bytes
from quant.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import onnx_ir as ir

OPSET = 20  # the first with Gelu, and understood by every ONNX Runtime from 1.17 on

# The float graph and torch compute the same sums in another order. Beyond this they compute something else.
LARGEST_ERROR = 1e-2

_NOISY_LOGGERS = ("torch.onnx", "torch.fx", "torch.export", "torch._export", "torch._dynamo")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Export:
    """An exported module.

    Attributes:
        model: the graph.
        dynamic_batch: whether axis 0 of every input may have any size.
        error: largest difference to torch's outputs, relative to their largest value.
        notes: what could not be kept, in sentences.
    """

    model: ir.Model
    dynamic_batch: bool
    error: float
    notes: tuple[str, ...] = ()


def export_onnx(
    module: torch.nn.Module,
    example_inputs: Sequence[torch.Tensor],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Export:
    """Export a module in evaluation mode; its own mode is restored.

    Args:
        module: takes tensors whose axis 0 is the batch.
        example_inputs: one tensor per positional argument; any batch size.
        input_names: of the graph; the arguments' own names if None.
        output_names: of the graph; chosen by the exporter if None.

    Raises:
        ModelError: the module cannot be exported, or the graph computes something else.
    """
    with _evaluating(module):
        tensors = tuple(_rows(tensor, 2) for tensor in example_inputs)  # torch would take a batch of one for a constant
        notes: tuple[str, ...] = ()
        dynamic, batches = True, (1, 3, *map(len, example_inputs))
        try:
            model = _convert(module, tensors, input_names, output_names, dynamic=True)
        except _ExportFailedError as failed:
            model, batch = _convert_fixed(module, example_inputs, input_names, output_names)
            notes = (f"exported for a batch of exactly {batch}, because a batch of any size failed: {failed}",)
            dynamic, batches = False, (batch,)
        NameFixPass()(model)
        expected = _outputs(module, example_inputs, batches)
        if dynamic and 1 not in expected:
            compared = " and ".join(map(str, expected))
            notes = (f"torch takes no batch of 1 here; the graph does, and was compared on batches of {compared}",)
        error = _difference(model, example_inputs, expected)
    if not error <= LARGEST_ERROR:
        raise ModelError(
            f"{type(module).__name__}: the exported graph differs from torch by {error:.2g} of the largest output.\n"
            "Is the module random in evaluation mode? Otherwise the exporter has a defect; give an ONNX file instead."
        )
    return Export(model, dynamic_batch=dynamic, error=error, notes=notes)


class _ExportFailedError(Exception):
    """torch's exporter refused; the message is the first cause in one line."""


def _convert_fixed(
    module: torch.nn.Module,
    examples: Sequence[torch.Tensor],
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> tuple[ir.Model, int]:
    """Export for a batch of one or, where the module wants several, for as many as the examples have."""
    batches = sorted({1, *(len(tensor) for tensor in examples)})
    for batch in batches:
        tensors = tuple(_rows(tensor, batch) for tensor in examples)
        try:
            return _convert(module, tensors, input_names, output_names, dynamic=False), batch
        except _ExportFailedError as failed:
            reason = failed
    raise ModelError(
        f"{type(module).__name__} cannot be exported to ONNX: {reason}\n"
        "Make torch.export.export(module, inputs) work, or give an ONNX file instead."
    ) from reason.__cause__


def _convert(
    module: torch.nn.Module,
    tensors: tuple[torch.Tensor, ...],
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    *,
    dynamic: bool,
) -> ir.Model:
    batch = {0: torch.export.Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tensors,
                dynamo=True,
                opset_version=OPSET,
                verbose=False,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=tuple(batch for _ in tensors) if dynamic else None,
            )
    except Exception as error:  # exporters raise whatever the model's code raises
        raise _ExportFailedError(_first_cause(error)) from error
    if program is None:
        raise _ExportFailedError("torch's exporter returned nothing")
    return program.model


def _first_cause(error: BaseException) -> str:
    """The first line of the innermost exception: what went wrong, without the exporter's advice around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    lines = [line.strip(" -") for line in _ANSI.sub("", str(error)).splitlines() if line.strip()]
    if isinstance(error, NetgaugeError):
        return lines[0]
    told = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    return f"{type(error).__name__}: {told[:300]}" if told else type(error).__name__


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for the whole module; afterwards every submodule is as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about itself: log lines, deprecations of its own calls, printed progress."""
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _outputs(
    module: torch.nn.Module, examples: Sequence[torch.Tensor], batches: Sequence[int]
) -> dict[int, list[np.ndarray]]:
    """What torch gives, by batch: those that the module takes, as an exported program may be for two or more only.

    Raises:
        ModelError: it takes none.
    """
    found: dict[int, list[np.ndarray]] = {}
    reason = ""
    for batch in sorted(set(batches)):
        try:
            with torch.no_grad():
                output = module(*(_rows(tensor, batch) for tensor in examples))
        except Exception as error:  # noqa: BLE001  # whatever the model's code raises
            reason = _first_cause(error)
        else:
            found[batch] = [leaf.cpu().numpy() for leaf in _tensors(output)]
    if not found:
        raise ModelError(f"{type(module).__name__} fails on its example inputs: {reason}")
    return found


def _difference(
    model: ir.Model, examples: Sequence[torch.Tensor], expected: Mapping[int, Sequence[np.ndarray]]
) -> float:
    """Largest difference between torch and ONNX Runtime over all outputs, relative to each output's largest value."""
    session = open_session(to_bytes(model))
    largest = 0.0
    for batch, outputs in expected.items():
        tensors = (_rows(tensor, batch).cpu().numpy() for tensor in examples)
        got = session.run(dict(zip(session.input_names, tensors, strict=True)))
        if [out.shape for out in got] != [out.shape for out in outputs]:
            return float("inf")
        largest = max([largest, *(relative_difference(a, b) for a, b in zip(outputs, got, strict=True))])
    return largest


def _rows(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` rows, repeated from the start where there are fewer."""
    return tensor[torch.arange(count) % len(tensor)]


def _tensors(output: Any) -> list[torch.Tensor]:  # noqa: ANN401  # whatever the module returns
    leaves = torch.utils._pytree.tree_leaves(output)  # noqa: SLF001  # the public alias is missing in torch 2.10
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

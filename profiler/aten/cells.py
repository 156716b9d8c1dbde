"""Recurrences step by step: single cells, and the packing of sequences of different lengths."""

from typing import Any

import torch

from profiler.aten.allocate import FLOATS, empty
from profiler.aten.call import Call, Cost, Operator, Shape
from profiler.formulas.recurrent import GATES, Recurrence


def _cell_sizes(call: Call) -> Recurrence:
    kind = call.packet.removeprefix("aten.").removesuffix("_cell")
    *batch, features = call.shape("input")
    return Recurrence(
        kind=kind,
        steps=batch[0] if batch else 1,
        features=features,
        hidden=call.shape("w_hh")[0] // GATES[kind],
        bias=call["b_ih"] is not None,
    )


def _cell_cost(call: Call) -> Cost:
    sizes = _cell_sizes(call)
    return Cost(sizes.macs(), sizes.flops())


def _cell_shape(call: Call) -> Shape:
    return (*call.shape("input")[:-1], _cell_sizes(call).hidden)


def _stepped(call: Call, shape: Shape) -> Any:  # noqa: ANN401  # a state, or an LSTM's two
    dtype = call.first.dtype
    if dtype not in FLOATS or any(t.dtype is not dtype for t in call.tensors):
        return None
    if call.packet == "aten.lstm_cell":
        return empty(shape, dtype), empty(shape, dtype)
    return empty(shape, dtype)


def _known(lengths: torch.Tensor) -> bool:
    return not lengths.is_meta and lengths.dim() == 1 and lengths.numel() > 0


def _packed_shape(call: Call) -> Shape | None:
    """All steps of all sequences in one row."""
    lengths, size = call["lengths"], call.shape("input")
    if not _known(lengths) or lengths.numel() != size[0 if call["batch_first"] else 1]:
        return None
    return (int(lengths.sum()), *size[2:])


def _packed(call: Call, shape: Shape) -> Any:  # noqa: ANN401  # the steps, and how many sequences have each
    lengths = call["lengths"]
    steps = torch.arange(int(lengths.max()))
    return empty(shape, call.first.dtype), (lengths[None] > steps[:, None]).sum(1)


def _unpacked_shape(call: Call) -> Shape | None:
    sizes = call["batch_sizes"]
    if not _known(sizes) or int(sizes.sum()) != call.shape("data")[0]:
        return None
    steps, batch = max(len(sizes), int(call["total_length"])), int(sizes[0])
    first = (batch, steps) if call["batch_first"] else (steps, batch)
    return (*first, *call.shape("data")[1:])


def _unpacked(call: Call, shape: Shape) -> Any:  # noqa: ANN401  # the sequences, and their lengths
    """Batch first is a view of time first."""
    sizes = call["batch_sizes"]
    dtype = call.first.dtype
    lengths = (sizes[None] > torch.arange(int(sizes[0]))[:, None]).sum(1)
    if not call["batch_first"]:
        return empty(shape, dtype), lengths
    return empty((shape[1], shape[0], *shape[2:]), dtype).transpose(0, 1), lengths


CELL = Operator("recurrence", "Recurrence", _cell_cost, _cell_shape, _stepped)

TABLE = {
    **{f"aten.{kind}_cell": CELL for kind in GATES},
    "aten._pack_padded_sequence": Operator("movement", "Data movement", None, _packed_shape, _packed),
    "aten._pad_packed_sequence": Operator("movement", "Data movement", None, _unpacked_shape, _unpacked),
    "aten.pad_sequence": Operator("movement", "Data movement", None),
}

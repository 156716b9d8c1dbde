"""Along which axes of its inputs a model's receptive fields are followed."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from profiler.aten.call import Call
from profiler.mode import field_of
from profiler.step import Step, Visitor

MOST_TRACED = 4
# Operators that take the last axis for features, and those that take one before the spatial axes for channels.
_RECURRENT = frozenset(f"aten.{name}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"))
_FEATURES_LAST = _RECURRENT | frozenset(
    f"aten.{name}" for name in ("linear", "layer_norm", "rms_norm", "scaled_dot_product_attention")
)
_CHANNELS_FIRST = {
    **{f"aten.conv{n}d": n for n in (1, 2, 3)},
    **{f"aten.conv_transpose{n}d": n for n in (1, 2, 3)},
    **{f"aten.{kind}_pool{n}d": n for kind in ("avg", "max", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)},
}
_CHANNELS_SECOND = frozenset(f"aten.{name}" for name in ("batch_norm", "instance_norm", "group_norm"))


def input_axes(shape: Sequence[int], dtype: torch.dtype, sequence: int | None = None) -> tuple[int, ...]:
    """Axes of an input along which receptive fields are followed.

    All after batch and channels, or those of a sequence of integer tokens (batch, tokens).

    Args:
        shape: of the input.
        dtype: of the input.
        sequence: the axis of the tokens where floating-point inputs are (batch, tokens, features).
    """
    if len(shape) == 3 and sequence is not None and dtype.is_floating_point:
        return (sequence,)
    if len(shape) > 2:
        return tuple(range(2, len(shape)))
    return (1,) if len(shape) == 2 and not dtype.is_floating_point else ()


def traced_inputs(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The inputs that receptive fields refer to: pictures, sounds and the like, else the first sequence of tokens.

    Beside floating-point inputs, integers are lengths and masks.
    """
    spatial = [t for t in inputs if input_axes(t.shape, t.dtype)]
    return [t for t in spatial if t.is_floating_point()][:MOST_TRACED] or spatial[:1]


def ambiguous(inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the inputs' sizes leave open which axis is that of the features: (batch, ?, ?)."""
    traced = traced_inputs(inputs)
    return bool(traced) and all(t.dim() == 3 and t.is_floating_point() for t in traced)


class Settled(BaseException):  # no error, and no model may catch it: the question is answered
    """Which axis of (batch, ?, ?) is that of the tokens; None where the last one is spatial."""

    def __init__(self, sequence: int | None) -> None:
        super().__init__()
        self.sequence = sequence


# Layers by which a model shows, before it runs, how it takes its inputs.
_TELLING: tuple[tuple[tuple[type[nn.Module], ...], int | None], ...] = (
    ((nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention, nn.RNNBase), 1),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm), None),
)


def likely_sequence(modules: Iterable[nn.Module]) -> int | None:
    """The axis of the tokens of (batch, ?, ?) as the first layers would have it; which one runs first is not known."""
    for module in modules:
        for kinds, sequence in _TELLING:
            if isinstance(module, kinds):
                return 0 if isinstance(module, nn.RNNBase) and not module.batch_first else sequence
    return None


class Settling:
    """Looks at the steps of a walk until the first operator that tells features apart.

    Args:
        likely: the axis of the tokens along which the walk follows its inputs; None for the last one.
        visit: what is shown the steps; None where the axis is all that is asked for.

    Attributes:
        settled: whether an operator has borne out the likely axis.
    """

    def __init__(self, likely: int | None, visit: Visitor | None) -> None:
        self._likely = likely
        self._visit = visit
        self.settled = False

    def __call__(self, step: Step) -> None:
        """Show a step.

        Raises:
            Settled: the walk follows the wrong axis, or there is nothing else to be known.
        """
        if not self.settled:
            self._look(step.call)
        if self._visit is not None:
            self._visit(step)

    def end(self) -> None:
        """The walk has come to its end.

        Raises:
            Settled: nothing told features apart, and the walk did not follow the last axis.
        """
        if not self.settled and self._likely is not None:
            raise Settled(None)

    def _look(self, call: Call) -> None:
        field = field_of(call.first) if call.tensors else None
        if field is None:
            return
        rank = len(field.layout)
        if call.packet in _FEATURES_LAST:
            features = rank - 1
        elif call.packet in _CHANNELS_FIRST:
            features = rank - 1 - _CHANNELS_FIRST[call.packet]
        elif call.packet in _CHANNELS_SECOND:
            features = 1
        else:
            return
        for view in field.true:
            axis = field.axis_of(view)
            if axis is not None:
                tokens = 0 if call.packet in _RECURRENT and not call.get("batch_first") else 1
                sequence = tokens if (axis == features) is (self._likely is None) else None
                if self._visit is None or sequence != self._likely:
                    raise Settled(sequence)
                self.settled = True
                return

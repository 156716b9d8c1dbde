"""LSTM, GRU and Elman networks, any number of layers and directions.

Each step of each direction multiplies the input and the previous state by one matrix per gate; the element-by-element
work of a step is spelled out in `ELEMENTWISE`, in operations per hidden unit, beside the biases.
"""

from dataclasses import dataclass

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

# Operations per hidden unit and step.
# LSTM: joining the two products of 4 gates (4), 3 sigmoids (12), tanh of candidate and cell (2), f*c + i*g (3),
#       o * tanh(c) (1).
# GRU:  joining reset and update (2), r * (W h) (1), joining the candidate (1), 2 sigmoids (8), tanh (1),
#       (1 - z) * n + z * h (4).
# Elman: joining the products (1), tanh or ReLU (1).
ELEMENTWISE = {"lstm": 22, "gru": 17, "rnn_tanh": 2, "rnn_relu": 2}


@dataclass(frozen=True)
class Recurrence:
    """Sizes of a recurrent network as PyTorch defines it.

    Attributes:
        kind: a key of `GATES`.
        steps: time steps times batch (for packed sequences: the sum of the lengths).
        features: width of the input.
        hidden: width of the hidden state.
        layers: stacked layers.
        directions: 1, or 2 when bidirectional.
        projection: width of the projected state of an LSTM with `proj_size`, else 0.
        bias: whether there are the two bias vectors per gate.
    """

    kind: str
    steps: int
    features: int
    hidden: int
    layers: int = 1
    directions: int = 1
    projection: int = 0
    bias: bool = True

    @property
    def state(self) -> int:
        """Width of the state that is fed back and handed on."""
        return self.projection or self.hidden

    def macs(self) -> int:
        """Multiply-accumulates of all steps, layers and directions."""
        total = 0
        for layer in range(self.layers):
            width = self.features if layer == 0 else self.state * self.directions
            step = GATES[self.kind] * self.hidden * (width + self.state) + self.projection * self.hidden
            total += step * self.directions
        return total * self.steps

    def flops(self) -> int:
        """Two per MAC, two bias additions per gate and unit, and the element-by-element work."""
        units = self.steps * self.layers * self.directions * self.hidden
        return 2 * self.macs() + units * (ELEMENTWISE[self.kind] + (2 * GATES[self.kind] if self.bias else 0))

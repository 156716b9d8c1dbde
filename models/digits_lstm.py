"""A recurrent network that reads 32x32 pictures of digits row by row."""

import torch
from torch import nn


class DigitsLSTM(nn.Module):
    """Pictures (N, 1, 32, 32), as 32 steps of 32 pixels, to scores (N, 10)."""

    example_input_array = torch.zeros(1, 1, 32, 32)

    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.lstm = nn.LSTM(32, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the ten digits, from the state after the last row."""
        rows, _ = self.lstm(x.squeeze(1))
        return self.head(rows[:, -1])


def digits_lstm() -> DigitsLSTM:
    """The network without weights; they are in `digits_lstm.safetensors`."""
    return DigitsLSTM()

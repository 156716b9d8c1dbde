"""A plain convolutional network of stock layers, for 32x32 pictures of digits.

It is saved whole, as `digits_cnn.pt`: every class in it is torch's own, so the file opens without this one.
"""

from torch import nn


def digits_cnn() -> nn.Sequential:
    """Three blocks of two convolutions; the flattened head fixes the picture's size to 32x32. 53,146 parameters."""
    return nn.Sequential(
        *_block(1, 16),
        nn.MaxPool2d(2),
        *_block(16, 32),
        nn.MaxPool2d(2),
        *_block(32, 48),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(48 * 2 * 2, 10),
    )


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]

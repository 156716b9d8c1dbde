"""A network of inverted residuals (Sandler et al. 2018, MobileNetV2), for 32x32 pictures of digits."""

import torch
from torch import nn


def _unit(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel by itself, narrow again; add the input where sizes allow."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = channels_in * widening
        self.adds = stride == 1 and channels_in == channels_out
        self.layers = nn.Sequential(
            *_unit(channels_in, wide, 1),
            nn.ReLU6(),
            *_unit(wide, wide, 3, stride, groups=wide),
            nn.ReLU6(),
            *_unit(wide, channels_out, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        out = self.layers(x)
        return x + out if self.adds else out


class DigitsMobile(nn.Module):
    """Pictures (N, 1, 32, 32) to scores (N, 10)."""

    example_input_array = torch.zeros(1, 1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_unit(1, 16, 3), nn.ReLU6())
        self.blocks = nn.Sequential(
            InvertedResidual(16, 16, 1, 2),
            InvertedResidual(16, 32, 2, 4),
            InvertedResidual(32, 32, 1, 4),
            InvertedResidual(32, 48, 2, 4),
            InvertedResidual(48, 48, 1, 4),
        )
        self.head = nn.Sequential(*_unit(48, 128, 1), nn.ReLU6())
        self.classifier = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the ten digits."""
        return self.classifier(self.head(self.blocks(self.stem(x))).mean((2, 3)))


def digits_mobile() -> DigitsMobile:
    """The network without weights; they are in `digits_mobile.safetensors`."""
    return DigitsMobile()

"""A U-Net (Ronneberger et al. 2015) that finds the inked pixels in noisy 32x32 pictures of digits."""

import torch
from torch import nn


def _double(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class DigitsUNet(nn.Module):
    """Pictures (N, 1, 32, 32) to scores (N, 2, 32, 32): paper and ink."""

    example_input_array = torch.zeros(1, 1, 32, 32)

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1, self.down2 = _double(1, width), _double(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.bottom = _double(2 * width, 3 * width)
        self.up2 = nn.ConvTranspose2d(3 * width, 2 * width, 2, stride=2)
        self.merge2 = _double(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = _double(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of paper and ink for every pixel."""
        fine = self.down1(x)
        coarse = self.down2(self.pool(fine))
        x = self.merge2(torch.cat([coarse, self.up2(self.bottom(self.pool(coarse)))], 1))
        return self.head(self.merge1(torch.cat([fine, self.up1(x)], 1)))


def digits_unet() -> DigitsUNet:
    """The network without weights; they are in `digits_unet.safetensors`."""
    return DigitsUNet()

"""Sizes of a transformers model's inputs: those that its configuration fixes, and what is taken for the others."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import nn

TOKENS, SIDE, SAMPLES, FRAMES, WINDOWS = 16, 224, 16000, 16, 128


class Sizes:
    """What a configuration says of sizes, and what is taken where it does not.

    Attributes:
        config: the model's.
        given: free sizes by name.
        dtype: of floating-point inputs.
    """

    def __init__(self, model: nn.Module) -> None:
        self.config: Any = model.config
        self.given: Mapping[str, int] = {}
        floats = (p.dtype for p in model.parameters() if p.is_floating_point())
        self.dtype = next(floats, torch.float32)

    def default(self, dim: str) -> int:
        """A free size where none is given."""
        height, width = self._side()
        return {
            "tokens": TOKENS, "height": height, "width": width, "frames": self.frames, "samples": SAMPLES,
            "windows": WINDOWS,
        }[dim]  # fmt: skip

    def find(self, *names: str, among: str = "") -> Any:  # noqa: ANN401  # any value
        """The first of these attributes that the configuration has, or one nested in it does.

        Args:
            names: of the attributes.
            among: only nested configurations with this word in their name.
        """
        for config in self._configs(among):
            for name in names:
                value = getattr(config, name, None)
                if value is not None:
                    return value
        return None

    def whole(self, *names: str) -> int | None:
        """The same, where it is a whole number above 0."""
        value = self.find(*names)
        return value if type(value) is int and value > 0 else None

    def _configs(self, among: str) -> Iterator[Any]:
        yield self.config
        for name, value in vars(self.config).items():
            if among in name and hasattr(value, "to_dict") and not name.startswith("_"):
                yield value

    @property
    def films(self) -> bool:
        """Whether pixels are those of a film: (batch, frames, channels, height, width)."""
        return type(getattr(self.config, "num_frames", None)) is int

    @property
    def frames(self) -> int:
        """Pictures in a film."""
        return self.whole("num_frames", "frames_per_clip") or FRAMES

    def _side(self) -> tuple[int, int]:
        """Height and width of a picture."""
        size = self.find("image_size", "crop_size", "img_size")
        if isinstance(size, Mapping):
            size = [size.get("height"), size.get("width")]
        pair = list(size) if isinstance(size, tuple | list) and len(size) == 2 else [size, size]
        if all(type(n) is int and n > 0 for n in pair):
            return pair[0], pair[1]
        return SIDE, SIDE

    def floats(self, *shape: int) -> torch.Tensor:
        """An input without storage."""
        return torch.empty((self.given["batch"], *shape), dtype=self.dtype, device="meta")

    def ids(self, vocabulary: int) -> torch.Tensor:
        """Tokens that mean nothing special, the last one the end of the text where there is such a token."""
        special = set(self._special(self.config))
        plain = list(islice((n for n in range(vocabulary) if n not in special), 3, 1003)) or [0]
        batch, tokens = self.given["batch"], self.given["tokens"]
        row = [plain[n % len(plain)] for n in range(tokens)]
        end = self.find("eos_token_id")
        if type(end) is int and 0 <= end < vocabulary:
            row[-1] = end
        return torch.tensor(row).expand(batch, tokens).contiguous()

    def _special(self, config: Any) -> Iterator[int]:  # noqa: ANN401  # a configuration
        for name, value in vars(config).items():
            if name.endswith(("_token_id", "_token_index")):
                yield from [n for n in (value if isinstance(value, list) else [value]) if type(n) is int]
            elif hasattr(value, "to_dict"):
                yield from self._special(value)

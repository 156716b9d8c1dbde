"""The networks of the GPU benchmark as ONNX files in float32, float16 and int8, with random weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from _common import declare_torchvision_operators
from torch import nn

from quant.calibrate import observe
from quant.export import export_onnx
from quant.graph import prepare, to_bytes, without_traces
from quant.half import to_float16
from quant.place import cpu, qdq
from quant.place.lower import lower

TOKENS = 128
VOCABULARY = 30522
Built = tuple[nn.Module, dict[str, torch.Tensor]]
Feed = Mapping[str, np.ndarray]


class Encoder(nn.Module):
    """The sentence encoder all-MiniLM-L6-v2 without its weights: BERT's blocks and the masked mean of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        self.bert = BertModel(BertConfig(**sizes), add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _tiny() -> Built:
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return network, _images(32)


def _torchvision(name: str) -> Callable[[], Built]:
    def build() -> Built:
        declare_torchvision_operators()
        from torchvision import models

        return models.get_model(name, weights=None), _images(224)

    return build


def _minilm() -> Built:
    declare_torchvision_operators()
    ids = torch.randint(VOCABULARY, (2, TOKENS))
    return Encoder(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _images(size: int) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(2, 3, size, size)}


NETWORKS: dict[str, Callable[[], Built]] = {
    "resnet50": _torchvision("resnet50"),
    "mobilenet_v3": _torchvision("mobilenet_v3_large"),
    "vit_b_16": _torchvision("vit_b_16"),
    "minilm_l6": _minilm,
    "tiny": _tiny,  # to try the script itself
}
PRECISIONS = ("float32", "float16", "int8")


def write_files(name: str, folder: Path) -> dict[str, int]:
    """Write the network in all precisions as `NAME.PRECISION.onnx`; returns the files' sizes."""
    torch.manual_seed(0)
    module, examples = NETWORKS[name]()
    exported = export_onnx(module.eval(), tuple(examples.values()), input_names=list(examples))
    graph = prepare(exported.model)
    feed = {key: value.numpy() for key, value in examples.items()}

    def batches() -> list[Feed]:
        return [feed]

    files = {
        "float32": to_bytes(without_traces(graph)),
        "float16": to_float16(graph, batches).file,
    }
    lowered = lower(graph)
    plans = cpu.candidates(lowered.graph)
    plan = plans.get("static", plans[cpu.FULL])
    ranges = observe(lowered, batches, plan.observed)
    files["int8"] = to_bytes(without_traces(qdq.apply(plan, lowered, ranges)))
    for precision, content in files.items():
        (folder / f"{name}.{precision}.onnx").write_bytes(content)
    return {precision: len(content) for precision, content in files.items()}


def inputs(names: tuple[str, ...], shapes: tuple[tuple[int | str | None, ...], ...], batch: int) -> list[Feed]:
    """A few random inputs of so many samples: images are standard normal, tokens are words, masks are full."""
    rng = np.random.default_rng(0)
    return [
        {
            name: _draw(rng, name, (batch, *(size for size in shape[1:] if isinstance(size, int))))
            for name, shape in zip(names, shapes, strict=True)
        }
        for _ in range(4 if batch > 1 else 8)
    ]


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "attention_mask":
        return np.ones(shape, np.int64)
    if name == "input_ids":
        return rng.integers(0, VOCABULARY, shape)
    return rng.standard_normal(shape, dtype=np.float32)

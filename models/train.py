"""Trains the reference networks on scikit-learn's handwritten digits: `python models/train.py [NAME ...]`.

Only the training split is looked at; the evaluation split gives the table in README.md, once, at the end. The same
seed, versions and number of threads give the same weights.
"""

import importlib
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from quant.data import digits as data  # noqa: E402  # the checkout's folder has to be on the path first

# Name: (epochs, peak learning rate, built-in set).
RECIPES = {
    "digits_cnn": (40, 4e-3, data.digits),
    "digits_mobile": (60, 4e-3, data.digits),
    "digits_resnet": (40, 4e-3, data.digits),
    "digits_vit": (120, 2e-3, data.digits),
    "digits_lstm": (100, 4e-3, data.digits),
    "digits_unet": (40, 4e-3, data.digits_ink),
}
BATCH = 50
SHIFT = 3
SEED = 0
START, END = "<!-- table: written by train.py -->", "<!-- end of table -->"


def shifted(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures, and label maps with them, moved by up to SHIFT pixels each way; zeros come in at the border."""
    padded = F.pad(x, (SHIFT,) * 4)
    maps = F.pad(y, (SHIFT,) * 4) if y.dim() == 3 else None
    moves = torch.randint(0, 2 * SHIFT + 1, (len(x), 2), generator=generator).tolist()
    size = x.shape[-1]
    pictures = torch.stack([p[:, dy : dy + size, dx : dx + size] for p, (dy, dx) in zip(padded, moves, strict=True)])
    if maps is None:
        return pictures, y
    labels = torch.stack([m[dy : dy + size, dx : dx + size] for m, (dy, dx) in zip(maps, moves, strict=True)])
    return pictures, labels


def trained(name: str) -> nn.Module:
    """A network after its recipe: AdamW, one learning-rate cycle, label smoothing, small shifts."""
    epochs, rate, source = RECIPES[name]
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    samples = source("train")
    x, y = torch.from_numpy(samples.inputs["x"]), torch.from_numpy(samples.labels)
    model = getattr(importlib.import_module(name), name)()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    steps = epochs * len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(BATCH):
            pictures, labels = shifted(x[chosen], y[chosen], generator)
            loss = F.cross_entropy(model(pictures), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def save(name: str, model: nn.Module) -> Path:
    """Write the weights: digits_cnn whole, the others as safetensors."""
    if name == "digits_cnn":
        torch.save(model, HERE / f"{name}.pt")
        return HERE / f"{name}.pt"
    save_file(model.state_dict(), HERE / f"{name}.safetensors")
    return HERE / f"{name}.safetensors"


def row(name: str, model: nn.Module, path: Path) -> str:
    """One line of the table: accuracy on the evaluation split, for the U-Net over pixels, with the mean IoU."""
    samples = RECIPES[name][2]("evaluation")
    with torch.no_grad():
        predicted = model(torch.from_numpy(samples.inputs["x"])).argmax(1).numpy()
    accuracy = f"{(predicted == samples.labels).mean():.4f}"
    if samples.task == "segmentation":
        masks = [(predicted == c, samples.labels == c) for c in (0, 1)]
        iou = np.mean([(p & t).sum() / (p | t).sum() for p, t in masks])
        accuracy += f" of pixels, mean IoU {iou:.4f}"
    parameters = sum(p.numel() for p in model.parameters())
    return (
        f"| `{name}` | {accuracy} | {parameters:,} | {path.stat().st_size / 1024:.0f} KiB | {samples.name.split()[0]} |"
    )


def main(names: list[str]) -> None:
    """Train what is named, or all, and write the rows into README.md."""
    torch.set_num_threads(2)
    readme = HERE / "README.md"
    head, rest = readme.read_text().split(START)
    body, tail = rest.split(END)
    rows = {line.split("`")[1]: line for line in body.splitlines() if line.startswith("| `")}
    for name in names or RECIPES:
        begun = time.perf_counter()
        model = trained(name)
        rows[name] = row(name, model, save(name, model))
        print(rows[name], f"{time.perf_counter() - begun:.0f} s", flush=True)
    columns = "| network | accuracy on the evaluation split | parameters | file | data |\n|---|---|---|---|---|\n"
    lines = "\n".join(rows[name] for name in RECIPES if name in rows)
    readme.write_text(f"{head}{START}\n{columns}{lines}\n{END}{tail}")


if __name__ == "__main__":
    main(sys.argv[1:])

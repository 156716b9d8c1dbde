"""The scripts of benchmarks/zoo, importable as they import each other."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "zoo"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The folder on the path, one thread, nothing looked up on the network; skipped where a zoo is missing."""
    for package in ("torchvision", "timm", "transformers"):
        # Not importorskip: torchvision raises where its binary part does not fit, which `zoos.load` gets around.
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

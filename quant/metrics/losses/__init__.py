"""Losses as metrics of degradation: lower is better, the first model's beside the second's.

Every module holds the functions of one kind of loss, on arrays, and the families that make metrics of them. Which
outputs and labels a loss takes are its parameters; docs/metrics_losses.md lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant.metrics.losses import (
    adversarial,
    combined,
    cross_entropy,
    embeddings,
    focal,
    generative,
    margins,
    multibin,
    overlap,
    probabilistic,
    regression,
    sequences,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Family

_MODULES = (
    regression,
    probabilistic,
    cross_entropy,
    margins,
    focal,
    overlap,
    embeddings,
    sequences,
    generative,
    adversarial,
    multibin,
    combined,
)

LOSSES: Mapping[str, Family] = {name: family for module in _MODULES for name, family in module.FAMILIES.items()}

__all__ = ["LOSSES"]

"""The metrics of classification, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quant.metrics.base import Family

CLASSIFICATION: Mapping[str, Family] = {}

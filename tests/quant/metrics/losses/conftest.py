"""A loss on arrays, given to its metric in batches."""

import numpy as np
import pytest

from quant.metrics.base import Evaluated
from quant.metrics.evaluate import kind_of
from quant.metrics.losses import LOSSES


def by_name(arrays, name):
    """Arrays by name from one array, a mapping or None."""
    if arrays is None:
        return {}
    return {k: np.asarray(v) for k, v in (arrays if isinstance(arrays, dict) else {name: arrays}).items()}


class Measured:
    """Metrics of losses, built and fed."""

    def batches(self, outputs, labels=None, *, reference=None, inputs=None, sizes=(10**9,)):
        arrays = [by_name(a, n) for a, n in ((outputs, "out"), (labels, "y"), (inputs, "x"), (reference, "out"))]
        kinds = {name: kind_of(array) for name, array in arrays[0].items()}
        n, start = len(next(iter(arrays[0].values()))), 0
        turns = list(sizes)
        while start < n:
            end = min(n, start + turns[0])
            turns = [*turns[1:], turns[0]]
            parts = [{k: v[start:end] for k, v in group.items()} for group in arrays]
            positions = np.arange(start, end)
            yield Evaluated(parts[0], parts[1], inputs=parts[2], reference=parts[3], kinds=kinds, positions=positions)
            start = end

    def records(self, metric, *arrays, **further):
        parts = [metric.collect(batch) for batch in self.batches(*arrays, **further)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def __call__(self, name, outputs, labels=None, *, reference=None, inputs=None, sizes=(10**9,), **parameters):
        metric = LOSSES[name].build(**parameters)
        found = self.records(metric, outputs, labels, reference=reference, inputs=inputs, sizes=sizes)
        return metric.value(found)


@pytest.fixture(scope="session")
def loss():
    return Measured()


@pytest.fixture
def rng():
    return np.random.default_rng(0)

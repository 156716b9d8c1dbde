"""What holds for every loss: batches do not matter, parameters are what the registry says, missing labels are named."""

import subprocess
import sys

import numpy as np
import pytest

from profiler.errors import UsageError
from quant.metrics.base import Draws
from quant.metrics.losses import _MODULES, LOSSES

R = np.random.default_rng(7)
N = 11
Z, E = R.normal(size=(N, 4)).astype(np.float32), R.normal(size=(N, 3)).astype(np.float32)
CLASSES, BITS = np.append([0, 1, 1], R.integers(0, 4, N - 3)), np.append([0, 1], R.integers(0, 2, N - 2))
SEQUENCES = {"targets": R.integers(1, 4, (N, 2)) * [[1, 0]] + [[0, 1]], "lengths": R.integers(0, 3, N)}
SEQUENCES["targets"][:, 0] = R.integers(2, 4, N)

# Outputs, labels, parameters, and what else the batch holds.
EXAMPLES = {
    **{name: (E, E + 1, {}, {}) for name in ("mse", "mae", "rmse", "r2", "huber", "smooth_l1")},
    "bce": (E, BITS[:, None] * [1, 0, 1], {}, {}),
    "kl_divergence": (Z, None, {}, {"reference": Z[:, ::-1]}),
    **{name: (Z, CLASSES, {}, {}) for name in ("ce", "sparse_ce", "multiclass_hinge", "dice_loss")},
    "hinge": (E[:, 0], 2 * BITS - 1, {}, {}),
    **{name: (E[:, 0], BITS, {}, {}) for name in ("focal", "focal_effective_samples", "focal_weight_entropy")},
    **{name: (E, CLASSES, {}, {}) for name in ("contrastive", "triplet", "infonce")},
    "ctc": (R.normal(size=(N, 5, 4)).astype(np.float32), SEQUENCES, {}, {}),
    "elbo": ({"x": Z, "m": E, "v": E}, None, {}, {"inputs": Z + 1}),
    "perceptual": ({"f": Z, "g": E}, None, {}, {"reference": {"f": Z + 1, "g": E * 2}}),
    **{name: (E[:, 0], BITS, {}, {}) for name in LOSSES if "gan" in name},
    "multibin": ({"c": Z, "t": Z}, E[:, 0], {}, {}),
    "weighted": (Z, CLASSES, {"losses": "ce+focal/gamma=1", "weights": "1,2"}, {}),
    "uncertainty": (Z, CLASSES, {"losses": "ce+ce/weight=balanced", "sigmas": "1,2"}, {}),
}


def test_every_loss_has_an_example_and_a_name_of_its_own():
    assert set(EXAMPLES) == set(LOSSES)
    assert sum(len(module.FAMILIES) for module in _MODULES) == len(LOSSES)
    assert {name for name, family in LOSSES.items() if family.build(**EXAMPLES[name][2]).higher_is_better} == {"r2"}


@pytest.fixture(params=list(EXAMPLES))
def example(request):
    return request.param, *EXAMPLES[request.param]


def test_batches_do_not_change_the_value(loss, example):
    name, outputs, labels, options, further = example
    values = [loss(name, outputs, labels, sizes=sizes, **further, **options) for sizes in ((N,), (1,), (2, 5))]
    assert np.isfinite(values).all()
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


def test_parameters_are_those_of_the_registry(loss, example):
    name, outputs, labels, options, further = example
    defaults = {parameter: p.default for parameter, p in LOSSES[name].parameters.items()}
    expected = loss(name, outputs, labels, **further, **options)
    assert loss(name, outputs, labels, **further, **{**defaults, **options}) == expected
    for parameter in LOSSES[name].parameters.values():
        assert parameter.help
        assert not parameter.choices or parameter.default in parameter.choices
    with pytest.raises(TypeError):
        LOSSES[name].build(no_such_parameter=1, **options)


def test_missing_labels_are_named(loss, example):
    name, outputs, labels, options, further = example
    needs = LOSSES[name].build(**options).needs
    assert bool(needs) == (labels is not None)
    for label in needs:
        with pytest.raises(UsageError, match=f"the labels '{label}' are needed, and the data has 'other'"):
            loss(name, outputs, {"other": np.zeros(N)}, **further, **options)
        break


def test_equal_weights_give_the_value_and_equal_models_no_drop(loss, example):
    name, outputs, labels, options, further = example
    metric = LOSSES[name].build(**options)
    records = loss.records(metric, outputs, labels, **further)
    assert {len(record) for record in records} == {N}
    assert metric.resampled(records, np.ones((2, N))) == pytest.approx([metric.value(records)] * 2)
    interval, method = metric.interval(records, records, Draws(N, seed=0, resamples=20))
    assert interval is None
    assert method.startswith("none: ")


def test_half_precision_and_integers_are_taken(loss, example):
    name, outputs, labels, options, further = example
    narrow, back = {}, {}
    for key, value in (outputs if isinstance(outputs, dict) else {"out": outputs}).items():
        narrow[key] = np.round(4 * value).astype(np.int8 if name != "elbo" else np.float16)
        back[key] = narrow[key].astype(np.float64)
    found, expected = (loss(name, x, labels, **further, **options) for x in (narrow, back))
    assert found == expected


def test_the_losses_do_not_import_torch_before_they_are_used():
    code = "import sys\nfrom quant.metrics.losses import LOSSES\nassert LOSSES and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Losses of generative networks: the negative ELBO, perceptual distance. Those of GANs are in `adversarial`.

The ELBO is maximized; the loss is minus it: reconstruction + beta KL. Of a Gaussian with unit variance the
reconstruction is sum (x - x')^2/2 (its constant left out), of a Bernoulli the binary cross-entropy's sum. KL to a
standard normal is 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2). Kingma and Welling 2014; beta: Higgins et al. 2017.

Perceptual: sum over layers of lambda_l times the mean squared difference of their features (Johnson et al. 2016).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    INPUT,
    REFERENCE,
    at_least,
    chosen,
    needed,
    numbers,
    output_of,
    same_shape,
    same_vectors,
    target_of,
    within,
)
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import CLAMP, CLAMP_DEFAULT, Loss, drop_bounds
from quant.metrics.losses.probabilistic import PROBABILITIES, bce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def gaussian_kl(mean: npt.ArrayLike, log_variance: npt.ArrayLike) -> Floats:
    """KL of N(mean, exp(log_variance)) to N(0, 1), summed: two (n, d) -> (n,)."""
    mu, lv = (np.asarray(x, dtype=np.float64) for x in (mean, log_variance))
    parts = mu**2 + np.expm1(lv) - lv
    return np.asarray(0.5 * parts.reshape(len(parts), -1).sum(axis=1), dtype=np.float64)


def gaussian_reconstruction(output: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
    """Half the squared error, summed: two (n, ...) -> (n,)."""
    gap = np.asarray(output, dtype=np.float64) - np.asarray(target, dtype=np.float64)
    return np.asarray(0.5 * (gap**2).reshape(len(gap), -1).sum(axis=1), dtype=np.float64)


def bernoulli_reconstruction(
    output: npt.ArrayLike, target: npt.ArrayLike, *, from_logits: bool = True, clamp: float = CLAMP_DEFAULT
) -> Floats:
    """Binary cross-entropy, summed: two (n, ...) -> (n,)."""
    found = np.asarray(output)
    return bce(found, target, from_logits=from_logits, clamp=clamp) * (found.size // max(len(found), 1))


_LIKELIHOODS: Mapping[str, Callable[..., Floats]] = {
    "gaussian": lambda output, target, **_: gaussian_reconstruction(output, target),
    "bernoulli": bernoulli_reconstruction,
}


def _build_elbo(
    *,
    reconstruction: str = "0",
    mean: str = "1",
    logvar: str = "2",
    target: str = INPUT,
    likelihood: str = "gaussian",
    beta: float = 1.0,
    from_logits: object = AUTO,
    clamp: float = CLAMP_DEFAULT,
) -> Metric:
    at_least(0, beta=beta)
    at_least(0, above=True, clamp=clamp)
    checked(from_logits)
    reconstructed = chosen(_LIKELIHOODS, likelihood, "likelihood")

    def losses(batch: Evaluated) -> Floats:
        found, wanted = same_shape(
            output_of(batch, reconstruction), target_of(batch, target, reconstruction), "data to reconstruct"
        )
        mu, lv = (x.reshape(len(x), -1) for x in (output_of(batch, mean), output_of(batch, logvar)))
        same_vectors(mean=mu, logvar=lv)
        logits = True
        if likelihood == "bernoulli":
            within(wanted, 0.0, 1.0, "the data to reconstruct", "likelihood=gaussian takes any numbers")
            logits = are_logits(batch, reconstruction, from_logits, classes=False)
            if not logits:
                within(found, 0.0, 1.0, "the reconstruction", PROBABILITIES)
        return reconstructed(found, wanted, from_logits=logits, clamp=clamp) + beta * gaussian_kl(mu, lv)

    return Loss(losses, needed(target))


def perceptual(
    features: Mapping[str, npt.ArrayLike], reference: Mapping[str, npt.ArrayLike], weights: Mapping[str, float]
) -> Floats:
    """Weighted sum over layers of the mean squared difference: arrays (n, ...) by layer -> (n,)."""
    total: Floats = np.zeros(())
    for name, weight in weights.items():
        gap = np.asarray(features[name], dtype=np.float64) - np.asarray(reference[name], dtype=np.float64)
        total = total + weight * (gap**2).reshape(len(gap), -1).mean(axis=1)
    return total


def _build_perceptual(*, features: str = "", weights: object = "1") -> Metric:
    given = numbers(weights, "weights")
    at_least(0, weights=float(given.min()))
    names = [name for name in features.split(",") if name]
    if len(given) > 1 and len(given) != len(names):
        raise UsageError(f"{len(given)} weights for {len(names)} features; give one for each")

    def losses(batch: Evaluated) -> Floats:
        layers = names or list(batch.outputs)
        each = dict(zip(layers, np.broadcast_to(given, len(layers)).tolist(), strict=True))
        pairs = {
            name: same_shape(output_of(batch, name), target_of(batch, REFERENCE, name), "reference") for name in layers
        }
        if any(x.size == 0 for x, _ in pairs.values()):
            raise DataError("features without a number in them cannot be compared")
        return perceptual(
            {name: found for name, (found, _) in pairs.items()}, {name: r for name, (_, r) in pairs.items()}, each
        )

    return Loss(losses, (), drop_bounds(REFERENCE))


def _output(position: str, what: str) -> Parameter:
    return Parameter(position, help=f"the output that is {what}: its name or its position")


FAMILIES: Mapping[str, Family] = {
    "elbo": Family(
        _build_elbo,
        "negative evidence lower bound of a variational autoencoder: reconstruction + beta KL, per sample",
        {
            "reconstruction": _output("0", "the reconstruction"),
            "mean": _output("1", "the mean of the code"),
            "logvar": _output("2", "the logarithm of its variance"),
            "target": Parameter(INPUT, help="what is to be reconstructed: `input`, or labels by name"),
            "likelihood": Parameter("gaussian", tuple(_LIKELIHOODS), "squared error over 2, or cross-entropy"),
            "beta": Parameter(1.0, help="factor of the KL divergence"),
            "from_logits": FROM_LOGITS,
            "clamp": CLAMP,
        },
    ),
    "perceptual": Family(
        _build_perceptual,
        "weighted mean squared differences of features against the first model's",
        {
            "features": Parameter("", help="outputs with commas between; all of them"),
            "weights": Parameter("1", help="lambda of each: one for all, or as many with commas between"),
        },
    ),
}

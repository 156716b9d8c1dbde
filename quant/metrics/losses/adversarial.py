"""Losses of adversarial networks, from what the discriminator or critic gives.

    discriminator     E_real[-log D] + E_fake[-log(1 - D)]
    generator         E_fake[log(1 - D)], saturating: negative, and lower is better for the generator
    non-saturating    E_fake[-log D]
    WGAN critic       E_fake[f] - E_real[f]; it presumes a critic that is 1-Lipschitz, which outputs cannot show
    WGAN generator    E_fake[-f]

Goodfellow et al. 2014; Arjovsky et al. 2017. Each expectation is over its own samples. Either the model has an output
for each (`real=`, `fake=`), or it is the discriminator and labels say which samples are real, 1, and which fake, 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import at_least, label_of, located, needed, output_of, per_sample, whole, within
from quant.metrics.losses._kind import AUTO, FROM_LOGITS, are_logits, checked
from quant.metrics.losses._loss import CLAMP, CLAMP_DEFAULT, OUTPUT
from quant.metrics.losses.probabilistic import PROBABILITIES, binary_log_probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from quant.metrics.base import Records

    Floats = npt.NDArray[np.float64]
    Term = Callable[..., Floats]


def minus_log(scores: npt.ArrayLike, *, from_logits: bool = True, clamp: float = CLAMP_DEFAULT) -> Floats:
    """-log D of every sample: (n, ...) -> (n,)."""
    return -per_sample(binary_log_probabilities(scores, from_logits=from_logits, clamp=clamp)[0])


def log_rest(scores: npt.ArrayLike, *, from_logits: bool = True, clamp: float = CLAMP_DEFAULT) -> Floats:
    """log(1 - D) of every sample: (n, ...) -> (n,)."""
    return per_sample(binary_log_probabilities(scores, from_logits=from_logits, clamp=clamp)[1])


def raw(scores: npt.ArrayLike, **_: object) -> Floats:
    """The critic's value of every sample: (n, ...) -> (n,)."""
    return per_sample(scores)


@dataclass(frozen=True)
class _Terms:
    """Factors and functions of the two expectations; a factor of 0 leaves one out."""

    real: tuple[float, Term]
    fake: tuple[float, Term]

    @property
    def needs_real(self) -> bool:
        """Whether real samples enter."""
        return self.real[0] != 0


_NONE: tuple[float, Term] = (0.0, raw)
_TERMS: Mapping[str, _Terms] = {
    "gan_discriminator": _Terms((1.0, minus_log), (-1.0, log_rest)),
    "gan_generator": _Terms(_NONE, (1.0, log_rest)),
    "gan_non_saturating": _Terms(_NONE, (1.0, minus_log)),
    "wgan_critic": _Terms((-1.0, raw), (1.0, raw)),
    "wgan_generator": _Terms(_NONE, (-1.0, raw)),
}


@dataclass(frozen=True, eq=False)
class Adversarial(Metric):
    """The sum of two expectations: records are each one's terms and counts, (n,) four times."""

    terms: _Terms
    output: str
    target: str
    real: str
    fake: str
    from_logits: object
    clamp: float
    needs: tuple[str, ...]
    higher_is_better = False
    arrays = 4

    def collect(self, batch: Evaluated) -> Records:
        """Terms and counts of real samples, then of fake ones."""
        with located(batch):
            return self._records(batch)

    def _records(self, batch: Evaluated) -> Records:
        if self.fake:
            fake, options = self._scores(batch, self.fake)
            real, options = self._scores(batch, self.real) if self.terms.needs_real else (fake, options)
            is_real = is_fake = np.ones(len(fake), bool)
        else:
            fake, options = self._scores(batch, self.output)
            real = fake
            labels = label_of(batch, self.target)
            if labels.size != len(fake):
                raise DataError(f"the labels have the size {labels.shape}; one per sample is wanted, ({len(fake)},)")
            is_real = whole(labels.reshape(-1), 0, 1, "fake and real") == 1
            is_fake = ~is_real
        (a, on_real), (b, on_fake) = self.terms.real, self.terms.fake
        first = np.where(is_real, a * on_real(real, **options), 0.0)
        second = np.where(is_fake, b * on_fake(fake, **options), 0.0)
        return first, is_real.astype(np.float64), second, is_fake.astype(np.float64)

    def _scores(self, batch: Evaluated, name: str) -> tuple[Floats, dict[str, Any]]:
        """What a discriminator gives, and how it is to be read."""
        scores = output_of(batch, name).astype(np.float64)
        if self.from_logits is None:
            return scores, {}
        logits = are_logits(batch, name, self.from_logits, classes=False)
        if not logits:
            within(scores, 0.0, 1.0, "the output", PROBABILITIES)
        return scores, {"from_logits": logits, "clamp": self.clamp}

    def strata(self, records: Records) -> np.ndarray | None:
        """Draws keep the shares of real and fake samples where both enter."""
        return records[1] + 2 * records[3] if self.terms.needs_real else None

    def value(self, records: Records) -> float:
        """As `Metric`.

        Raises:
            DataError: there is no real sample, or no fake one, where it enters.
        """
        for wanted, what, counts in ((self.terms.needs_real, "real", records[1]), (True, "fake", records[3])):
            if wanted and not counts.any():
                raise DataError(f"no sample is {what} (labels: 1 real, 0 fake), and this loss is about those")
        return super().value(records)

    def resampled(self, records: Records, weights: Floats) -> Floats:
        """As `Metric`. A draw without a sample of one kind counts nothing for it."""
        real, is_real, fake, is_fake = (weights @ part for part in records)
        parts = ((real, is_real), (fake, is_fake))
        means = [np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0) for top, bottom in parts]
        return np.asarray(means[0] + means[1], dtype=np.float64)


def _build(
    name: str,
    *,
    output: str = "",
    target: str = "y",
    real: str = "",
    fake: str = "",
    from_logits: object = None,
    clamp: float = CLAMP_DEFAULT,
) -> Metric:
    at_least(0, above=True, clamp=clamp)
    if from_logits is None and not name.startswith("wgan"):
        from_logits = AUTO
    if from_logits is not None:
        checked(from_logits)
    terms = _TERMS[name]
    if real and not fake:
        raise UsageError(f"{name}: real= goes with fake=")
    if fake and not real and terms.needs_real:
        raise UsageError(f"{name}: fake= goes with real=, the output for real samples")
    return Adversarial(terms, output, target, real, fake, from_logits, clamp, () if fake else needed(target))


_ABOUT = {
    "gan_discriminator": "E_real[-log D] + E_fake[-log(1 - D)]",
    "gan_generator": "saturating: E_fake[log(1 - D)]",
    "gan_non_saturating": "E_fake[-log D]",
    "wgan_critic": "E_fake[f] - E_real[f], for a critic that is 1-Lipschitz",
    "wgan_generator": "E_fake[-f]",
}


def _parameters(name: str) -> Mapping[str, Any]:
    common = {
        "output": OUTPUT,
        "target": Parameter("y", help="labels by name: 1 real, 0 fake"),
        "fake": Parameter("", help="the output for fake samples, where it is one of its own"),
    }
    if _TERMS[name].needs_real:
        common["real"] = Parameter("", help="the output for real samples, likewise")
    return common if name.startswith("wgan") else {**common, "from_logits": FROM_LOGITS, "clamp": CLAMP}


FAMILIES: Mapping[str, Family] = {
    name: Family(partial(_build, name), about, _parameters(name)) for name, about in _ABOUT.items()
}

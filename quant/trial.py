"""Models on the same samples, a batch at a time: the first is run once, every other against what was kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import DataError, ModelError
from profiler.progress import Progress, silent
from quant.inference import BATCH, fitted, fixed_batch, outputs_of
from quant.metrics.base import Evaluated
from quant.metrics.evaluate import LIMIT, check_finite, kind_of, probability_notes, settled_task
from quant.metrics.gather import Gathered
from quant.metrics.scores import PROBABILITIES, are_probabilities
from quant.metrics.tasks import chosen
from quant.metrics.verdicts import compared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from quant.data import Samples
    from quant.data.samples import Batch
    from quant.metrics import Comparison
    from quant.runtime import RuntimeSession

    Outputs = dict[str, np.ndarray]

KEPT_BYTES = 256 * 2**20  # of the first model's outputs
BATCH_BYTES = 64 * 2**20  # of inputs and outputs of one batch
_LABELS_READ = 1_000_000  # numbers of labels that are looked at whole to tell what they mean


class Trial:
    """The first model's records on some samples, and other models compared with them.

    Args:
        first: the model that others are judged against.
        samples: with labels, or without for fidelity.
        metrics: as for `quant.metrics.registry.parse`; the task's default set where None.
        task: what the labels mean; what the samples say, or guessed, where None.
        seed: of every bootstrap.
        limit: the drop that verdicts speak of.
        labelled: False leaves the labels out.
        progress: called with the stage and the part of it that is done.

    Raises:
        DataError: samples that do not fit the model, or labels that do not fit its outputs.
        UsageError: an unknown metric or task, or one that needs labels where there are none.
    """

    def __init__(
        self,
        first: RuntimeSession,
        samples: Samples,
        *,
        metrics: Sequence[str] | None = None,
        task: str | None = None,
        seed: int = 0,
        limit: float = LIMIT,
        labelled: bool = True,
        progress: Progress = silent,
    ) -> None:
        self.samples = fitted(first, samples)
        self._first = first
        self._seed = seed
        self._limit = limit
        self._labelled = labelled
        self._progress = progress
        self._asked = metrics is not None
        few = self.samples.first(2)  # of one alone, an output without a batch axis could look as if it had one
        self._example = outputs = outputs_of(first, few, samples.name)
        if labelled and "boxes" not in samples.further:
            self.samples.check_classes(next(iter(outputs.values())).shape)
        labels = self._labels_looked_at(few)
        self._size = _batch_size(first, few, outputs)
        self.task, self._notes = settled_task(
            (task or samples.task) if labelled else None, outputs, labels, asked=metrics is not None
        )
        left_out = [name for name in first.output_names if name not in outputs]
        if left_out:
            self._notes.append(f"left out: {', '.join(left_out)}, which have no entry for each sample")
        self.metrics = chosen(self.task, metrics, outputs, tuple(labels))
        self._refers = any(metric.refers or not metric.needs for metric in self.metrics.values())
        self._kinds: dict[str, str] = {}
        self._kept: list[Outputs] | None = None
        self._gathered: Gathered | None = None

    def check(self) -> None:
        """Compare the first model with itself: labels, metrics and outputs that do not go together come to light.

        Raises:
            DataError: the labels do not fit the outputs.
            UsageError: a metric that these samples cannot give.
        """
        first, _ = self._pass(None, "evaluating")
        self._compared(first, first)

    def against_first(self, second: RuntimeSession, stage: str = "evaluating") -> Comparison:
        """The comparison of a model with the first, both run on the same batches.

        Raises:
            DataError: the model's outputs are not those of the first in name, size or number, or not finite.
            UsageError: a metric that these samples cannot give.
        """
        return self._compared(*self._pass(second, stage))

    def _compared(self, first: Gathered, second: Gathered) -> Comparison:
        return compared(
            first,
            second,
            task=self.task,
            seed=self._seed,
            limit=self._limit,
            asked=self._asked,
            notes=[*self.samples.remarks(), *self._notes],
        )

    def _labels_looked_at(self, few: Batch) -> dict[str, np.ndarray]:
        """Labels of the first sample, those of one number for each sample of all: what they are is told by them."""
        if not self._labelled:
            return {}
        y = self.samples.labels
        if y is not None and int(np.prod(y.shape, dtype=np.int64)) <= _LABELS_READ:
            return {**few.labels, "y": np.asarray(y[: len(y)])}
        return dict(few.labels)

    def _pass(self, second: RuntimeSession | None, stage: str) -> tuple[Gathered, Gathered]:
        """Run the second model, and the first where its records or outputs are not there; the records of both."""
        while True:
            known, theirs, keeping = self._gathered, self._new(), _Keeping()
            ours = known or self._new()
            for batch, reference in self._first_outputs(needed=known is None or self._refers):
                if known is None:
                    if self._learn_kinds(reference):
                        break  # what looked like probabilities is not: begin anew
                    check_finite(reference, "first", batch.positions)
                    ours.add(self._evaluated(batch, reference, reference))
                    keeping.add(reference)
                if second is not None:
                    theirs.add(self._evaluated(batch, self._second_outputs(second, batch, reference), reference))
                self._progress(stage, (int(batch.positions[-1]) + 1) / len(self.samples))
            else:
                if known is None:
                    self._gathered, self._kept = ours, keeping.outputs
                    self._notes += probability_notes(self._example, self._kinds)
                return ours, theirs

    def _new(self) -> Gathered:
        return Gathered(self.metrics, lenient=not self._asked)

    def _first_outputs(self, *, needed: bool) -> Iterator[tuple[Batch, Outputs]]:
        for index, batch in enumerate(self.samples.batches(self._size)):
            if not needed:
                yield batch, {}
            elif self._kept is not None:
                yield batch, self._kept[index]
            else:
                outputs = outputs_of(self._first, batch, self.samples.name)
                if not set(self._example) <= set(outputs):
                    raise ModelError(f"{self._first.name}: an output has no entry for each sample of every batch")
                yield batch, {name: outputs[name] for name in self._example}

    def _second_outputs(self, second: RuntimeSession, batch: Batch, reference: Outputs) -> Outputs:
        outputs = outputs_of(second, batch, self.samples.name)
        expected = self._example
        if len(outputs) != len(expected):
            raise ModelError(
                f"{second.name}: has the outputs {', '.join(outputs)}; those of {self._first.name} are "
                f"{', '.join(expected)}"
            )
        if set(outputs) != set(expected):  # exporters name the same outputs differently
            outputs = dict(zip(expected, outputs.values(), strict=True))
        outputs = {name: outputs[name] for name in expected}
        rows = len(batch)
        for name, array in outputs.items():
            if self.task != "detection" and array.shape[1:] != (reference or expected)[name].shape[1:]:
                sizes = f"{(rows, *expected[name].shape[1:])} and {array.shape}"
                raise DataError(f"the two models' outputs {name!r} differ in size: {sizes}")
        check_finite(outputs, "second", batch.positions)
        return outputs

    def _learn_kinds(self, outputs: Outputs) -> bool:
        """What the first model's scores are, by every batch so far; whether this one proves the others wrong."""
        if not self._kinds:
            self._kinds = {name: kind_of(array) for name, array in outputs.items()}
        wrong = [n for n, kind in self._kinds.items() if kind == PROBABILITIES and not are_probabilities(outputs[n])]
        self._kinds |= dict.fromkeys(wrong, "logits")
        return bool(wrong)

    def _evaluated(self, batch: Batch, outputs: Outputs, reference: Mapping[str, np.ndarray]) -> Evaluated:
        return Evaluated(
            outputs,
            batch.labels if self._labelled else {name: x for name, x in batch.labels.items() if name == "groups"},
            batch.inputs,
            reference,
            self._kinds,
            batch.positions,
        )


class _Keeping:
    """The outputs of all batches, until they are too many to keep."""

    def __init__(self) -> None:
        self.outputs: list[Outputs] | None = []
        self._bytes = 0

    def add(self, outputs: Outputs) -> None:
        self._bytes += sum(array.nbytes for array in outputs.values())
        if self._bytes > KEPT_BYTES:
            self.outputs = None
        elif self.outputs is not None:
            self.outputs.append(outputs)


def _batch_size(session: RuntimeSession, few: Batch, outputs: Outputs) -> int:
    """Samples at a time: what the model wants, or as many as stay below 64 MiB, 32 at most."""
    each = sum(array.nbytes for array in (*few.inputs.values(), *outputs.values())) // len(few)
    return fixed_batch(session) or max(1, min(BATCH, BATCH_BYTES // max(each, 1)))

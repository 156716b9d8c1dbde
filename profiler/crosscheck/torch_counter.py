"""torch.utils.flop_counter on the same model and inputs, every difference explained beforehand.

It counts two operations for a multiply-accumulate, so that its figures stand beside ours with that convention as the
first term. It is run where it is right, on tensors without storage: on a CPU it sees attention and LSTMs as kernels
that it has no formula for. Where a model needs values, it is run on real tensors with those kernels switched off,
which gives the same figure.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from profiler.analyzer import Subject
from profiler.crosscheck.on_meta import OnMeta, without_floats
from profiler.crosscheck.prediction import Prediction, exclusive, expected
from profiler.crosscheck.real_inputs import ROOT, Flat, cannot_run, with_values
from profiler.crosscheck.result import Crosscheck, in_its_words
from profiler.crosscheck.running import Running
from profiler.crosscheck.torch_rules import KINDS, RULES, rule_for
from profiler.crosscheck.untouched import untouched
from profiler.profile import Profile
from profiler.step import Step
from profiler.walk import stand_in, walk

PEER = "torch"
MOST_FLOATS = 1 << 12  # elements of a constant that a model may branch on
UNIT = "operations, two for a multiply-accumulate"
COUNTER = "torch's counter"
CONVENTION = "torch's counter takes two operations for a multiply-accumulate"
# It names modules by the class of the outermost and the attributes that lead to them, everything together "Global".
WHOLE = "Global"
BELOW = f"{Flat.__name__}.{ROOT}."

Inclusive = dict[str, Counter[str]]  # module path -> operator -> count, submodules included


class _Forecast:
    """Collects, from the walk, what the counter will say and why."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.restart()

    def restart(self, _reason: str = "") -> None:
        """Forget what was collected: the walk begins anew."""
        self._running.restart()
        self.prediction = Prediction()
        self.ours: Inclusive = {}
        self.theirs: Inclusive = {}

    def add(self, step: Step) -> None:
        """Note one operator call for every module that is running."""
        macs = step.cost.macs
        if not (macs or step.operator is None or step.call.packet in RULES):
            return
        rule = rule_for(step.call)
        count, reason = expected(step, rule, COUNTER)
        if not (macs or count):
            return
        op = rule.op if rule else step.operator.op if step.operator else step.call.packet
        for name in self._running.names:
            self.ours.setdefault(name, Counter())[op] += macs
            self.theirs.setdefault(name, Counter())[op] += 2 * count
        self.prediction.explain(CONVENTION, macs)
        self.prediction.explain(reason, 2 * (count - macs))


def check(profile: Profile, subject: Subject) -> Crosscheck:
    """Run torch's counter on the subject of a profile and explain its figure."""
    failures = []
    for run, context, prepare, stand_in_for in RUNS:
        unfit = cannot_run(profile, subject) if prepare is with_values else ""
        if unfit:
            failures.append(f"on {run}: {unfit}")
            break
        prepared = prepare(subject)
        forecast = predict(prepared)
        try:
            measured = measure(prepared, context, stand_in_for)
        except Exception as error:  # noqa: BLE001  # a peer may fail in any way; its own words are the report
            failures.append(f"on {run}: {in_its_words(error)}")
            continue
        return _compared(forecast, measured, run)
    return Crosscheck(PEER, "failed", "; ".join(failures), profile.totals.macs, unit=UNIT)


def predict(subject: Subject) -> _Forecast:
    """What the counter will say, booked under the modules by the rules of torch's module tracker."""
    flat = Flat(subject)
    with untouched(subject.model), Running(subject.model) as running:
        forecast = _Forecast(running)
        walk(flat, flat.tensors, {}, forecast.add, restart=forecast.restart, fields=False)
    return forecast


def measure(
    subject: Subject, context: Callable[[], Any], stand_in_for: Callable[[torch.Tensor], torch.Tensor]
) -> Inclusive:
    """What torch's counter counts, per module with its submodules and per kind of operator.

    Args:
        subject: the model and its inputs; parameters and buffers are replaced for the time of the run.
        context: what to run it in.
        stand_in_for: what replaces a parameter or buffer.
    """
    flat = Flat(subject)
    tensors = tuple(stand_in_for(t.detach()) for t in flat.tensors)
    with untouched(subject.model, flat.buffers()):
        state = {name: stand_in_for(t) for name, t in (*flat.named_parameters(), *flat.named_buffers())}
        with context(), FlopCounterMode(display=False) as counter:
            functional_call(flat, state, tensors)
    measured: Inclusive = {}
    for name, counts in counter.get_flop_counts().items():
        path = "" if name == WHOLE else name.removeprefix(BELOW)
        if path == name:  # a module that is not part of the model; its caller has the count as well
            continue
        kinds = measured.setdefault(path, Counter())
        for operator, count in counts.items():
            kinds[KINDS.get(str(operator), str(operator))] += count
    return measured


def _shapes_filled(subject: Subject) -> Subject:
    args = tuple(stand_in(a) for a in subject.args)
    return Subject(subject.model, args, {k: stand_in(v) for k, v in subject.kwargs.items()})


@contextmanager
def _split_kernels() -> Iterator[None]:
    """Attention and recurrences as matrix products, not as kernels that the counter has no formula for."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fused, before = torch.backends.mkldnn, torch.backends.mkldnn.enabled
    fused.enabled = False  # type: ignore[assignment]  # declared as the property that it is
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        fused.enabled = before


# How the counter is run, in the order in which it is tried.
RUNS: tuple[
    tuple[str, Callable[[], Any], Callable[[Subject], Subject], Callable[[torch.Tensor], torch.Tensor]], ...
] = (
    ("tensors without storage", OnMeta, _shapes_filled, without_floats),
    ("tensors without storage, constants excepted", partial(OnMeta, MOST_FLOATS), _shapes_filled, without_floats),
    ("real tensors", _split_kernels, with_values, torch.Tensor.detach),
)


def _compared(forecast: _Forecast, measured: Inclusive, run: str) -> Crosscheck:
    names = {*forecast.theirs, *measured}
    prediction = forecast.prediction
    ours, theirs = exclusive(forecast.ours, names), exclusive(forecast.theirs, names)
    for key in {**ours, **theirs}:
        prediction.book(key, ours.get(key, 0), theirs.get(key, 0))
    macs, total = sum(forecast.ours.get("", {}).values()), sum(measured.get("", {}).values())
    return prediction.compare(PEER, exclusive(measured, names), total, macs, UNIT, run)

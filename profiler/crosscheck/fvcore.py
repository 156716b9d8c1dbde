"""fvcore's FlopCountAnalysis on the same model and inputs, every difference explained beforehand.

The prediction is made from our own walk and fvcore's documented rules before fvcore is run. What fvcore then says is
compared module by module and operator by operator; there is no term that takes up a remainder.
"""

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.jit._trace import TracerWarning

from profiler.analyzer import Subject
from profiler.crosscheck.dataflow import DataFlow
from profiler.crosscheck.fvcore_rules import rule_for
from profiler.crosscheck.prediction import Key, Prediction, exclusive, expected
from profiler.crosscheck.real_inputs import ROOT, Flat, cannot_run, with_values
from profiler.crosscheck.result import Crosscheck, in_its_words
from profiler.crosscheck.running import Running
from profiler.crosscheck.untouched import untouched
from profiler.profile import Profile
from profiler.step import Step
from profiler.walk import walk

if TYPE_CHECKING:
    from types import FrameType

PEER = "fvcore"
RUN = "real tensors"
CAUGHT = "a module is left by an exception that the model catches, on which torch's tracer crashes the process"
UNUSED = "fvcore's tracer drops operators whose results no output depends on"
CUSTOM = "fvcore does not look into a custom autograd function: it counts 0"


class _Forecast:
    """Collects, from the walk, what fvcore will say and why."""

    def __init__(self, state: list[torch.Tensor]) -> None:
        self._state = state
        self.restart()

    def restart(self) -> None:
        """Forget what was collected: the walk begins anew."""
        self.flow = DataFlow(self._state)
        self.prediction = Prediction()
        self._pending: list[tuple[int, Key, int, int, str]] = []
        self._outputs: tuple[torch.Tensor, ...] = ()

    def begin(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """The model is called with these."""
        self.flow.begin(inputs)

    def end(self, outputs: tuple[torch.Tensor, ...]) -> None:
        """The model has returned these."""
        self._outputs = outputs

    def add(self, step: Step) -> None:
        """Note one operator call; whether the tracer keeps it shows only at the end."""
        number = self.flow.add(step)
        macs = step.cost.macs
        rule = rule_for(step.call)
        count, reason = expected(step, rule, PEER)
        if not (count or macs):
            return
        if _in_custom_function():
            count, reason = 0, CUSTOM
        op = rule.op if rule else step.operator.op if step.operator else step.call.packet
        self._pending.append((number, (_own_name(step.module.name), op), macs, count, reason))

    def settle(self) -> Prediction:
        """The prediction, once it is known what the model returns."""
        live = self.flow.live(self._outputs)
        for number, key, ours, theirs, reason in self._pending:
            kept = theirs if live[number] else 0
            self.prediction.book(key, ours, kept)
            self.prediction.explain(reason if live[number] else UNUSED, kept - ours)
        return self.prediction


def _own_name(name: str) -> str:
    """A module's path in the model, from its path in the function that is traced."""
    return name.removeprefix(ROOT).removeprefix(".")


_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]  # a classmethod of a C class


def _in_custom_function() -> bool:
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # nothing else tells it: no operator belongs to it
    while frame is not None and frame.f_code is not _APPLY:
        frame = frame.f_back
    return frame is not None


def check(profile: Profile, subject: Subject) -> Crosscheck:
    """Run fvcore on the subject of a profile and explain its figure."""
    ours = profile.totals.macs
    unfit = cannot_run(profile, subject)
    if unfit:
        return Crosscheck(PEER, "skipped", f"fvcore traces a run with values, and {unfit}", ours, run=RUN)
    subject = with_values(subject)
    prediction, writes, unfit = forecast(subject)
    ours = sum(prediction.ours.values())
    if unfit:
        return Crosscheck(PEER, "skipped", unfit, ours, run=RUN)
    try:
        measured = measure(subject, parameters=writes)
    except Exception as error:  # noqa: BLE001  # a peer may fail in any way; its own words are the report
        return Crosscheck(PEER, "failed", in_its_words(error), ours, run=RUN)
    return prediction.compare(PEER, measured, sum(measured.values()), ours, "MACs", RUN)


def forecast(subject: Subject) -> tuple[Prediction, bool, str]:
    """What fvcore will say, whether the model writes to its own tensors, and why fvcore must not be run or ""."""
    collected = _Forecast(list(subject.model.state_dict(keep_vars=True).values()))
    flat = _Recorded(subject, collected)
    with untouched(subject.model), Running(subject.model) as running:

        def restart(_reason: str) -> None:
            running.restart()
            collected.restart()

        walk(flat, flat.tensors, {}, collected.add, restart=restart, fields=False)
    return collected.settle(), collected.flow.writes_inputs, CAUGHT if running.open else ""


class _Recorded(Flat):
    """Tells a forecast what goes in and out, which the data flow begins and ends with."""

    def __init__(self, subject: Subject, forecast: _Forecast) -> None:
        super().__init__(subject)
        self._begin, self._end = forecast.begin, forecast.end  # not the forecast: what a module holds is put back

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the plain one."""
        self._begin(tensors)
        result = super().forward(*tensors)
        self._end(result)
        return result


def measure(subject: Subject, *, parameters: bool = False) -> dict[Key, int]:
    """What fvcore counts, per module without its submodules and per operator."""
    flat = Flat(subject)
    contents = [*flat.buffers(), *(flat.parameters() if parameters else ())]
    with _quiet(), untouched(subject.model, contents):
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(flat, flat.tensors)
        analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        analysis.tracer_warnings("none")
        inclusive = analysis.by_module_and_operator()
    own = exclusive(inclusive, inclusive.keys())
    merged: Counter[Key] = Counter()
    for (name, op), count in own.items():
        merged[_own_name(name), op] += count
    return {key: count for key, count in merged.items() if count}


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of fvcore, and no warnings of the tracer that it uses."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # fvcore scripts helper functions as it is imported; torch has deprecated that.
            warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=TracerWarning)
            yield
    finally:
        logger.setLevel(level)

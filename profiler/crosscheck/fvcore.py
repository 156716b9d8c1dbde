"""fvcore's FlopCountAnalysis on the same model and inputs, every difference explained beforehand.

The prediction is made from our own walk and fvcore's documented rules before fvcore is run. What fvcore then says is
compared module by module and operator by operator; there is no term that takes up a remainder.
"""

import inspect
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.jit._trace import TracerWarning
from torch.utils._pytree import tree_map

from profiler.analyzer import Subject
from profiler.crosscheck.fvcore_rules import reason_for, rule_for
from profiler.crosscheck.result import Crosscheck, Row, Term
from profiler.environment import available_memory
from profiler.errors import NetgaugeError
from profiler.profile import Profile
from profiler.step import Step
from profiler.walk import stand_in, walk

PEER = "fvcore"
Key = tuple[str, str]  # module path, fvcore's operator name


class _Prediction:
    """Collects, from the walk, what fvcore will say and why."""

    def __init__(self) -> None:
        self.ours: Counter[Key] = Counter()
        self.theirs: Counter[Key] = Counter()
        self.terms: dict[str, list[int]] = defaultdict(list)

    def add(self, step: Step) -> None:
        if step.operator is None:
            return
        rule = rule_for(step.call)
        count = rule.count(step.call) if rule else 0
        key = (step.module.name, rule.op if rule else step.operator.op)
        if count or step.cost.macs:
            self.ours[key] += step.cost.macs
            self.theirs[key] += count
        if count != step.cost.macs:
            reason = reason_for(step.call, step.operator.op)
            self.terms[reason].append(count - step.cost.macs)

    def rows(self, measured: Mapping[Key, int]) -> tuple[Row, ...]:
        """One row for every module and operator that either side counts."""
        keys = dict.fromkeys([*self.theirs, *measured])
        return tuple(Row(*key, self.ours[key], self.theirs[key], measured.get(key, 0)) for key in keys)


def check(profile: Profile, subject: Subject) -> Crosscheck:
    """Run fvcore on the subject of a profile and explain its figure."""
    prediction = _Prediction()
    walk(subject.model, subject.args, subject.kwargs, prediction.add)
    ours = profile.totals.macs
    unfit = _cannot_run(profile, subject)
    if unfit:
        return Crosscheck(PEER, "skipped", unfit, ours)
    try:
        measured = measure(subject)
    except NetgaugeError as error:
        return Crosscheck(PEER, "skipped", str(error), ours)
    except Exception as error:  # noqa: BLE001  # a peer may fail in any way; its own words are the report
        words = (str(error).strip().splitlines() or [""])[0]
        return Crosscheck(PEER, "failed", f"{type(error).__name__}: {words}", ours)
    rows = prediction.rows(measured)
    status = "unexplained" if any(row.unexplained for row in rows) else "reconciled"
    terms = tuple(Term(reason, sum(parts), len(parts)) for reason, parts in prediction.terms.items())
    return Crosscheck(PEER, status, "", ours, sum(measured.values()), terms, rows)


def _cannot_run(profile: Profile, subject: Subject) -> str:
    """Why fvcore, which traces real tensors, cannot run here; "" where it can."""
    if any(p.is_meta for p in subject.model.parameters()):
        return "the parameters have no storage, and fvcore's tracer fails on convolutions without storage"
    need, free = 2 * profile.totals.peak_bytes, available_memory()
    if free is not None and need > free:
        return f"its run would need about {need / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"
    return ""


def measure(subject: Subject) -> dict[Key, int]:
    """What fvcore counts, per module without its submodules and per operator."""
    inputs = positional(subject)
    with _undisturbed(subject.model):
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(subject.model, inputs)
        analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        analysis.tracer_warnings("none")
        inclusive = analysis.by_module_and_operator()
    own: dict[Key, int] = {}
    for name, counts in inclusive.items():
        rest = Counter({op: int(n) for op, n in counts.items()})
        for other, below in inclusive.items():
            if other and other.rpartition(".")[0] == name:
                rest.subtract({op: int(n) for op, n in below.items()})
        own.update({(name, op): n for op, n in rest.items() if n})
    return own


def positional(subject: Subject) -> tuple[Any, ...]:
    """The inputs as real tensors in the order of `forward`'s parameters: fvcore takes no keywords."""
    args, kwargs = subject.args, dict(subject.kwargs)
    if kwargs:
        bound = inspect.signature(subject.model.forward).bind(*args, **kwargs)
        if bound.kwargs:
            raise NetgaugeError(f"fvcore takes positional inputs only, and {', '.join(bound.kwargs)} must be named")
        args = bound.args
    generator = torch.Generator().manual_seed(0)

    def real(value: Any) -> Any:  # noqa: ANN401  # any input
        if not isinstance(value, torch.Tensor) or not value.is_meta:
            return value
        if value.is_floating_point():
            return torch.randn(value.shape, dtype=value.dtype, generator=generator)
        return torch.zeros(value.shape, dtype=value.dtype)

    result: tuple[Any, ...] = tree_map(real, tuple(stand_in(a) for a in args))
    return result


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Undo what a traced run leaves behind: hooks after a failure, running statistics, random state, log lines."""
    hooks = [(m, m._forward_hooks.copy(), m._forward_pre_hooks.copy()) for m in model.modules()]  # noqa: SLF001
    buffers = [(b, b.detach().clone()) for m in model.modules() if m.training for b in m.buffers(recurse=False)]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            # fvcore scripts helper functions as it is imported; torch has deprecated that.
            warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=TracerWarning)
            yield
    finally:
        logger.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, forward, before in hooks:
            module._forward_hooks, module._forward_pre_hooks = forward, before  # noqa: SLF001  # restored, not read
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)

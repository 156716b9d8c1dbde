"""Peak of live activation bytes: the analyzer's account beside a real run, and the kernels' workspace beside both.

    python benchmarks/memory.py                     every network that can be built here, about 5 minutes
    python benchmarks/memory.py --only swin         those whose name matches

Three runs of each network on the same zeros, each network in a process of its own:

1. `analyze`: no storage; peak and, operator by operator, the bytes that stay alive after it.
2. A real run on the CPU under a dispatch mode at the same depth (below autograd), which follows the storages that
   operators return until Python lets them go. Inputs count; parameters and buffers do not. This is the reference.
3. The same real run under torch's profiler, whose record of the CPU allocator also holds what kernels take and give
   back inside an operator: the workspace. The process's own peak stands beside it.
"""

import argparse
import json
import re
import sys
import warnings
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from _common import RESULTS, run_case, table, write_results
from _networks import build, chosen
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOWED = 0.01
MARK = "operator "
SIZES = ("ours", "real", "workspace", "largest_workspace", "plain_allocator_peak", "process_growth")


@dataclass
class Account:
    """Storages alive, told operator by operator.

    Attributes:
        live: bytes alive now.
        peak: most bytes alive at once.
        peak_at: index into `steps` of the operator after which the peak was first reached, -1 before the first.
        steps: operator and bytes alive after it.
    """

    live: int = 0
    peak: int = 0
    peak_at: int = -1
    steps: list[tuple[str, int]] = field(default_factory=list)
    _known: dict[int, Any] = field(default_factory=dict)

    def leave_out(self, tensors: Iterable[torch.Tensor]) -> None:
        """Parameters and buffers: stored, but not counted."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = storage  # noqa: SLF001  # a storage's identity

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count the storages of these tensors until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()  # noqa: SLF001  # as above
            if key not in self._known:
                self.live += size
                self._known[key] = weakref.ref(storage, self._release(key, size))
        if self.live > self.peak:
            self.peak, self.peak_at = self.live, len(self.steps)

    def _release(self, key: int, size: int) -> Callable[[object], None]:
        def release(_reference: object) -> None:
            self.live -= size
            del self._known[key]

        return release

    def after(self, operator: str, outputs: Iterable[torch.Tensor]) -> None:
        """An operator has returned."""
        self.hold(outputs)
        self.steps.append((operator, self.live))


class Storages(TorchDispatchMode):
    """Runs every operator as it is and tells the account what it returned."""

    def __init__(self, account: Account, *, marked: bool = False) -> None:
        super().__init__()
        self._account, self._marked = account, marked

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if self._marked:
            with torch.profiler.record_function(f"{MARK}{len(self._account.steps)}"):
                result = func(*args, **(kwargs or {}))
        else:
            result = func(*args, **(kwargs or {}))
        outputs = _tensors(result)
        if outputs:  # the walk does not show operators that hand a number to Python
            self._account.after(str(func.overloadpacket), outputs)
        return result


def _tensors(value: Any) -> list[torch.Tensor]:  # noqa: ANN401  # whatever an operator returns
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@contextmanager
def _below_autograd() -> Iterator[None]:
    """Where the analyzer stands: composite operators arrive whole, attention is not diverted to its fused encoder."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001  # as the walk
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def real_run(model: nn.Module, inputs: Sequence[torch.Tensor], *, marked: bool = False) -> Account:
    """The reference: storages of a real run on the CPU."""
    account = Account()
    account.leave_out((*model.parameters(), *model.buffers()))
    account.hold(inputs)
    with _below_autograd(), Storages(account, marked=marked):
        model(*inputs)
    return account


def our_account(model: nn.Module, inputs: Sequence[torch.Tensor]) -> Account:
    """The walk's tensors followed in the same way, so that a difference has a place."""
    from profiler.walk import walk

    account = Account(live=sum(t.untyped_storage().nbytes() for t in inputs))

    def visit(step: Any) -> None:  # noqa: ANN401  # a Step
        account.after(step.call.packet, step.written)

    walk(model, inputs, {}, visit)
    return account


def differences(ours: Account, real: Account) -> list[str]:
    """Where the two part: the first operator that only one has, and each at which the bytes move apart."""
    found, gap = [], 0
    for n, ((our_op, our_live), (op, live)) in enumerate(zip(ours.steps, real.steps, strict=False)):
        if our_op != op:
            return [*found, f"operator {n}: ours ran {our_op}, the real run {op}"]
        if our_live - live != gap:
            gap = our_live - live
            found.append(f"operator {n}, {op}: {our_live} bytes alive in ours, {live} in the real run")
    if len(ours.steps) != len(real.steps):
        found.append(f"ours ran {len(ours.steps)} operators, the real run {len(real.steps)}")
    return found


@dataclass(frozen=True)
class Allocator:
    """The CPU allocator's record of one run, counted from the run's start.

    Attributes:
        peak: most bytes at any moment, inside kernels too.
        after: bytes at the end of each operator.
        workspace: bytes that each operator took at most beyond what was there before or after it.
    """

    peak: int
    after: list[int]
    workspace: list[int]


def allocator_record(run: Callable[[], object]) -> Allocator:
    """Run under torch's profiler and add up its record of the allocator."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        result = run()
    del result
    events = profiler.profiler.kineto_results.events()  # the events with times; `profiler.events()` has sums only
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    times, levels = [t for t, _ in changes], [0, *accumulate(n for _, n in changes)]
    after, workspace = [], []
    # Operators that return no tensor bear the number of the next one that does, whose event comes last.
    marked = sorted((e for e in events if e.name().startswith(MARK)), key=lambda e: e.start_ns())
    for event in {e.name(): e for e in marked}.values():
        first, last = bisect_left(times, event.start_ns()), bisect_left(times, event.end_ns())
        after.append(levels[last])
        workspace.append(max(levels[first : last + 1]) - max(levels[first], levels[last]))
    return Allocator(max(levels), after, workspace)


def _resident(name: str) -> int | None:
    """VmRSS (now) or VmHWM (the most so far) of this process in bytes, None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else None


def process_growth(run: Callable[[], object]) -> int | None:
    """Bytes by which the process grew at most during a run: libraries' own memory and pages of code are in it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the most so far
    except OSError:
        return None
    before = _resident("VmRSS")
    run()
    most = _resident("VmHWM")
    return most - before if most is not None and before is not None else None


def measure(name: str) -> dict[str, Any]:
    """One network."""
    from profiler import analyze

    model, inputs = build(name)

    @torch.no_grad()
    def plain() -> object:
        return model(*inputs)

    growth = process_growth(plain)
    totals = analyze(model, *inputs).totals
    ours, real = our_account(model, inputs), real_run(model, inputs)
    given = sum(t.untyped_storage().nbytes() for t in inputs)
    record = allocator_record(lambda: real_run(model, inputs, marked=True))
    boundaries = [given + level for level in record.after]
    most = max(range(len(record.workspace)), key=record.workspace.__getitem__, default=None)
    return {
        "ours": totals.peak_bytes,
        "real": real.peak,
        "difference": totals.peak_bytes / real.peak - 1,
        "operators": len(real.steps),
        "peak_after": real.steps[real.peak_at][0] if real.peak_at >= 0 else "the inputs",
        "differences": differences(ours, real),
        "allocator_differs_by": max(abs(a - live) for a, (_, live) in zip(boundaries, real.steps, strict=False)),
        "allocator_peak": given + record.peak,
        "workspace": given + record.peak - real.peak,
        "largest_workspace": record.workspace[most] if most is not None else 0,
        "largest_workspace_in": real.steps[most][0] if most is not None else "",
        "plain_allocator_peak": given + allocator_record(plain).peak,
        "process_growth": growth,
    }


def report(networks: dict[str, Any]) -> str:
    """The result in Markdown."""
    rows, notes = [], []
    for name, found in networks.items():
        if "error" in found:
            notes.append(f"- {name}: {found['error']}")
            continue
        size = {key: value and value / 2**20 for key, value in found.items() if key in SIZES}
        rows.append(
            [
                *(name, size["ours"], size["real"], f"{found['difference']:+.3%}", found["peak_after"]),
                *(found["operators"], found["allocator_differs_by"], size["workspace"], size["largest_workspace"]),
                *(found["largest_workspace_in"], size["plain_allocator_peak"], size["process_growth"]),
            ]
        )
        notes += [f"- {name}: {text}" for text in found["differences"][:5]]
    headers = ["network", "ours, MiB", "real run, MiB", "difference", "peak after", "operators"]
    headers += ["allocator differs by, bytes", "workspace, MiB", "largest in one operator, MiB", "in"]
    headers += ["plain run's allocator, MiB", "process growth, MiB"]
    return "\n\n".join([table(headers, rows), *(["## Where they differ", "\n".join(notes)] if notes else [])])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where a network differs by more than is allowed or failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="regular expression that a network's name must match")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for memory.json and memory.md")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.case:
        print(json.dumps(measure(options.case["network"])))
        return 0
    networks = {}
    for name in chosen(options.only):
        networks[name] = found = run_case(__file__, {"network": name})
        text = found.get("error") or f"{found['difference']:+.3%} of {found['real'] / 2**20:.1f} MiB"
        print(f"{name}: {text}", *found.get("differences", [])[:3], sep="\n  ", flush=True)
    beyond = [n for n, found in networks.items() if abs(found.get("difference", 1.0)) > ALLOWED]
    record = {"allowed": ALLOWED, "beyond": beyond, "networks": networks}
    print(write_results(options.output, "memory", record, report(networks)))
    print(f"within {ALLOWED:.0%} on {len(networks) - len(beyond)} of {len(networks)} networks")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())

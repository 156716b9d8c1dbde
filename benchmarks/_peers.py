"""Other tools, each called as its own documentation says for the work of every layer."""

import copy
import inspect
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass

import torch
from _common import everything
from torch import nn

Inputs = tuple[torch.Tensor, ...]
Count = float | None


def ours(model: nn.Module, inputs: Inputs) -> Count:
    """`profiler.analyze` with everything that it has to say made: rows, receptive fields, memory, modules."""
    from profiler import analyze

    profile = analyze(model, *inputs)
    everything(profile)
    return profile.totals.macs


def fvcore(model: nn.Module, inputs: Inputs) -> Count:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, inputs)
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    analysis.by_module()
    return analysis.total()


def torchinfo(model: nn.Module, inputs: Inputs) -> Count:
    import torchinfo as peer

    columns = ("input_size", "output_size", "num_params", "mult_adds")
    return peer.summary(model, input_data=list(inputs), verbose=0, col_names=columns, device="cpu").total_mult_adds


def thop(model: nn.Module, inputs: Inputs) -> Count:
    from thop import profile

    return profile(model, inputs=inputs, verbose=False, ret_layer_info=True)[0]


def ptflops(model: nn.Module, inputs: Inputs) -> Count:
    from ptflops import get_model_complexity_info

    names = _argument_names(model)
    macs, _ = get_model_complexity_info(
        model,
        tuple(inputs[0].shape[1:]),
        input_constructor=lambda _: dict(zip(names, inputs, strict=False)),
        as_strings=False,
        print_per_layer_stat=False,
        verbose=False,
    )
    if macs is None:
        raise RuntimeError("ptflops returned None: its run of the model failed")
    return macs


def calflops(model: nn.Module, inputs: Inputs) -> Count:
    from calflops import calculate_flops

    return calculate_flops(
        model, args=list(inputs), kwargs={}, print_results=False, print_detailed=False, output_as_string=False
    )[1]


def torchprofile(model: nn.Module, inputs: Inputs) -> Count:
    from torchprofile import profile_macs

    return sum(profile_macs(model, inputs, reduction=None).values())


def torchlens(model: nn.Module, inputs: Inputs) -> Count:
    import torchlens as peer
    from torchlens.options import CaptureOptions

    return float(peer.trace(model, list(inputs), capture=CaptureOptions(layers_to_save=None)).total_macs_forward)


@contextmanager
def _torchlens_wrappers() -> Iterator[None]:
    """It replaces torch's functions for the rest of the process; here only for as long as it runs."""
    from torchlens.backends.torch.wrappers import unwrap_torch, wrap_torch

    wrap_torch()
    try:
        yield
    finally:
        unwrap_torch()


def torch_counter(model: nn.Module, inputs: Inputs) -> Count:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        model(*inputs)
    counter.get_flop_counts()
    return counter.get_total_flops() / 2


def _argument_names(model: nn.Module) -> list[str]:
    return list(inspect.signature(model.forward).parameters)


@dataclass(frozen=True)
class Tool:
    """One side of the comparison.

    Attributes:
        name: as it is shown.
        package: what must be installed, "" for nothing.
        count: counts a model; returns multiply-accumulates.
        meta: runs on a copy of the model without storage.
        fresh: leaves traces in the model, and so gets a new copy for each call, made outside the clock.
        peer: of which peer this is one way to run; the faster way stands for it.
    """

    name: str
    package: str
    count: Callable[[nn.Module, Inputs], Count]
    meta: bool = False
    fresh: bool = False
    peer: str = ""
    around: Callable[[], AbstractContextManager[None]] = nullcontext


TOOLS = (
    Tool("ours", "", ours),
    Tool("fvcore", "fvcore", fvcore),
    Tool("torchinfo", "torchinfo", torchinfo),
    Tool("thop", "thop", thop, fresh=True),
    Tool("ptflops", "ptflops", ptflops, fresh=True),
    Tool("calflops", "calflops", calflops, fresh=True),
    Tool("torchprofile", "torchprofile", torchprofile),
    Tool("torchlens", "torchlens", torchlens, around=_torchlens_wrappers),
    Tool("torch (meta)", "", torch_counter, meta=True, peer="torch"),
    Tool("torch (cpu)", "", torch_counter, peer="torch"),
)


class Runner:
    """A network prepared for each tool, so that only the tool's own work is on the clock."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self._model, self._inputs = model, inputs
        self._meta: nn.Module | None = None

    def prepare(self, tool: Tool) -> Callable[[], Count]:
        """The call to be timed."""
        model, inputs = self._model, self._inputs
        if tool.meta:
            if self._meta is None:
                self._meta = copy.deepcopy(model).to("meta")
            model, inputs = self._meta, tuple(t.to("meta") for t in inputs)
        elif tool.fresh:
            model = copy.deepcopy(model)

        def call() -> Count:
            with torch.no_grad(), redirect_stdout(io.StringIO()):
                return tool.count(model, inputs)

        return call

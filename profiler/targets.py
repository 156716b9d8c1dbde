"""From an opened target to its profile: one way for each kind of model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from profiler.analyzer import analyze
from profiler.aten.call import tensors_of
from profiler.errors import ModelError, UsageError
from profiler.inputs import find_inputs, parse_input, read_arrays
from profiler.onnx_graph import analyze_onnx
from profiler.profile import Profile
from profiler.signatures import parameters_of
from profiler.sources import OpenedModel


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is to be analyzed on.

    Attributes:
        sizes: inputs as they were written: "1x3x224x224", "input_ids=1x16:int64".
        arrays: an .npz file with inputs by name.
        dims: sizes by name: of the axes that an ONNX graph leaves open, or of the inputs that a model comes with.
        backward: whether the backward pass is counted.
        train: whether a module is analyzed in training mode.
    """

    sizes: tuple[str, ...] = ()
    arrays: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    backward: bool = False
    train: bool = False


Found = tuple[Profile | None, list[str]]
_NO_DIMS = "names are those of an ONNX graph or of a target such as timm:NAME; other modules take sizes from --input"


def profile_of(opened: OpenedModel, request: Request) -> Found:
    """The profile, None where the target holds nothing that runs; and what was assumed for it, in sentences.

    Raises:
        UsageError: the inputs asked for are malformed, or named otherwise than the model's.
        ModelError: the model failed on them.
        DataError: the .npz file cannot be used.
    """
    return _PROFILERS[opened.kind](opened, request)


def _of_module(opened: OpenedModel, request: Request) -> Found:
    module = opened.module
    if module is None:
        return None, []
    for name in request.dims:
        if name not in opened.dims:
            there = f"it has {', '.join(opened.dims)}" if opened.dims else _NO_DIMS
            raise UsageError(f"--dim {name}: this model has no size of that name; {there}")
    args, kwargs = given_inputs(request)
    if request.dims and (args or kwargs):
        raise UsageError("--dim sets sizes of the inputs that the model comes with; --input and --inputs replace those")
    _check_names(module, kwargs)
    notes = []
    if not args and not kwargs:
        example = opened.inputs(request.dims) if opened.inputs is not None else find_inputs(module, opened.target)
        args, kwargs, notes = list(example.args), dict(example.kwargs), [example.note]
    module.train(request.train)
    try:
        return analyze(module, *args, backward=request.backward, **kwargs), notes
    except ModelError as error:
        if request.sizes and any(not t.is_floating_point() and not t.any() for t in tensors_of((args, kwargs))):
            raise ModelError(
                f"{error}\nIntegers given by size were zeros here; pass real ones with --inputs where it matters."
            ) from error
        if notes:
            raise ModelError(f"{error}; the {notes[0]}: pass others with --input or --inputs") from error
        raise


def _of_onnx(opened: OpenedModel, request: Request) -> Found:
    if request.backward:
        raise UsageError("--backward differentiates a module; an ONNX graph holds no gradients")
    if request.train:
        raise UsageError("--train is about modules; an ONNX graph is what it was exported as")
    if opened.graph is None:
        return None, []
    args, kwargs = given_inputs(request)
    if args and kwargs:
        raise UsageError("--input: name all inputs of an ONNX graph, or none of them")
    # A size says nothing of values; integers from a file settle sizes and branches of the graph.
    stored = read_arrays(request.arrays) if request.arrays else {}
    by_name = {**{name: tuple(tensor.shape) for name, tensor in kwargs.items()}, **stored}
    profile = analyze_onnx(opened.graph, by_name or [tuple(tensor.shape) for tensor in args], dims=request.dims)
    sizes = ", ".join("x".join(map(str, shape)) or "scalar" for shape in profile.inputs)
    return profile, [] if args or kwargs else [f"input {sizes} as the graph declares it"]


def _of_weights(_opened: OpenedModel, _request: Request) -> Found:
    return None, []


_PROFILERS: dict[str, Callable[[OpenedModel, Request], Found]] = {
    "module": _of_module,
    "onnx": _of_onnx,
    "weights": _of_weights,
}


def given_inputs(request: Request) -> tuple[list[Any], dict[str, Any]]:
    """The inputs asked for, by position and by name.

    Raises:
        UsageError: one of them is malformed, or given twice.
        DataError: the .npz file cannot be used.
    """
    named: dict[str, Any] = dict(read_arrays(request.arrays)) if request.arrays else {}
    args = []
    for text in request.sizes:
        name, by_name, size = text.rpartition("=")
        if not by_name:
            args.append(parse_input(text))
        elif name in named or not name:
            raise UsageError(f"--input {text}: " + (f"{name} is given twice" if name else "there is no name before ="))
        else:
            named[name] = parse_input(size)
    return args, named


def _check_names(module: nn.Module, kwargs: Mapping[str, Any]) -> None:
    parameters = parameters_of(module)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    wrong = [name for name in kwargs if name not in parameters]
    if wrong:
        there = ", ".join(parameters)
        raise UsageError(f"{type(module).__name__} has no input named {wrong[0]!r}; forward takes {there}")

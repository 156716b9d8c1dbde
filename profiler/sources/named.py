"""What the zoos have in common: a package that may be missing, a name that may be misspelt, a network to be built.

Networks get random weights, the same each time. Nothing is downloaded for them. One whose parameters would not fit in
memory is built without storage: it can be counted, but not run.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from profiler.environment import available_memory, version
from profiler.errors import ModelError, NetgaugeError, UnavailableError, UsageError
from profiler.sources.limits import DEFAULT, Limits

# The part of the free memory that parameters may take; a run needs some, too.
MEMORY_SHARE = 0.5
_OPERATORS = "torchvision::"
# How torch says that an allocation failed.
_NO_MEMORY = "can't allocate memory"


def package(name: str, target: str, *, needs: str | None = None) -> Any:  # noqa: ANN401  # a module
    """Import a package that need not be installed.

    Args:
        name: of the module to import.
        target: what the user named, for messages.
        needs: the distribution to install; the first part of the name where None.

    Raises:
        UnavailableError: it is missing, or it does not go with the installed torch.
    """
    needs = needs or name.partition(".")[0]
    with importing(target, needs):
        return importlib.import_module(name)


@contextmanager
def importing(target: str, needs: str) -> Iterator[None]:
    """What goes wrong inside is a package that cannot be imported; zoos import most of themselves when it is used.

    Args:
        target: what the user named, for messages.
        needs: the distribution.

    Raises:
        UnavailableError: it, or something that it needs, is missing, or it does not go with the installed torch.
    """
    try:
        yield
    except NetgaugeError:
        raise
    except Exception as error:
        raise misfit(target, error) or UnavailableError(f"{target}: {_why(needs, error)}") from error


def _why(needs: str, error: Exception) -> str:
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing and missing == needs.replace("-", "_"):
        return f"{needs} is not installed; pip install {needs}"
    if missing:
        return f"{needs} needs {missing}, which is not installed; pip install {missing}"
    return f"{needs} cannot be imported: {type(error).__name__}: {_first_line(error)}"


def misfit(target: str, error: BaseException) -> UnavailableError | None:
    """The error for a torchvision that was built for another torch, where that is what lies behind an error."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, RuntimeError) and _OPERATORS in str(cause)):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return UnavailableError(
        f"{target}: the installed torchvision {version('torchvision')} does not go with torch {torch.__version__} "
        f"({_first_line(cause)}); install the pair from the same place, see https://pytorch.org/get-started"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def unknown(target: str, name: str, known: Iterable[str], where: str) -> ModelError:
    """The error for a name that is not there: what was meant, perhaps.

    Args:
        target: what the user named.
        name: the part of it that was looked for.
        known: the names there are.
        where: what was looked in.
    """
    near = get_close_matches(name, list(known), n=4, cutoff=0.6)
    meant = f"; near it: {', '.join(near)}" if near else ""
    return ModelError(f"{target}: {where} has no {name!r}{meant}")


def refuse_arguments(target: str, kwargs: Mapping[str, Any], refused: Iterable[str]) -> None:
    """Refuse arguments that would load weights in ways of their own.

    Raises:
        UsageError: one of them is given.
    """
    for name in refused:
        if name in kwargs:
            raise UsageError(f"{target}: {name} is not taken; weights come from a local file with --weights FILE")


def built(
    target: str, build: Callable[[], Any], *, limits: Limits = DEFAULT, stored: bool = False
) -> tuple[nn.Module, tuple[str, ...]]:
    """A network in evaluation mode, with the same random weights each time, and notes.

    Args:
        target: what the user named, for messages.
        build: makes it.
        limits: how many parameters it may have, as tensors.
        stored: its weights will be loaded, for which it needs storage even where that is more than memory has.

    Raises:
        ModelError: it cannot be built, or is no module.
    """
    free = None if stored else available_memory()
    most = None if free is None else int(free * MEMORY_SHARE)
    try:
        with _watched(target, limits, most):
            return _made(target, build), () if stored else ("random weights; --weights FILE takes a local file's",)
    except _TooLargeError as error:
        if stored:
            raise ModelError(f"{target}: its parameters do not fit in memory") from error
    module = _without_storage(target, build, limits)
    size = sum(p.numel() * p.itemsize for p in module.parameters())
    note = (
        f"its parameters would take {size / 2**30:.1f} GiB, more than half of the free memory: they have no storage, "
        "so that what needs a real run is skipped"
    )
    return module, (note,)


def _without_storage(target: str, build: Callable[[], Any], limits: Limits) -> nn.Module:
    """A network whose parameters have no storage; nor has anything else in it where a single one is too large."""
    try:
        with _watched(target, limits, None, without_storage=True):
            return _made(target, build)
    except _TooLargeError:
        with _watched(target, limits, None), torch.device("meta"):
            return _made(target, build)
    except ModelError as error:
        raise ModelError(f"{error}; its parameters take more than half of the free memory, so it got none") from error


class _TooLargeError(BaseException):  # no error, and no constructor may catch it: the network is built otherwise
    """The parameters take more than they may."""


def _made(target: str, build: Callable[[], Any]) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = build()
    except NetgaugeError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
            raise _TooLargeError from error
        unfit = misfit(target, error)
        if unfit is not None:
            raise unfit from error
        raise ModelError(f"{target}: cannot be built: {type(error).__name__}: {_first_line(error)[:300]}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{target}: made a {type(module).__name__}, no torch.nn.Module")
    return module.eval()


@contextmanager
def _watched(target: str, limits: Limits, most: int | None, *, without_storage: bool = False) -> Iterator[None]:
    """Parameters are added up meanwhile as modules register them; on demand they lose their storage.

    Only parameters do: constructors compute with constants and buffers.
    """
    count, size = 0, 0

    def look(_module: nn.Module, _name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        nonlocal count, size
        count += 1
        limits.check("tensors", count, f"{target}, its parameters")
        # A lazy layer's have no size yet.
        size += 0 if isinstance(parameter, nn.UninitializedParameter) else parameter.numel() * parameter.itemsize
        if most is not None and size > most:
            raise _TooLargeError
        if not without_storage or parameter.is_meta or isinstance(parameter, nn.UninitializedParameter):
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(look)  # type: ignore[arg-type]  # may return a parameter
    try:
        yield
    finally:
        hook.remove()

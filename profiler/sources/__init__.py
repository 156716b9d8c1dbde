"""Opening models: files of every kind that is known, told apart by content, and factories named by the user.

A file is taken as hostile: nothing in it runs unless the user says so (`trust=True`, `--trust`). See docs/security.md.
"""

import importlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from profiler.errors import ModelError, UsageError
from profiler.sources.bare_pickle import refuse_pickle
from profiler.sources.detect import kind_of
from profiler.sources.hugging_face import open_hugging_face
from profiler.sources.index_file import open_index
from profiler.sources.legacy import open_legacy
from profiler.sources.limits import DEFAULT, Limits, check_file
from profiler.sources.neighbours import source_of
from profiler.sources.onnx_file import open_onnx
from profiler.sources.opened import OpenedModel
from profiler.sources.program import open_program
from profiler.sources.pyfile import factories_in, folder_on_path, load_attribute, split_spec
from profiler.sources.safetensors_file import open_safetensors
from profiler.sources.timm_models import open_timm
from profiler.sources.torch_zip import open_torch_zip
from profiler.sources.torchscript import open_torchscript
from profiler.sources.torchvision_models import open_torchvision
from profiler.sources.weights import load_weights

Opener = Callable[..., OpenedModel]

# By kind: what `kind_of` finds -> what opens it.
OPENERS: dict[str, Opener] = {
    "torch zip": open_torch_zip,
    "legacy torch": open_legacy,
    "torchscript": open_torchscript,
    "pickle": refuse_pickle,
    "program": open_program,
    "safetensors": open_safetensors,
    "index": open_index,
    "onnx": open_onnx,
}
# By prefix: what opens a name such as `timm:resnet18`.
NAMED: dict[str, Callable[..., OpenedModel]] = {
    "timm": open_timm,
    "torchvision": open_torchvision,
    "hf": open_hugging_face,
}


def open_model(
    target: str | Path,
    *,
    weights: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
    limits: Limits = DEFAULT,
) -> OpenedModel:
    """Open a model by file, by factory or by name.

    Args:
        target: a file (torch.save, torch.export, safetensors or an index of several, ONNX; told apart by content),
            `FILE.py:factory` or `package.module:factory`, or a name: `timm:NAME`, `torchvision:NAME`, `hf:NAME`,
            `hf:FOLDER`.
        weights: a file with the tensors of the network of a factory or a name: torch.save (a state_dict, or a
            checkpoint that has one in it), TorchScript, safetensors, or an index of several.
        kwargs: keyword arguments for the factory, or for what builds the network of that name.
        trust: let code in the file run, in this very process and without limits: a script that says so is itself the
            process that trusts. The command line's `--trust` starts another one for it; see docs/security.md.
        limits: how much the file may ask for.

    Raises:
        ModelError: missing, damaged, or the weights do not fit.
        RefusedError: it would have to run code, and `trust` is not set.
        UnavailableError: the package that a name belongs to is not installed.
        UsageError: `weights` or `kwargs` for a target that is neither a factory nor a name.
    """
    target = str(target)
    prefix, named, name = target.partition(":")
    if named and prefix in NAMED:
        opened = NAMED[prefix](name, weights=weights, kwargs=dict(kwargs or {}), trust=trust, limits=limits)
        if weights is None or opened.module is None:
            return opened
        notes = load_weights(opened.module, Path(weights).expanduser(), target, limits)
        return replace(opened, notes=(*opened.notes, *notes))
    if is_factory(target):
        return _from_factory(target, weights, dict(kwargs or {}), limits)
    path = Path(target).expanduser()
    if path.suffix == ".py" and path.is_file():
        raise ModelError(f"{path}: name what makes the model, as {path}:NAME{factories_in(path)}")
    if weights is not None or kwargs:
        raise UsageError(f"{target}: weights and arguments go with a factory or a name, such as FILE.py:factory")
    kind = kind_of(path)
    check_file(path, limits)
    return OPENERS[kind](path, trust=trust, limits=limits)


def is_factory(target: str) -> bool:
    """Whether a target names a callable rather than a file."""
    return ":" in target and not Path(target).exists()


def _from_factory(target: str, weights: str | Path | None, kwargs: dict[str, Any], limits: Limits) -> OpenedModel:
    factory = load_attribute(target) if ".py:" in target else _imported(target)
    if isinstance(factory, nn.Module):
        if kwargs:
            raise UsageError(f"{target}: is a module already and takes no arguments ({', '.join(kwargs)})")
        module = factory
    elif callable(factory):
        try:
            with folder_on_path(split_spec(target)[0].parent) if ".py:" in target else nullcontext():
                module = factory(**kwargs)
        except Exception as error:
            raise ModelError(f"{target}: the factory failed: {type(error).__name__}: {error}") from error
    else:
        raise ModelError(f"{target}: is neither a module nor a callable that makes one")
    if not isinstance(module, nn.Module):
        raise ModelError(f"{target}: made a {type(module).__name__}, no torch.nn.Module")
    notes = () if weights is None else load_weights(module, Path(weights).expanduser(), target, limits)
    return OpenedModel(target, "module", module=module.eval(), notes=notes)


def _imported(target: str) -> Any:  # noqa: ANN401  # whatever the user named
    module, _, name = target.partition(":")
    try:
        here = Path.cwd()
        # As `python -m` has it, the current folder comes first.
        with folder_on_path(here, frozenset({module.partition(".")[0]} if source_of(module, here) else ())):
            return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{target}: no such file, and no such factory in the current folder or an installed package ({error})"
        ) from error


__all__ = ["NAMED", "OPENERS", "Limits", "OpenedModel", "is_factory", "open_model"]

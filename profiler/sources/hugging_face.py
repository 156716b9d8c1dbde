"""`hf:NAME` and `hf:FOLDER`: transformers models, from a configuration; weights from safetensors files in the folder.

A name is a model type ("bert") or a class ("BertForMaskedLM") with its default configuration, or a model on the hub
("org/name"), of which only the config.json is fetched. A folder's weights are read and checked here and handed to
transformers as tensors, so that no other file of the folder is opened.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from profiler.environment import available_memory
from profiler.errors import ModelError, NetgaugeError, RefusedError
from profiler.sources.hf_config import configuration, read_config
from profiler.sources.hf_inputs import call_of
from profiler.sources.hub import CONFIG, fetch_config, is_hub_name, offline
from profiler.sources.index_file import open_index, read_index
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.named import MEMORY_SHARE, built, importing, misfit, package, unknown
from profiler.sources.opened import OpenedModel
from profiler.sources.safetensors_file import open_safetensors, read_tensors


@dataclass(frozen=True, slots=True)
class _Reader:
    listed: Callable[..., OpenedModel]
    read: Callable[[Path, Limits], dict[str, torch.Tensor]]


# Files that weights are read from, and what lists and reads them; the first that is there.
READERS = {
    "model.safetensors": _Reader(open_safetensors, read_tensors),
    "model.safetensors.index.json": _Reader(open_index, read_index),
}
_ADAPTER = "adapter_config.json"
_PIPELINE = "model_index.json"
# Kept for the next token of a text, which nobody asks for here.
_CACHES = ("use_cache",)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a name stands for.

    Attributes:
        model_type: what transformers registers the configuration under.
        values: of its config.json; none for the defaults.
        head: name of the class that builds it; "" where the library's own choice is taken.
        folder: that may hold weights.
        note: where the configuration comes from.
    """

    model_type: str
    values: Mapping[str, Any]
    head: str = ""
    folder: Path | None = None
    note: str = ""


def open_hugging_face(
    name: str,
    *,
    weights: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,  # noqa: ARG001  # an opener; code that comes with a model is not run in any case
    limits: Limits = DEFAULT,
) -> OpenedModel:
    """Build a transformers model.

    Args:
        name: a folder with a config.json, a model type, a class, or a model on the hub.
        weights: a state dict that will be loaded in place of the folder's.
        kwargs: values of the configuration; a dot leads into a nested one ("text_config.num_hidden_layers").
        trust: makes no difference here.
        limits: how much its files may ask for.

    Raises:
        UnavailableError: transformers is not installed, or the hub cannot be reached.
        ModelError: no such name, the configuration does not fit, or the weights do not.
        RefusedError: its architecture is code that comes with it, or a file asks for too much.
        UsageError: an argument that the configuration does not have.
    """
    target = f"hf:{name}"
    path = Path(name).expanduser()
    try:
        source = _source(name, path, target, limits)
        transformers = package("transformers", target)
        with offline():
            config = configuration(transformers, target, source.model_type, source.values, kwargs or {})
    except RefusedError as refused:
        raise RefusedError(str(refused), _listed(path, limits)) from refused
    with importing(target, "transformers"):  # its parts are imported when they are asked for
        builder = _builder(transformers, source, target)
    stored, where = (None, "") if weights is not None else _stored_weights(source, limits)
    notes = [source.note] if source.note else []
    if stored is not None:
        module, found = _loaded(transformers, builder.loaded, config, READERS[stored.name].read(stored, limits), target)
        notes += [f"weights from {stored}", *found]
    else:
        with offline():
            module, found = built(target, lambda: builder.made(config), limits=limits, stored=weights is not None)
        notes += [*found, *([where] if where else [])]
    _without_caches(module)
    call = call_of(module, target)
    return OpenedModel(
        target,
        "module",
        module=module,
        path=source.folder,
        notes=(*notes, *builder.notes),
        inputs=call.inputs,
        dims=call.dims,
    )


def _listed(folder: Path, limits: Limits) -> OpenedModel | None:
    """The tensors of a folder whose model is refused, where they can be listed."""
    for name, reader in READERS.items():
        if (folder / name).is_file():
            with suppress(NetgaugeError):
                opened: OpenedModel = reader.listed(folder / name, limits=limits)
                return opened
    return None


def _no_config(path: Path, target: str) -> ModelError:
    """The error for a folder that holds something else than a model of transformers'."""
    kinds = {
        _PIPELINE: "holds a pipeline of several models; name the folder of one of them",
        _ADAPTER: "holds an adapter, which changes another model; merge the two and save the result",
    }
    what = next((text for file, text in kinds.items() if (path / file).is_file()), f"has no {CONFIG}")
    return ModelError(f"{target}: {what}")


def _source(name: str, path: Path, target: str, limits: Limits) -> _Source:
    if not name:
        raise ModelError(f"{target} names nothing; write a model type such as hf:bert, hf:ORG/NAME or hf:FOLDER")
    if (path / CONFIG).is_file():
        return _described(path / CONFIG, path, "", target, limits)
    if path.is_file():
        return _described(path, None, "", target, limits)
    if path.is_dir() and "/" in name:
        raise _no_config(path, target)
    if name.startswith((".", "/", "~")):
        raise ModelError(f"{target}: no such folder")
    if is_hub_name(name):
        file = fetch_config(name, target)
        return _described(
            file, None, f"configuration of {name} on the hub; its weights are not fetched", target, limits
        )
    transformers = package("transformers", target)
    if name in transformers.CONFIG_MAPPING:
        return _Source(name, {}, note="the type's default configuration")
    made = _class_of(transformers, name)
    if made is not None and getattr(made, "config_class", None) is not None:
        return _Source(made.config_class.model_type, {}, head=name, note="the class's default configuration")
    if path.is_dir():
        raise _no_config(path, target)
    raise unknown(target, name, transformers.CONFIG_MAPPING.keys(), "transformers")


def _described(file: Path, folder: Path | None, note: str, target: str, limits: Limits) -> _Source:
    values = read_config(file, target, limits)
    heads = values.get("architectures")
    head = heads[0] if isinstance(heads, list) and heads and isinstance(heads[0], str) else ""
    return _Source(values["model_type"], values, head, folder, note)


def _class_of(transformers: Any, name: str) -> Any:  # noqa: ANN401  # a class
    """A model class of transformers' by its name, None where that is something else."""
    if not name.isidentifier() or name.startswith("_"):
        return None
    with importing(f"hf:{name}", "transformers"):
        found = getattr(transformers, name, None)
    return found if inspect.isclass(found) and issubclass(found, transformers.PreTrainedModel) else None


@dataclass(frozen=True, slots=True)
class _Builder:
    """What makes the network.

    Attributes:
        made: from a configuration, with random weights.
        loaded: from a configuration and tensors by name; with what did not fit.
        notes: what was assumed.
    """

    made: Callable[[Any], Any]
    loaded: Callable[[Any, Mapping[str, torch.Tensor]], tuple[Any, Mapping[str, Any]]]
    notes: tuple[str, ...] = ()


def _builder(transformers: Any, source: _Source, target: str) -> _Builder:  # noqa: ANN401  # a package
    head = _class_of(transformers, source.head)

    def loaded(made: Any, config: Any, state: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401  # as above
        return made.from_pretrained(
            None, config=config, state_dict=dict(state), output_loading_info=True, trust_remote_code=False
        )

    if head is not None:
        # The class method that the Auto classes call: it builds in the element type that the configuration has.
        return _Builder(head._from_config, lambda config, state: loaded(head, config, state))  # noqa: SLF001
    notes = (
        (f"the class {source.head[:80]} is not one of transformers': its base model is taken",) if source.head else ()
    )

    def base(config: Any) -> Any:  # noqa: ANN401  # a class
        try:
            found = transformers.MODEL_MAPPING[type(config)]
        except KeyError as error:
            own = type(config).__name__.removesuffix("Config")
            heads = [name for name in dir(transformers) if name.startswith(f"{own}For")]
            instead = " or ".join(f"hf:{name}" for name in heads[:4]) or "a class of transformers'"
            raise ModelError(f"{target}: this type has no base model; name {instead}") from error
        return found[0] if isinstance(found, tuple | list) else found

    def made(config: Any) -> Any:  # noqa: ANN401  # a model
        base(config)  # says better than the Auto class what is wrong
        return transformers.AutoModel.from_config(config)

    return _Builder(made, lambda config, state: loaded(base(config), config, state), notes)


def _stored_weights(source: _Source, limits: Limits) -> tuple[Path | None, str]:
    """The file with the folder's weights; or why none are read, as a note."""
    if source.folder is None:
        return None, ""
    if source.values.get("quantization_config"):
        return None, "the folder's weights are quantized: this is the network as it was before"
    for name, reader in READERS.items():
        file = source.folder / name
        if not file.is_file():
            continue
        need, free = sum(t.bytes for t in reader.listed(file, limits=limits).tensors), available_memory()
        if free is not None and need > free * MEMORY_SHARE:
            return None, f"the folder's weights would take {need / 2**30:.1f} GiB, half of the free memory or more"
        return file, ""
    pickled = (
        sorted(source.folder.glob("*.bin")) + sorted(source.folder.glob("*.pt")) + sorted(source.folder.glob("*.pth"))
    )
    if pickled:
        return None, f"the folder has no weights in safetensors files; --weights {pickled[0]} reads that one"
    return None, "the folder holds no weights"


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:  # noqa: ANN401  # a package
    """The library's progress bars are not drawn: the command line has its own."""
    log = getattr(transformers, "logging", None)
    if log is None or not log.is_progress_bar_enabled():
        yield
        return
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.enable_progress_bar()


def _loaded(
    transformers: Any,  # noqa: ANN401  # a package
    load: Callable[[Any, Mapping[str, torch.Tensor]], tuple[Any, Mapping[str, Any]]],
    config: Any,  # noqa: ANN401  # a configuration
    state: Mapping[str, torch.Tensor],
    target: str,
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with these weights, and notes.

    Raises:
        ModelError: weights are missing, or of another size.
    """
    try:
        with offline(), _without_bars(transformers):
            module, info = load(config, state)
    except NetgaugeError:
        raise
    except Exception as error:
        unfit = misfit(target, error)
        if unfit is not None:
            raise unfit from error
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{target}: its weights do not fit: {type(error).__name__}: {reason}") from error
    missing = [*info.get("missing_keys", ()), *(str(key) for key in info.get("mismatched_keys", ()))]
    if missing:
        raise ModelError(f"{target}: its weights do not fit: {len(missing)} are missing, such as {min(missing)}")
    unused = sorted(info.get("unexpected_keys", ()))
    notes = (f"{len(unused)} of its tensors have no place in the network, such as {unused[0]}",) if unused else ()
    return module.eval(), notes


def _without_caches(module: nn.Module) -> None:
    """A model for text would return what it keeps for the next token."""
    configs = [module.config, *(c for c in vars(module.config).values() if hasattr(c, "to_dict"))]
    for config in configs:
        for name in _CACHES:
            if getattr(config, name, None):
                setattr(config, name, False)

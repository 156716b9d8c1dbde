"""What a torch.save file holds, read off its pickle: the tensors, and whether a whole module may be loaded.

A whole module is loaded without `--trust` only where all of this holds; an allow-list of classes alone is not safe,
because constructors can be called with the file's arguments and instances can carry a `forward` of their own:

* every name is a stock `torch.nn` module class, or one of the few functions torch.save needs;
* module classes are created bare (NEWOBJ without arguments), never called;
* every instance has the attributes of a fresh one of its class and no others, and its hooks are empty;
* storages are as large as their zip members, stored uncompressed.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import nn

from profiler.errors import ModelError, RefusedError
from profiler.sources.opcodes import Global, Instance, Persistent, Result

_REBUILD = {Global("torch._utils", "_rebuild_tensor_v2"), Global("torch._utils", "_rebuild_tensor")}
_PARAMETER = Global("torch._utils", "_rebuild_parameter")
_ORDERED = Global("collections", "OrderedDict")
_SETS = {Global("__builtin__", "set"), Global("builtins", "set")}
_SIZE = Global("torch", "Size")
CALLABLE = {*_REBUILD, *_SETS, _PARAMETER, _ORDERED, _SIZE}
FUNCTIONS = {
    Global("torch._C._nn", "gelu"),
    Global("torch.nn.functional", "gelu"),
    Global("torch.nn.functional", "relu"),
    Global("torch", "relu"),
    *(
        Global("torch", str(d).removeprefix("torch."))
        for d in (torch.float32, torch.float16, torch.bfloat16, torch.int64)
    ),
}
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")
MOST_NESTING = 200


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A stored tensor, as the file declares it.

    Attributes:
        name: path in the checkpoint, keys joined by dots.
        shape: its size.
        dtype: element type, in torch's words.
        bytes: of its elements.
        storage: which storage they lie in: tied tensors have the same.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    storage: str


def storage_types() -> dict[Global, torch.dtype]:
    """Torch's storage classes and their element types."""
    return {
        Global("torch", f"{name}Storage"): dtype
        for name, dtype in {
            "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
            "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
            "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
        }.items()
    }  # fmt: skip


@lru_cache(maxsize=1)
def stock_classes() -> dict[Global, type[nn.Module]]:
    """Every module class that torch.nn itself offers, under the name a pickle gives it."""
    names: dict[str, Any] = {**vars(nn), **vars(nn.modules.linear)}
    return {
        Global(value.__module__, value.__qualname__): value
        for value in names.values()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__.startswith("torch.nn.modules.")
    }


def unknown_names(names: tuple[Global, ...]) -> tuple[Global, ...]:
    """Names that are neither stock torch.nn classes nor what torch.save needs."""
    known = {*CALLABLE, *FUNCTIONS, *storage_types(), *stock_classes()}
    return tuple(name for name in names if name not in known)


def tensors_in(tree: Any, source: str) -> tuple[TensorEntry, ...]:  # noqa: ANN401  # a pickle's tree
    """All tensors in a symbolic tree, each with its path, in order."""
    found: list[TensorEntry] = []
    seen: set[int] = set()

    def visit(value: Any, path: tuple[str, ...]) -> None:  # noqa: ANN401  # as above
        if len(path) > MOST_NESTING:
            raise RefusedError(f"{source}: nested more than {MOST_NESTING} deep; refused")
        tensor = _tensor(value, ".".join(path), source)
        if tensor is not None:
            found.append(tensor)
            return
        if id(value) in seen:
            return
        for key, below in _children(value):
            if isinstance(below, dict | list | tuple | Instance | Result):
                visit(below, (*path, key) if key else path)
        seen.add(id(value))

    visit(tree, ())
    return tuple(found)


_CONTAINERS = ("_parameters", "_buffers", "_modules")


def _children(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # any node
    if isinstance(value, Instance):
        state = value.state if isinstance(value.state, dict) else {}
        for key, below in state.items():
            yield ("" if key in _CONTAINERS else str(key)), below
    elif isinstance(value, Result):
        yield from ((str(k), v) for k, v in value.items.items())
    elif isinstance(value, Mapping):
        yield from ((str(k), v) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(n), v) for n, v in enumerate(value))


def _tensor(value: Any, name: str, source: str) -> TensorEntry | None:  # noqa: ANN401  # any node
    if not isinstance(value, Result):
        return None
    if value.function == _PARAMETER and isinstance(value.args, tuple) and value.args:
        return _tensor(value.args[0], name, source)
    if value.function not in _REBUILD:
        return None
    try:
        storage, offset, shape, stride = value.args[:4]
        _, kind, key, _, elements = storage.key
        dtype = storage_types()[kind]
        reach = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) + 1 if 0 not in shape else 0
        sane = min((offset, *shape, *stride), default=0) >= 0 and reach <= elements
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: the tensor {name!r} is described in a way that torch.save never does") from error
    if not sane:
        raise RefusedError(f"{source}: the tensor {name!r} reaches beyond its storage of {elements:,} elements")
    return TensorEntry(name, tuple(shape), str(dtype).removeprefix("torch."), prod(shape) * dtype.itemsize, str(key))


def storage_bytes(tree: Any) -> dict[str, int]:  # noqa: ANN401  # a pickle's tree
    """Bytes of every storage that the pickle refers to, as it declares them."""
    sizes: dict[str, int] = {}
    pending, seen = [tree], set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Persistent):
            _, kind, key, _, elements = value.key
            sizes[str(key)] = int(elements) * storage_types()[kind].itemsize
        elif isinstance(value, Result):
            pending += [value.args, value.state, *value.items.values()]
        elif isinstance(value, Instance):
            pending += [value.args, value.state]
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
    return sizes


def check_module(tree: Any, source: str) -> None:  # noqa: ANN401  # a pickle's tree
    """Check a pickled module, or containers of tensors, by the rules above.

    Raises:
        RefusedError: naming the attribute or the value that breaks them.
    """
    pending, seen = [tree], set[int]()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Instance):
            pending += _checked_instance(value, source)
        elif isinstance(value, Result):
            if value.function not in CALLABLE or (value.state is not None and value.function != _ORDERED):
                raise RefusedError(f"{source}: the pickle calls {value.function}; refused")
            pending += [value.args, *value.items.values()]
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, Global) and value not in FUNCTIONS:
            raise RefusedError(f"{source}: {value} is stored as a value, which no stock module does; refused")


def _checked_instance(instance: Instance, source: str) -> list[Any]:
    kind = instance.kind
    if kind not in stock_classes():
        raise RefusedError(f"{source}: {kind} is no stock torch.nn class; refused")
    if isinstance(instance.state, dict) and not instance.state.keys() >= {"_parameters", "_buffers", "_modules"}:
        raise RefusedError(f"{source}: an instance of {kind} lacks what every module has; refused")
    if instance.args != ():
        raise RefusedError(f"{source}: {kind} would be constructed with the file's own arguments; refused")
    if not isinstance(instance.state, dict):
        raise RefusedError(f"{source}: {kind} has a state that is no dictionary; refused")
    extra = sorted(set(map(str, instance.state)) - _fresh_attributes(kind))
    if extra:
        raise RefusedError(
            f"{source}: an instance of {kind} carries {', '.join(extra)}, which a fresh one does not have; refused"
        )
    for name in (n for n in instance.state if n.endswith("hooks") or n in _HOOKS):
        hooks = instance.state[name]
        if (isinstance(hooks, Result) and (hooks.items or hooks.args)) or (isinstance(hooks, dict) and hooks):
            raise RefusedError(f"{source}: an instance of {kind} brings hooks of its own ({name}); refused")
    return list(instance.state.values())


@lru_cache(maxsize=256)
def _fresh_attributes(kind: Global) -> frozenset[str]:
    """Attributes of a newly made instance of a stock class; none where it cannot be made from ones alone."""
    made = stock_classes()[kind]
    if issubclass(made, nn.RNNBase | nn.RNNCellBase):
        return frozenset(vars(_bare(made, 1, 1)))
    required = [
        p
        for p in inspect.signature(made.__init__).parameters.values()
        if p.name != "self" and p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    try:
        return frozenset(vars(_bare(made, *[_argument(p.name) for p in required])))
    except Exception:  # noqa: BLE001  # a class that cannot be made this way is simply not on the list
        return frozenset()


def _bare(made: type[nn.Module], *args: Any) -> nn.Module:  # noqa: ANN401  # what constructors take
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about arguments that only stand in here
        return made(*args)


_ARGUMENTS: dict[str, Callable[[], Any]] = {
    "unflattened_size": lambda: (1,),
    "encoder_layer": lambda: _bare(nn.TransformerEncoderLayer, 1, 1),
    "decoder_layer": lambda: _bare(nn.TransformerDecoderLayer, 1, 1),
}


def _argument(name: str) -> Any:  # noqa: ANN401  # as above
    return _ARGUMENTS.get(name, lambda: 1)()

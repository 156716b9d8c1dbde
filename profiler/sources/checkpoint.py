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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from profiler.errors import RefusedError
from profiler.sources.opcodes import Global, Instance, Result

PARAMETER = Global("torch._utils", "_rebuild_parameter")
ORDERED = Global("collections", "OrderedDict")
SETS = {Global("__builtin__", "set"), Global("builtins", "set")}
SIZE = Global("torch", "Size")
# What torch.save and nothing else calls for a tensor; `described` knows their arguments.
REBUILD = {
    name: Global("torch._utils", f"_rebuild_{name}")
    for name in (
        *("tensor", "tensor_v2", "tensor_v3", "qtensor", "sparse_tensor", "meta_tensor_no_storage"),
        *("wrapper_subclass", "parameter_with_state"),
    )
}
FROM_TYPE = Global("torch._tensor", "_rebuild_from_type_v2")
LAYOUT = Global("torch.serialization", "_get_layout")
# What is made of plain values alone; checkpoints note such things beside their tensors.
_PLAIN = {
    Global("_codecs", "encode"),
    Global("collections", "Counter"),
    Global("torch", "device"),
    *(Global(module, name) for module in ("builtins", "__builtin__") for name in ("complex", "bytearray")),
}
CALLABLE = {*REBUILD.values(), *SETS, *_PLAIN, PARAMETER, ORDERED, SIZE, FROM_TYPE, LAYOUT}
# Classes of tensors that are stored as any other tensor is.
PLAIN_TENSORS = {
    Global("torch", "Tensor"),
    Global("torch.nn.parameter", "Parameter"),
    Global("torch.nn.parameter", "Buffer"),
}
DTYPES = {Global("torch", str(d).removeprefix("torch.")): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
FUNCTIONS: dict[Global, Any] = {
    Global("torch._C._nn", "gelu"): nn.functional.gelu,
    Global("torch.nn.functional", "gelu"): nn.functional.gelu,
    Global("torch.nn.functional", "relu"): nn.functional.relu,
    Global("torch", "relu"): torch.relu,
    **DTYPES,
}
_SCHEMES = {
    Global("torch", f"per_{scheme}")
    for scheme in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
}
_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")


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


@lru_cache(maxsize=1)
def storage_types() -> dict[Global, torch.dtype]:
    """Torch's storage classes and their element types."""
    named = {
        "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
        "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
        "ComplexFloat": "complex64", "ComplexDouble": "complex128",
        "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32",
        "UInt16": "uint16", "UInt32": "uint32", "UInt64": "uint64",
        "Float8_e5m2": "float8_e5m2", "Float8_e4m3fn": "float8_e4m3fn",
    }  # fmt: skip
    types = {Global("torch", f"{name}Storage"): getattr(torch, dtype) for name, dtype in named.items()}
    return {**types, Global("torch.storage", "UntypedStorage"): torch.uint8}


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
    known = {*CALLABLE, *FUNCTIONS, *PLAIN_TENSORS, *_SCHEMES, *storage_types(), *stock_classes()}
    return tuple(name for name in names if name not in known)


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
            changed = value.function != ORDERED and (value.state is not None or value.items)
            if value.function not in CALLABLE or changed:
                raise RefusedError(f"{source}: the pickle calls {value.function}; refused")
            pending += [value.args, *value.items, *value.items.values()]
        elif isinstance(value, Mapping):
            pending += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, Global) and value not in _VALUES:
            raise RefusedError(f"{source}: {value} is stored as a value, which no stock module does; refused")


_VALUES = {*FUNCTIONS, *PLAIN_TENSORS, *_SCHEMES, *REBUILD.values()}


def _checked_instance(instance: Instance, source: str) -> list[Any]:
    kind = instance.kind
    if kind not in stock_classes():
        raise RefusedError(f"{source}: {kind} is no stock torch.nn class; refused")
    if isinstance(instance.state, dict) and not instance.state.keys() >= {"_parameters", "_buffers", "_modules"}:
        raise RefusedError(f"{source}: an instance of {kind} lacks what every module has; refused")
    if instance.args != ():
        raise RefusedError(f"{source}: {kind} would be constructed with the file's own arguments; refused")
    if not isinstance(instance.state, dict) or instance.items:
        raise RefusedError(f"{source}: {kind} has a state that no stock module has; refused")
    if not all(isinstance(name, str) for name in instance.state):
        raise RefusedError(f"{source}: an instance of {kind} has an attribute without a name; refused")
    extra = sorted(set(instance.state) - _fresh_attributes(kind))
    if extra:
        told = ", ".join(name[:80] for name in extra[:5])
        raise RefusedError(f"{source}: an instance of {kind} carries {told}, which a fresh one does not have; refused")
    for name in (n for n in instance.state if n.endswith("hooks") or n in _HOOKS):
        if not _is_empty(instance.state[name]):
            raise RefusedError(f"{source}: an instance of {kind} brings hooks of its own ({name}); refused")
    return list(instance.state.values())


def _is_empty(value: Any) -> bool:  # noqa: ANN401  # a node
    if isinstance(value, Result):
        return value.function in (ORDERED, *SETS) and not value.items and value.args in ((), ([],))
    return isinstance(value, dict) and not value


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

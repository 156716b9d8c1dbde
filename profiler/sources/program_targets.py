"""What a node of a torch.export program may call: torch's own operators by their registered names, and arithmetic.

Nothing is looked up but `torch.ops.aten` and `torch.ops.prims`, and there only what torch's dispatcher has registered:
what is known to TorchScript alone (`aten::save` among it) writes files. `aten::from_file` is refused by name. On
tensors with values only operators run whose behaviour is documented: those that netgauge has a formula for, and a few
more; the others are followed by sizes alone.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from profiler.aten import find
from profiler.errors import ModelError, RefusedError

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims)\.(\w{1,200})\.(\w{1,200})", re.ASCII)
_REFUSED = frozenset({"aten.from_file", "aten.save", "aten.set_", "aten.resize_storage_bytes_", "aten._print"})
# Beside those with a formula: the forms that torch itself takes operators apart into, and makers of constants.
_DOCUMENTED = frozenset(
    f"aten.{name}"
    for name in (
        *("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit"),
        *("_native_batch_norm_legit_no_training", "_safe_softmax", "_log_softmax", "avg_pool2d", "pixel_shuffle"),
        *("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window", "logspace"),
        *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu", "multi_head_attention"),
        *("empty_permuted", "new_empty_strided", "lift", "is_floating_point", "normal", "range"),
        *("diff", "isin", "cummax", "cummin", "logcumsumexp", "gcd", "lcm", "unique_dim", "nonzero_static", "argwhere"),
    )
)
# They check what was found when the program was exported, and compute nothing.
IGNORED = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        *("_assert_scalar.default", "_assert_tensor_metadata.default", "_assert_async.msg", "_assert_async.default"),
        *("sym_constrain_range.default", "sym_constrain_range_for_size.default"),
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a node calls.

    Attributes:
        function: takes values in the order of `names`.
        names: of its arguments, None where it is arithmetic and takes them by position.
        keyword_only: those of them that go by name.
        documented: whether it may run on tensors with values.
    """

    function: Callable[..., Any]
    names: tuple[str, ...] | None = None
    keyword_only: frozenset[str] = frozenset()
    documented: bool = True


def resolve(name: str, source: str) -> Target:
    """What a target stands for.

    Raises:
        RefusedError: it is none of torch's own operators, or one that touches files.
    """
    if name in SYMBOLIC:
        return Target(SYMBOLIC[name])
    match = _OPERATOR.fullmatch(name)
    if match is None:
        raise RefusedError(f"{source}: the program calls {name[:200]!r}, which is no operator of torch's own; refused")
    space, packet_name, overload_name = match.groups()
    if f"{space}.{packet_name}" in _REFUSED:
        raise RefusedError(f"{source}: the program calls {name}, which reaches beyond its own tensors; refused")
    packet: Any = getattr(getattr(torch.ops, space), packet_name, None)
    known = isinstance(packet, torch._ops.OpOverloadPacket)  # noqa: SLF001  # torch has no public name for it
    if not known or overload_name not in packet.overloads():
        raise RefusedError(f"{source}: the program calls {name}, which this torch ({torch.__version__}) does not have")
    overload = getattr(packet, overload_name)
    registered = f"{space}::{packet_name}" + ("" if overload_name == "default" else f".{overload_name}")
    if not torch._C._dispatch_has_kernel(registered):  # noqa: SLF001  # nothing public tells it
        raise RefusedError(f"{source}: the program calls {name}, which is TorchScript's own; refused")
    arguments = overload._schema.arguments  # noqa: SLF001  # the only way to a schema
    packet_path = f"{space}.{packet_name}"
    return Target(
        overload,
        tuple(a.name for a in arguments),
        frozenset(a.name for a in arguments if a.kwarg_only),
        find(packet_path) is not None or packet_path in _DOCUMENTED,
    )


# Arithmetic on sizes -----------------------------------------------------------------------------------------------

_MOST = 1 << 63
_OPEN = (torch.SymInt, torch.SymFloat, torch.SymBool)  # numbers of torch's exporter, which may take any value


def _numbers(function: Callable[..., Any], symbolic: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The function for numbers alone, its result within 64 bits; `symbolic` where an exporter leaves one open."""

    def compute(*values: Any) -> Any:  # noqa: ANN401  # numbers
        if any(isinstance(v, _OPEN) for v in values):
            return (symbolic or function)(*values)
        if not all(isinstance(v, int | float) for v in values):
            raise ModelError("arithmetic on sizes got something that is no number")
        found = function(*values)
        if isinstance(found, int) and abs(found) > _MOST:
            raise ModelError("arithmetic on sizes gave a number beyond 64 bits")
        return found

    return compute


def _small_second(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(a: Any, b: Any) -> Any:  # noqa: ANN401  # numbers
        if not -64 <= b <= 64:
            raise ModelError("arithmetic on sizes gave a number beyond 64 bits")
        return function(a, b)

    return _numbers(compute)


def _of_tensor(read: Callable[..., Any]) -> Callable[..., Any]:
    def compute(tensor: Any, *values: Any) -> Any:  # noqa: ANN401  # a tensor and numbers; a number
        if not isinstance(tensor, torch.Tensor):
            raise ModelError("the size of something that is no tensor")
        found = read(tensor, *values)
        return found if isinstance(found, _OPEN) else int(found)  # TorchScript's tracer gives sizes as tensors

    return compute


SYMBOLIC: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": _numbers(getattr(operator, name))
        for name in (
            *("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub", "floordiv", "mod", "truediv"),
            *("and_", "or_"),
        )
    },
    "_operator.pow": _small_second(operator.pow),
    "_operator.lshift": _small_second(operator.lshift),
    "_operator.rshift": _small_second(operator.rshift),
    "math.trunc": _numbers(math.trunc),
    "torch.sym_not": _numbers(operator.not_, torch.sym_not),
    "torch.sym_int": _numbers(int, torch.sym_int),
    "torch.sym_float": _numbers(float, torch.sym_float),
    "torch.sym_max": _numbers(max, torch.sym_max),
    "torch.sym_min": _numbers(min, torch.sym_min),
    "torch.sym_ite": _numbers(lambda condition, yes, no: yes if condition else no, torch.sym_ite),
    "torch.sym_sqrt": _numbers(math.sqrt, torch.sym_sqrt),
    "torch._sym_sqrt": _numbers(math.sqrt, torch.sym_sqrt),
    "torch.ops.aten.sym_size.int": _of_tensor(lambda tensor, axis: tensor.shape[axis]),
    "torch.ops.aten.sym_stride.int": _of_tensor(lambda tensor, axis: tensor.stride(axis)),
    "torch.ops.aten.sym_numel.default": _of_tensor(lambda tensor: tensor.numel()),
    "torch.ops.aten.sym_storage_offset.default": _of_tensor(lambda tensor: tensor.storage_offset()),
}

"""What is known of a tensor in an ONNX graph before it runs: size, element type, and small contents."""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy.typing as npt
from onnx import TensorProto, TypeProto, helper, numpy_helper

from profiler.receptive.field import TensorField

Shape = tuple[int, ...]

# Bits of one element, by the name of its type; strings have no fixed size and count as nothing.
_BITS = {
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("FLOAT6E2M3", "FLOAT6E3M2"), 6),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("INT2", "UINT2"), 2),
    "COMPLEX128": 128,
    "STRING": 0,
}
BITS = {TensorProto.DataType.Value(n): bits for n, bits in _BITS.items() if n in TensorProto.DataType.keys()}  # noqa: SIM118  # protobuf's enum is no dict
FLOATS = frozenset(
    n for name, n in TensorProto.DataType.items() if name.startswith(("FLOAT", "DOUBLE", "BFLOAT", "COMPLEX"))
)


def bytes_of(elements: int, dtype: int) -> int:
    """Bytes of a tensor; elements of less than a byte are packed."""
    return -(-elements * BITS.get(dtype, 0) // 8)


class Weight(NamedTuple):
    """A stored tensor on its way to the node that uses it.

    Attributes:
        name: of the initializer.
        elements: how many numbers it holds.
        bytes: how many bytes.
        kind: "parameter" or "buffer" where the exporter wrote it down or its use has settled it, else "".
        floating: whether it is stored as floating-point numbers.
    """

    name: str
    elements: int
    bytes: int
    kind: str
    floating: bool


@dataclass(slots=True, eq=False)
class Value:
    """A tensor, or a sequence of tensors, as far as it is known before the graph runs.

    Attributes:
        shape: its size, None where it cannot be known.
        dtype: element type, a number of `TensorProto.DataType`.
        array: its elements, where they are few and known.
        field: its receptive field, None where the input does not reach it.
        reached: whether the network's input reaches it.
        constant: whether it depends on no input of the graph: a runtime computes it once, as it loads the graph.
        weights: stored tensors that it is made of, as long as it is constant.
        items: the tensors of a sequence.
        memory: which allocation it lies in, 0 for none.
    """

    shape: Shape | None
    dtype: int
    array: npt.NDArray[Any] | None = None
    field: TensorField | None = None
    reached: bool = False
    constant: bool = False
    weights: tuple[Weight, ...] = ()
    items: "tuple[Value, ...] | None" = None
    memory: int = 0
    _type: TypeProto | None = None
    _tensor: TensorProto | None = None

    @property
    def elements(self) -> int:
        """Number of elements, 0 where the size is not known."""
        return prod(self.shape) if self.shape is not None else 0

    @property
    def bytes(self) -> int:
        """Bytes, of all its tensors for a sequence."""
        if self.items is not None:
            return sum(item.bytes for item in self.items)
        return bytes_of(self.elements, self.dtype)

    @property
    def floating(self) -> bool:
        """Whether its elements are floating-point numbers."""
        return self.dtype in FLOATS

    @property
    def type_proto(self) -> TypeProto:
        """Its type, as ONNX' shape inference takes it."""
        if self._type is None:
            self._type = helper.make_tensor_type_proto(self.dtype, self.shape)
            if self.items is not None:
                inner = {item.shape for item in self.items}
                shape = inner.pop() if len(inner) == 1 else None
                self._type = helper.make_sequence_type_proto(helper.make_tensor_type_proto(self.dtype, shape))
        return self._type

    @property
    def tensor_proto(self) -> TensorProto | None:
        """Its elements, as ONNX' shape inference takes them; None where they are not known."""
        if self._tensor is None and self.array is not None:
            self._tensor = numpy_helper.from_array(self.array)
        return self._tensor

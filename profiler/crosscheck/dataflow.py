"""Which operator calls the model's outputs depend on: what a tracer's dead-code elimination keeps.

Kept small: a storage is a number, an operator call the numbers that it reads and writes; no tensor is held.
"""

from collections.abc import Iterable
from weakref import ref

import torch

from profiler.aten.call import tensors_of
from profiler.aten.overload import schema_of
from profiler.memory import storage_key
from profiler.step import Step

GRAPH_INPUT = -1


class DataFlow:
    """The operator calls of a walk and the storages that run between them.

    A tracer takes inputs, parameters and persistent buffers for inputs of its graph, and keeps what is written to them.

    Attributes:
        writes_inputs: whether a call wrote to one of those.
    """

    def __init__(self, graph_inputs: Iterable[torch.Tensor]) -> None:
        self.writes_inputs = False
        # With the storage itself, to tell one that has gone from another that came to lie at its place.
        self._numbers: dict[int, tuple[int, ref[torch.UntypedStorage]]] = {}
        self.begin(graph_inputs)
        self._next = 0
        self._reads: list[tuple[int, ...]] = []
        self._writes: list[tuple[int, ...]] = []

    def begin(self, inputs: Iterable[torch.Tensor]) -> None:
        """Take these for inputs of the graph as well."""
        for tensor in inputs:
            if isinstance(tensor, torch.Tensor):  # a quantized layer's state has other values, too
                self._name(tensor, GRAPH_INPUT)

    def add(self, step: Step) -> int:
        """Note a call; gives its number."""
        call = step.call
        reads = {self._number(t) for t in call.tensors}
        known = {storage_key(t) for t in call.tensors}
        new = {key: t for t in step.written if (key := storage_key(t)) not in known}
        writes = [self._new(t) for t in new.values()]
        for out in call.outputs:
            key = storage_key(out)
            if key not in new and key not in known and call.tensors:  # a view that the walk has put elsewhere
                self._name(out, self._number(call.first))
        for name in schema_of(call.func).written:
            writes += [self._number(t) for t in tensors_of(call[name])]
        self.writes_inputs |= GRAPH_INPUT in writes
        self._reads.append(tuple(reads))
        self._writes.append(tuple(writes) or tuple(self._number(t) for t in call.outputs))  # a view stands for its base
        return len(self._reads) - 1

    def _number(self, tensor: torch.Tensor) -> int:
        found = self._numbers.get(storage_key(tensor))
        return self._new(tensor) if found is None or found[1]() is None else found[0]

    def _new(self, tensor: torch.Tensor) -> int:
        """Number a storage that is seen for the first time, even where an earlier one lay at the same place."""
        self._next += 1
        return self._name(tensor, self._next - 1)

    def _name(self, tensor: torch.Tensor, number: int) -> int:
        self._numbers[storage_key(tensor)] = number, ref(tensor.untyped_storage())
        return number

    def live(self, outputs: Iterable[torch.Tensor]) -> bytearray:
        """For every call, whether an output depends on it or an input of the graph is written by it."""
        needed = {GRAPH_INPUT, *(self._number(t) for t in outputs)}
        live = bytearray(len(self._reads))
        for n in range(len(self._reads) - 1, -1, -1):
            if not needed.isdisjoint(self._writes[n]):
                live[n] = 1
                needed.update(self._reads[n])
        return live

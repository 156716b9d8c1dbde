"""Which operator calls the model's outputs depend on: what a tracer's dead-code elimination keeps.

Kept small: a storage is a number, an operator call the numbers that it reads and writes; no tensor is held.
"""

from collections.abc import Iterable

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
        self._numbers: dict[int, int] = {storage_key(t): GRAPH_INPUT for t in graph_inputs}
        self._next = 0
        self._reads: list[tuple[int, ...]] = []
        self._writes: list[tuple[int, ...]] = []

    def begin(self, inputs: Iterable[torch.Tensor]) -> None:
        """Take these for inputs of the graph as well."""
        self._numbers.update((storage_key(t), GRAPH_INPUT) for t in inputs)

    def add(self, step: Step) -> int:
        """Note a call; gives its number."""
        call = step.call
        reads = {self._number(t) for t in call.tensors}
        known = {storage_key(t) for t in call.tensors}
        new = {storage_key(t) for t in step.written} - known
        writes = [self._new(key) for key in new]
        for out in call.outputs:
            key = storage_key(out)
            if key not in new and key not in known and call.tensors:  # a view that the walk has put elsewhere
                self._numbers[key] = self._number(call.first)
        for name in schema_of(call.func).written:
            writes += [self._number(t) for t in tensors_of(call[name])]
        self.writes_inputs |= GRAPH_INPUT in writes
        self._reads.append(tuple(reads))
        self._writes.append(tuple(writes) or tuple(self._number(t) for t in call.outputs))  # a view stands for its base
        return len(self._reads) - 1

    def _number(self, tensor: torch.Tensor) -> int:
        key = storage_key(tensor)
        return self._numbers[key] if key in self._numbers else self._new(key)

    def _new(self, key: int) -> int:
        """A storage that is seen for the first time, even where an earlier one lay at the same place."""
        self._numbers[key] = self._next
        self._next += 1
        return self._numbers[key]

    def live(self, outputs: Iterable[torch.Tensor]) -> bytearray:
        """For every call, whether an output depends on it or an input of the graph is written by it."""
        needed = {GRAPH_INPUT, *(self._number(t) for t in outputs)}
        live = bytearray(len(self._reads))
        for n in range(len(self._reads) - 1, -1, -1):
            if not needed.isdisjoint(self._writes[n]):
                live[n] = 1
                needed.update(self._reads[n])
        return live

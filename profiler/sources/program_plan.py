"""From a program's graph to a plan: operator calls with places for their values, nested as modules called them.

Every name is looked up here, so that a program that uses what nothing has defined never begins to run. Graphs within
the graph (regions without gradients or under autocast, checkpoints) are taken into the plan where they are called.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from profiler.errors import ModelError, RefusedError
from profiler.sources.program_arguments import Ref
from profiler.sources.program_schema import Frame, Graph, Node
from profiler.sources.program_targets import IGNORED, SYMBOLIC, Target, resolve

Context = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a value among those that a run keeps."""

    number: int


@dataclass(slots=True)
class Step:
    """One operator call.

    Attributes:
        target: what is called.
        args: by position, with slots for values.
        kwargs: by name, the same.
        outputs: where what it gives goes: a slot, None for nothing, or a list of these.
        dead: places that nothing reads afterwards.
    """

    target: Target
    args: list[Any]
    kwargs: dict[str, Any]
    outputs: Any
    dead: tuple[int, ...] = ()


@dataclass(slots=True)
class Block:
    """Steps that one call of a module runs, or that run in a context; the outermost is neither.

    Attributes:
        frame: the module call, None for a context.
        context: what the steps run in.
        steps: steps and blocks in order.
    """

    frame: Frame | None = None
    context: Context | None = None
    steps: "list[Step | Block]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run.

    Attributes:
        body: its steps.
        inputs: the place of every named input of the graph.
        outputs: slots and values that the program gives.
        places: how many values it keeps at most.
        frames: every module call, each path with the type it was first seen with.
    """

    body: Block
    inputs: Mapping[str, Slot]
    outputs: tuple[Any, ...]
    places: int
    frames: Mapping[str, str]


def planned(graph: Graph, inputs: Sequence[str], outputs: Sequence[Any], source: str) -> Plan:
    """The plan of a graph.

    Args:
        graph: of a program.
        inputs: names that are given from outside.
        outputs: what the program gives.
        source: the file, for messages.

    Raises:
        ModelError: a name that nothing defines, arguments that the operator does not have.
        RefusedError: it calls what is not run.
    """
    planner = _Planner(source)
    names = {name: planner.place() for name in inputs}
    body = Block()
    planner.open = [(body, None)]
    known: dict[str, Any] = dict(names)
    planner.graph(graph, known, (), ())
    given = tuple(planner.filled(list(outputs), known))
    _mark_dead(planner.steps, set(_slots(given)) | {slot.number for slot in names.values()})
    return Plan(body, names, given, planner.places, planner.frames)


_Opening = Frame | Context


class _Planner:
    """Turns nodes into steps, one after the other."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._targets: dict[str, Target] = {}
        self.places = 0
        self.steps: list[Step] = []
        self.open: list[tuple[Block, _Opening | None]] = []
        self.frames: dict[str, str] = {}

    def place(self) -> Slot:
        """A new place."""
        self.places += 1
        return Slot(self.places - 1)

    def graph(
        self, graph: Graph, known: dict[str, Any], within: tuple[_Opening, ...], above: tuple[Frame, ...]
    ) -> None:
        """Plan a graph's nodes; `known` are the values by name, `within` and `above` the blocks that they lie in."""
        for node in graph.nodes:
            if node.target in IGNORED:
                for ref in _refs(node.outputs):
                    known[ref.name] = None
            elif node.target in _REGIONS:
                self._region(node, known, within, above)
            elif node.target.startswith("torch.ops.higher_order."):
                name = node.target.rpartition(".")[2][:100]
                raise RefusedError(
                    f"{self._source}: the program calls {name}, which takes whole graphs and is not followed; "
                    f"those that are: {', '.join(sorted(r.rpartition('.')[2] for r in _REGIONS))}"
                )
            else:
                self._step(node, known, within, above)

    def filled(self, value: Any, known: Mapping[str, Any]) -> Any:  # noqa: ANN401  # any argument
        """An argument with slots in the place of names."""
        if isinstance(value, Ref):
            if value.name not in known:
                raise ModelError(f"{self._source}: the program uses {value.name[:100]!r}, which nothing before defines")
            return known[value.name]
        if isinstance(value, list):
            return [self.filled(v, known) for v in value]
        if isinstance(value, dict):
            return {k: self.filled(v, known) for k, v in value.items()}
        if isinstance(value, Graph):
            raise ModelError(f"{self._source}: the program hands a graph to an operator that takes none")
        return value

    def _step(self, node: Node, known: dict[str, Any], within: tuple[_Opening, ...], above: tuple[Frame, ...]) -> None:
        target = self._targets.get(node.target)
        if target is None:
            target = self._targets[node.target] = resolve(node.target, self._source)
        args, kwargs = self._arguments(node, target, known)
        outputs = self._outputs(node, known)
        for frame in node.stack:
            self.frames.setdefault(frame.path, frame.type)
        if node.target not in SYMBOLIC:  # arithmetic on sizes shows nowhere, and belongs to no module
            if node.stack:
                self._enter((*within, *_beyond(node.stack, above)))
            elif not self._inside(within):  # it says nothing of modules, and goes where the one before it went
                self._enter(within)
        step = Step(target, args, kwargs, outputs)
        self.steps.append(step)
        self.open[-1][0].steps.append(step)

    def _arguments(self, node: Node, target: Target, known: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        if target.names is None:
            return [self.filled(value, known) for _, value in node.inputs], {}
        given = {name: self.filled(value, known) for name, value in node.inputs}
        extra = given.keys() - set(target.names)
        if extra:
            raise ModelError(f"{self._source}: {node.target} has no argument {min(extra)[:100]!r}")
        args: list[Any] = []
        for name in target.names:
            if name not in given or name in target.keyword_only:
                break
            args.append(given.pop(name))
        return args, given

    def _outputs(self, node: Node, known: dict[str, Any]) -> Any:  # noqa: ANN401  # slots, nested
        def made(value: Any) -> Any:  # noqa: ANN401  # a name, nothing, or a list of them
            if isinstance(value, Ref):
                if value.name in known:
                    raise ModelError(f"{self._source}: the program defines {value.name[:100]!r} twice")
                known[value.name] = self.place()
                return known[value.name]
            return [made(v) for v in value] if isinstance(value, list) else None

        places = [made(value) for value in node.outputs]
        return places[0] if len(places) == 1 else places

    def _region(
        self, node: Node, known: dict[str, Any], within: tuple[_Opening, ...], above: tuple[Frame, ...]
    ) -> None:
        """Plan the graph that a node calls in its place."""
        at, context_of = _REGIONS[node.target]
        values = [value for _, value in node.inputs]
        graph = values[at] if len(values) > at else None
        if not isinstance(graph, Graph):
            raise ModelError(f"{self._source}: {node.target} is called without a graph")
        operands = self.filled([v for name, v in node.inputs[at + 1 :] if not name], known)
        if len(operands) == 1 and isinstance(operands[0], list) and len(graph.inputs) != 1:
            operands = operands[0]
        operands = operands[len(operands) - len(graph.inputs) :]  # an identifier may come before them
        context = context_of(self.filled(values[:at], known)) if context_of else None
        if len(operands) != len(graph.inputs):
            raise ModelError(f"{self._source}: {node.target} is called with other inputs than its graph has")
        inner = {ref.name: operand for ref, operand in zip(graph.inputs, operands, strict=True) if isinstance(ref, Ref)}
        outer = (*within, *_beyond(node.stack, above))
        self.graph(graph, inner, (*outer, context) if context else outer, node.stack or above)
        given, taken = self.filled(list(graph.outputs), inner), list(_flat(node.outputs))
        if len(given) != len(taken):
            raise ModelError(f"{self._source}: {node.target} gives other outputs than its graph has")
        known.update({ref.name: value for ref, value in zip(taken, given, strict=True) if isinstance(ref, Ref)})

    def _inside(self, within: tuple[_Opening, ...]) -> bool:
        """Whether the contexts that are open are those of `within`."""
        now = [o for _, o in self.open[1:] if not isinstance(o, Frame)]
        return now == [o for o in within if not isinstance(o, Frame)]

    def _enter(self, openings: tuple[_Opening, ...]) -> None:
        """Leave the blocks that these do not lie in, and open those that they do."""
        same = 0
        while same < min(len(openings), len(self.open) - 1) and _is_same(self.open[same + 1][1], openings[same]):
            same += 1
        del self.open[same + 1 :]
        for opening in openings[same:]:
            block = Block(frame=opening) if isinstance(opening, Frame) else Block(context=opening)
            self.open[-1][0].steps.append(block)
            self.open.append((block, opening))


def _is_same(one: _Opening | None, other: _Opening) -> bool:
    if isinstance(one, Frame) and isinstance(other, Frame):
        return one.key == other.key and one.path == other.path
    return one is other


def _beyond(stack: tuple[Frame, ...], above: tuple[Frame, ...]) -> Iterator[Frame]:
    """Module calls within those that are open above; the model itself, whose path is empty, is always open."""
    outer = [f for f in above if f.path]
    inner = [f for f in stack if f.path]
    while outer and inner and _is_same(outer[0], inner[0]):
        del outer[0], inner[0]
    yield from inner


def _flat(values: Any) -> Iterator[Any]:  # noqa: ANN401  # outputs, nested
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _refs(values: Any) -> Iterator[Ref]:  # noqa: ANN401  # outputs, nested
    return (v for v in _flat(values) if isinstance(v, Ref))


def _slots(value: Any) -> Iterator[int]:  # noqa: ANN401  # any argument
    if isinstance(value, Slot):
        yield value.number
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _slots(v)
    elif isinstance(value, dict):
        yield from _slots(list(value.values()))


def _mark_dead(steps: list[Step], needed: set[int]) -> None:
    """Note, at the last step that reads or gives a value, that it is not needed any more."""
    seen = set(needed)
    for step in reversed(steps):
        used = set(_slots([step.args, step.kwargs, step.outputs]))
        step.dead = tuple(used - seen)
        seen |= used


# Graphs within a graph ---------------------------------------------------------------------------------------------


def _gradients(values: list[Any]) -> Context:
    (enabled,) = values
    return lambda: torch.set_grad_enabled(enabled is True)


def _autocast(values: list[Any]) -> Context:
    _, dtype, enabled, cached = values
    # Devices are all one: a program runs where its values are.
    return lambda: torch.autocast("cpu", dtype=dtype, enabled=enabled is True, cache_enabled=cached is not False)


# By operator: which argument is the graph, and what it runs in, from the arguments before it.
_REGIONS: dict[str, tuple[int, Callable[[list[Any]], Context] | None]] = {
    "torch.ops.higher_order.wrap_with_set_grad_enabled": (1, _gradients),
    "torch.ops.higher_order.wrap_with_autocast": (4, _autocast),
    "torch.ops.higher_order.tag_activation_checkpoint": (0, None),
    "torch.ops.higher_order.invoke_subgraph": (0, None),
    "torch.ops.higher_order.strict_mode": (0, None),
    "torch.ops.higher_order.wrap": (0, None),
}

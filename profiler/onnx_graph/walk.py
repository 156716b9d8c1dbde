"""Goes through a graph node by node, in the order in which they run, and shows each to a visitor.

Sizes come from the documented formulas and are held against ONNX' own inference; small integers and booleans are
computed on the way, so that sizes that follow from sizes are known. Nothing else is computed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto

from profiler.errors import ModelError, NetgaugeError
from profiler.onnx_graph import expand, sequences
from profiler.onnx_graph.branches import branch
from profiler.onnx_graph.loops import loop, scan
from profiler.onnx_graph.memory import Memory
from profiler.onnx_graph.names import Names, label
from profiler.onnx_graph.plain import constant, plain
from profiler.onnx_graph.prepare import Program, domain_of, initializers, operator_name, ordered, reads
from profiler.onnx_graph.step import Scope, Step
from profiler.onnx_graph.weights import Kinds
from profiler.onnx_ops import EXPANDED, Operator
from profiler.onnx_ops.call import NodeCall
from profiler.onnx_ops.sequence import TABLE as SEQUENCES
from profiler.onnx_ops.value import Shape, Value, Weight

MOST_NESTED = 64
# A file of a few bytes can ask for any number of nodes, by functions that call functions.
MOST_NODES = 1_000_000

_CONTROL = {"If": branch, "Loop": loop, "Scan": scan}


@dataclass(slots=True)
class Walk:
    """The state of one walk.

    Attributes:
        program: the model.
        visit: called once per node that is not control flow or a function.
        extent: sizes of the input axes along which receptive fields are followed.
        declared: sizes that the graph declares for its values, for those that nothing else tells.
        kinds: what the exporter wrote down about stored tensors.
        memory: bytes alive.
        names: paths of the nodes.
        notes: what must be known of the figures, in sentences.
        aside: parameters of branches and bodies that were not counted.
        folded: MACs on constants alone.
        depth: graphs and functions around the node.
        visited: nodes gone through.
    """

    program: Program
    visit: Callable[[Step], None]
    extent: tuple[int, ...]
    declared: Mapping[str, Shape]
    kinds: Kinds
    memory: Memory = field(default_factory=Memory)
    names: Names = field(default_factory=Names)
    notes: list[str] = field(default_factory=list)
    aside: dict[str, Weight] = field(default_factory=dict)
    folded: int = 0
    depth: int = 0
    visited: int = 0

    def body(self, nodes: Sequence[NodeProto], outputs: Sequence[str], scope: Scope) -> list[Value]:
        """Run the nodes of a graph or function; the values of `outputs`, each held once for the caller."""
        nodes = ordered(nodes, _Known(scope))
        dying = _last_reads(nodes, outputs)
        own: set[str] = set()
        for n, node in enumerate(nodes):
            for name, value in zip(node.output, self.node(node, scope), strict=False):
                if name:
                    scope.values[name] = value
                    own.add(name)
            for name in dying.get(n, ()):
                if name in own:
                    self.memory.release(scope.values[name].memory)
        results = []
        for name in outputs:
            result = scope.find(name)
            if result is None:
                raise ModelError(f"the graph gives {name!r}, which no node makes")
            if name not in own:
                self.memory.share(result.memory)
            own.discard(name)
            results.append(result)
        return results

    def graph(self, graph: GraphProto, bound: Mapping[str, Value], outer: Scope) -> list[Value]:
        """Run a graph that a node holds."""
        values = {**initializers(graph, self.kinds), **bound}
        return self.body(graph.node, [o.name for o in graph.output], Scope(values, outer.opsets, outer))

    def node(self, node: NodeProto, scope: Scope) -> list[Value]:
        """Run one node: the values of its outputs."""
        domain = domain_of(node.domain)
        op = operator_name(node)
        key = (domain, node.op_type, getattr(node, "overload", ""))
        self.visited += 1
        if self.visited > MOST_NODES:
            raise ModelError(f"its functions and loops come to more than {MOST_NODES:,} nodes")
        inputs = tuple(scope.find(name) if name else None for name in node.input)
        try:
            if key in self.program.functions:
                return expand.function(self, node, self.program.functions[key], inputs)
            call = NodeCall(node, op, self.opset(scope, domain), inputs)
            if op in _CONTROL:
                return _CONTROL[op](self, call, scope)
            if op in EXPANDED:
                return expand.by_definition(self, call)
            if op in SEQUENCES:
                return sequences.run(self, call)
            return constant(self, call) if op == "Constant" else plain(self, call, domain)
        except NetgaugeError as error:
            raise _located(error, node) from error
        except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, AttributeError, OverflowError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ModelError(f"{label(node)}: its attributes or inputs make no sense ({reason[:200]})") from error

    def opset(self, scope: Scope, domain: str) -> int:
        """Version of a domain's operators."""
        if domain in scope.opsets:
            return scope.opsets[domain]
        if not domain:
            raise ModelError("the model does not say which opset its operators are from; is the file damaged?")
        return 1

    @contextmanager
    def inside(self, node: NodeProto, part: str = "") -> Iterator[None]:
        """Names of the nodes inside another one begin with its own."""
        name = self.names.of(node).name or node.op_type
        if self.depth >= MOST_NESTED:
            raise ModelError("graphs and functions are nested too deeply; does a function call itself?")
        before = self.names.prefix
        self.names.prefix = f"{name}/{part}" if part else name
        self.depth += 1
        try:
            yield
        finally:
            self.names.prefix = before
            self.depth -= 1

    def report(
        self,
        call: NodeCall,
        operator: Operator | None,
        status: str,
        cost: tuple[int, int],
        weights: tuple[Weight, ...],
        reason: str,
    ) -> None:
        """Show a node to the visitor."""
        place = self.names.of(call.node)
        self.visit(Step(call, place, operator, status, *cost, weights, 1, reason))

    def note(self, call: NodeCall, sentence: str) -> None:
        """Something that must be known of the figures."""
        self.notes.append(f"{call.node.name or call.op}: {sentence}")


class _Known:
    """Names that can be read before any node has run, as a set of which only membership is asked."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __iter__(self) -> Iterator[str]:
        scope: Scope | None = self._scope
        while scope is not None:
            yield from scope.values
            scope = scope.outer


def _last_reads(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> dict[int, list[str]]:
    """Values that nobody needs after a node, by its position; the graph's own outputs are needed to the end."""
    last: dict[str, int] = {}
    for n, node in enumerate(nodes):
        for name in node.output:
            last[name] = n
        for name in reads(node):
            last[name] = n
    for name in outputs:
        last.pop(name, None)
    dying: dict[int, list[str]] = {}
    for name, n in last.items():
        if name:
            dying.setdefault(n, []).append(name)
    return dying


def _located(error: NetgaugeError, node: NodeProto) -> NetgaugeError:
    """The same error with the innermost node in front."""
    text = str(error)
    return error if "node " in text.partition(":")[0] else type(error)(f"{label(node)}: {text}")

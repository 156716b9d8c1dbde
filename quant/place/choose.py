"""Choosing the nodes that become int8: a pure function of the graph, a target's rules and what the caller leaves out.

A tensor is quantized only where an int8 kernel reads or writes it, so no Q/DQ pair ends up between two float nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from quant.graph import constant, is_float, is_private, name_of
from quant.place.plan import Decision, Mode, Plan, Quantized, Role, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

_NO_SAVING = "its input is float, and converting it would cost more than an int8 kernel saves"
_NO_USE = "no int8 kernel follows it, so rounding its output would cost accuracy for nothing"


@dataclass(frozen=True)
class Target:
    """Where the model will run: the rule for a node (None: no int8 kernel) and reasons worth telling, by operator."""

    rule: Callable[[ir.Node], Rule | None]
    reasons: Mapping[str, str] = field(default_factory=dict)


def choose(
    graph: ir.Graph,
    target: Target,
    *,
    name: str,
    excluded: Mapping[str, str] | None = None,
    without: Set[Role] = frozenset(),
    modes: Set[Mode] = frozenset({Mode.STATIC, Mode.DYNAMIC}),
) -> Plan:
    """Decide for every node of a graph how it runs.

    Args:
        graph: prepared by `quant.graph.prepare`: node names are unique, types known.
        target: the rules.
        name: the plan's name.
        excluded: node name -> why the caller wants it float.
        without: roles that stay float.
        modes: those allowed. A matrix node that could have either is dynamic where float surrounds it: its range is
            then right for every input, and finding it costs about what quantizing costs anyway.
    """
    chooser = _Chooser(graph, target, modes)
    for node in graph:
        chooser.obstacles[node] = (excluded or {}).get(node.name or "") or _obstacle(node, target, without)
    return chooser.plan(name)


def _obstacle(node: ir.Node, target: Target, without: Set[Role]) -> str:
    """Why a node cannot run as int8, whatever its neighbours do; "" where it can."""
    if any(
        attribute.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS} for attribute in node.attributes.values()
    ):
        return "control flow: its subgraphs stay float"
    if not any(is_float(output) for output in node.outputs):
        return "computes no float32 values"
    rule = target.rule(node)
    if rule is None:
        return target.reasons.get(node.op_type, f"there is no int8 kernel for {node.op_type}")
    if rule.role in without:
        return f"this placement leaves {rule.role.value} operators float"
    return rule.obstacle(node)


class _Chooser:
    """One pass backward (does int8 follow?) and one forward (does int8 precede?) over the graph."""

    def __init__(self, graph: ir.Graph, target: Target, modes: Set[Mode]) -> None:
        self.nodes = list(graph)
        self.rules = {node: target.rule(node) for node in graph}
        self.modes = modes
        self.obstacles: dict[ir.Node, str] = {}
        self.feeds: dict[ir.Node, bool] = {}
        self.decisions: dict[ir.Node, Decision] = {}

    def plan(self, name: str) -> Plan:
        for node in reversed(self.nodes):
            self.feeds[node] = any(self._feeds(output) for output in node.outputs)
        for node in self.nodes:
            self.decisions[node] = self._decide(node)
        tensors: dict[str, Quantized] = {}
        for node in self.nodes:
            self._add_tensors(node, tensors)
        return Plan(name, {node.name or "": decision for node, decision in self.decisions.items()}, tensors)

    def _decide(self, node: ir.Node) -> Decision:
        rule = self.rules[node]
        if self.obstacles[node] or rule is None:
            return Decision(Mode.FLOAT, self.obstacles[node])
        if rule.role is Role.MATRIX:
            return self._decide_matrix(node, rule)
        if rule.role is Role.FOLDED:
            reason = self._why_not_folded(node)
            return (
                Decision(Mode.FLOAT, reason) if reason else Decision(Mode.ABSORBED, "the integer grid has its limits")
            )
        inputs = self._inputs(node)
        written = [self._writes_int8(value.producer()) for value in inputs]
        if rule.role is Role.SCALE:
            if all(written) and self.feeds[node] and not node.outputs[0].is_graph_output():
                return Decision(Mode.ABSORBED, "the integer grid is scaled instead")
        elif any(written) and (self.feeds[node] or (rule.role is Role.MOVE and all(written))):
            return Decision(Mode.STATIC, operands=rule.operands(node))
        return Decision(Mode.FLOAT, _NO_USE if any(written) else _NO_SAVING)

    def _decide_matrix(self, node: ir.Node, rule: Rule) -> Decision:
        amid_int8 = self.feeds[node] or any(self._writes_int8(value.producer()) for value in self._inputs(node))
        preferred = (Mode.STATIC, Mode.DYNAMIC) if amid_int8 else (Mode.DYNAMIC, Mode.STATIC)
        for mode in preferred:
            if mode in rule.modes and mode in self.modes:
                return Decision(mode, operands=rule.operands(node))
        return Decision(Mode.FLOAT, f"this placement has no {' or '.join(mode.value for mode in rule.modes)} grids")

    def _why_not_folded(self, node: ir.Node) -> str:
        value = node.inputs[0]
        producer = value.producer() if value is not None else None
        rule = self.rules.get(producer) if producer is not None else None
        if value is None or rule is None or not self._writes_int8(producer):
            return "its input is float"
        if rule.role in {Role.MOVE, Role.SCALE}:
            return f"it follows {producer.op_type if producer else ''}, which has the integer grid of its own input"
        return (
            "" if is_private(value) else "its input is used elsewhere too, so the integer grid cannot have its limits"
        )

    def _add_tensors(self, node: ir.Node, tensors: dict[str, Quantized]) -> None:
        """Add what a node reads as integers, and what it writes as such."""
        rule, mode = self.rules[node], self.decisions[node].mode
        if rule is None or rule.role is Role.FOLDED or mode not in {Mode.STATIC, Mode.ABSORBED}:
            return
        read = [name_of(value) for value in self._inputs(node)]
        for tensor in read:
            tensors.setdefault(tensor, Quantized(tensor, like=tensor))
        if not self._writes_int8(node):
            return
        for output in node.outputs:
            last, fold = self._after_folding(output)
            fold_rule = self.rules[fold] if fold is not None else None
            tensors[last] = Quantized(
                last,
                like=read[0] if rule.role in {Role.MOVE, Role.SCALE} else last,
                limits=fold_rule.limits(fold) if fold is not None and fold_rule and fold_rule.limits else None,
                factor=rule.factor(node) if rule.factor else None,
            )

    def _able(self, node: ir.Node) -> bool:
        return self.obstacles.get(node, "of another graph") == ""

    def _inputs(self, node: ir.Node) -> list[ir.Value]:
        """The activations a node reads: its quantized operands that are no constants."""
        rule = self.rules[node]
        positions = rule.operands(node).activations if rule is not None else ()
        values = (node.inputs[i] for i in positions if i < len(node.inputs))
        return [value for value in values if value is not None and constant(value) is None]

    def _feeds(self, value: ir.Value) -> bool:
        """Whether a tensor reaches a matrix node as int8, directly or by operators that carry int8 on."""
        return any(
            self._takes_int8(use.node) and any(value is read for read in self._inputs(use.node)) for use in value.uses()
        )

    def _takes_int8(self, node: ir.Node) -> bool:
        rule = self.rules.get(node)
        if rule is None or not self._able(node):
            return False
        if rule.role is Role.MATRIX:
            return Mode.STATIC in rule.modes and Mode.STATIC in self.modes
        return self.feeds[node] and (rule.role is not Role.FOLDED or is_private(node.inputs[0]))

    def _writes_int8(self, node: ir.Node | None) -> bool:
        """Whether a node's output is stored as integers: its kernel knows no other, or int8 follows."""
        decision = self.decisions.get(node) if node is not None else None
        if node is None or decision is None or decision.mode not in {Mode.STATIC, Mode.ABSORBED}:
            return False
        rule = self.rules[node]
        return self.feeds[node] or (rule is not None and not rule.float_output)

    def _after_folding(self, value: ir.Value) -> tuple[str, ir.Node | None]:
        """The tensor that stands for `value` once the nodes that fold into its grid are gone, and the last of those."""
        fold = None
        while is_private(value):
            user = next(iter(value.uses())).node
            rule = self.rules.get(user)
            if rule is None or rule.role is not Role.FOLDED or self.decisions[user].mode is not Mode.ABSORBED:
                break
            value, fold = user.outputs[0], user
        return name_of(value), fold

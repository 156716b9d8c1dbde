"""Adding nodes and constants to a graph under names that nothing else has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from quant.graph import name_of, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Attributes = Mapping[str, int | float | str | Sequence[int] | ir.Attr]


class Editor:
    """Edits one graph in place. New nodes are appended: sort the graph when all edits are done."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._taken = {*values_of(graph), *graph.initializers, *(node.name or "" for node in graph)}

    def fresh(self, name: str) -> str:
        """The name, with a number where it is taken."""
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}_{number}"
        self._taken.add(unique)
        return unique

    def initializer(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """A constant."""
        unique = self.fresh(name)
        tensor = ir.tensor(array, name=unique)
        value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        output: str,
        *,
        dtype: ir.DataType = ir.DataType.FLOAT,
        shape: ir.Shape | None = None,
        attributes: Attributes | None = None,
        like: ir.Node | None = None,
    ) -> ir.Value:
        """A node with one output, whose name it is given. `like` is the node it stands for: its layer is kept."""
        value = ir.Value(name=self.fresh(output), shape=shape, type=ir.TensorType(dtype))
        self.nodes(op_type, inputs, [value], attributes=attributes, like=like)
        return value

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[ir.Value],
        *,
        domain: str = "",
        attributes: Attributes | None = None,
        like: ir.Node | None = None,
    ) -> ir.Node:
        """A node with outputs made by the caller."""
        node = ir.node(
            op_type,
            inputs,
            attributes or {},
            domain=domain,
            outputs=outputs,
            name=self.fresh(f"{name_of(outputs[0])}_{op_type}"),
            metadata_props=dict(like.metadata_props) if like is not None else None,
        )
        self.graph.append(node)
        return node

    def replace(self, node: ir.Node, *replacements: ir.Value) -> None:
        """Remove a node; the replacements take the place, the name and the type of its outputs."""
        names = [name_of(output) for output in node.outputs]
        for old, new in zip(node.outputs, replacements, strict=True):
            new.shape, new.type = old.shape, old.type
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        for old, new, name in zip(node.outputs, replacements, names, strict=True):
            old.name, new.name = None, name

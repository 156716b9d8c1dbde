"""Where in the network a node comes from: the module's path, if the exporter wrote it down, else the node's name.

torch's exporter writes the path of modules and their classes into each node's metadata; its predecessor made the
node's name of it ("/layer1/layer1.0/conv1/Conv"). Everybody else names nodes as they like, often with slashes.
"""

import ast
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from onnx import NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_NO_MODULE = "_empty_nn_module_stack"
_LONGEST = 1 << 14
_FOLDED = ("Conv", "ConvTranspose", "Gemm", "FusedConv")


class Place(NamedTuple):
    """Where a node belongs.

    Attributes:
        name: path of the module, or the node's name.
        type: the module's class where it is known, else the operator.
        call: how often the module had been called before.
        path: names of the modules from below the root down to this one.
    """

    name: str
    type: str
    call: int
    path: tuple[str, ...]


@dataclass(slots=True)
class Names:
    """Finds the place of each node, and remembers which class each module has."""

    classes: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    _seen: Counter[str] = field(default_factory=Counter)

    def of(self, node: NodeProto) -> Place:
        """The place of a node; `prefix` names the control flow or function around it."""
        place = self._from_metadata(node) or self._from_path(node) or self._from_name(node)
        if not self.prefix:
            return place
        path = (*_slashed(self.prefix), *(f"{self.prefix}/{part}" for part in place.path))
        name = f"{self.prefix}/{place.name}" if place.name else self.prefix
        return Place(name, place.type, place.call, path)

    def _from_metadata(self, node: NodeProto) -> Place | None:
        found = {p.key: p.value for p in node.metadata_props if p.key in (_SCOPES, _CLASSES)}
        scopes, classes = _listed(found.get(_SCOPES, "")), _listed(found.get(_CLASSES, ""))
        if not scopes:
            return None
        scopes = ["" if s.startswith(_NO_MODULE) else s for s in scopes]
        kinds = [c.rpartition(".")[2] for c in classes[:-1]]
        for scope, kind in zip(scopes, kinds, strict=False):
            self.classes.setdefault(scope.partition("@")[0], kind)
        name, _, number = (scopes[-2] if len(scopes) > 1 else "").partition("@")
        kind = kinds[-1] if len(kinds) == len(scopes) - 1 and kinds else node.op_type
        norm = "BatchNorm" in kind or "batch_norm" in scopes[-1]
        if norm and node.op_type in _FOLDED and len(node.input) > 1:
            # The exporter has folded the norm into the layer before it, and kept the norm's path.
            owner, _, leaf = node.input[1].rpartition(".")
            if leaf.removesuffix("_dequantized") == "weight":  # an int8 file's
                name, kind = owner, self.classes.get(owner, node.op_type)
            else:
                kind = node.op_type
        return Place(name, kind, int(number) if number.isdigit() else 0, _dotted(name))

    def _from_path(self, node: NodeProto) -> Place | None:
        """The name that torch's older exporter gave: the path, then the operator."""
        if not node.name.startswith("/"):
            return None
        *parts, leaf = node.name.split("/")[1:]
        if leaf.partition("_")[0] != node.op_type:
            return None
        kept = [p for p, after in zip_longest(parts, parts[1:], fillvalue="") if not after.startswith(f"{p}.")]
        name = ".".join(kept)
        return Place(name, node.op_type, 0, _dotted(name))

    def _from_name(self, node: NodeProto) -> Place:
        name = node.name
        if not name:
            name = f"{node.op_type}_{self._seen[node.op_type]}"
            self._seen[node.op_type] += 1
        number = self._seen[f"/{name}"]
        self._seen[f"/{name}"] += 1
        return Place(name, node.op_type, number, _slashed(name))


def _dotted(name: str) -> tuple[str, ...]:
    parts = name.split(".") if name else []
    return tuple(".".join(parts[: n + 1]) for n in range(len(parts)))


def _slashed(name: str) -> tuple[str, ...]:
    parts = [p for p in name.split("/") if p]
    return tuple("/".join(parts[: n + 1]) for n in range(len(parts)))


@lru_cache(maxsize=4096)
def _listed(text: str) -> list[str]:
    """A list of strings as Python prints it; empty where it is anything else."""
    if not text or len(text) > _LONGEST:
        return []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return [str(v) for v in value] if isinstance(value, list) else []


def label(node: NodeProto) -> str:
    """A node for a message: its name and operator."""
    name = node.name or next(iter(node.output), "")
    return f"node {name!r} ({node.op_type})" if name else f"a node ({node.op_type})"

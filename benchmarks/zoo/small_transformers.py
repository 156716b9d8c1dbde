"""Builds the architectures of transformers.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import example_inputs
from torch import nn

TABLE = Path(__file__).with_name("transformers.toml")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """One line of the table.

    Attributes:
        name: as the table calls it.
        family: what kind of network it is.
        model_type: the name that transformers registers its configuration under.
        head: the class, or the Auto class, that builds it.
        inputs: the function of example_inputs that makes what it is called with.
        config: the configuration's values.
    """

    name: str
    family: str
    model_type: str
    head: str
    inputs: str
    config: Values

    def build(self) -> tuple[nn.Module, example_inputs.Inputs]:
        """The network in evaluation mode, and its inputs."""
        import transformers

        config = transformers.AutoConfig.for_model(self.model_type, **self.config)
        head = getattr(transformers, self.head)
        model = head.from_config(config) if self.head.startswith("AutoModel") else head(config)
        return model.eval(), getattr(example_inputs, self.inputs)()


def architectures() -> list[Architecture]:
    """All of the table."""
    table = tomllib.loads(TABLE.read_text())
    rows = []
    for family, group in table["family"].items():
        for name, line in group["networks"].items():
            values = {"type": name, "head": group["head"], "inputs": group["inputs"], **line}
            parts = [values.pop(key) for key in ("type", "head", "inputs")]
            values["use"] = [*group.get("use", ()), *line.get("use", ())]
            rows.append(Architecture(name, family, *parts, _resolved(values, table["sizes"])))
    return rows


def _resolved(values: Values, sizes: Mapping[str, Values]) -> dict[str, Any]:
    """`use` and `without` carried out, in nested configurations too."""
    own = {k: _resolved(v, sizes) if isinstance(v, dict) else v for k, v in values.items()}
    shared = {k: v for name in own.pop("use", ()) for k, v in sizes[name].items()}
    left_out = own.pop("without", ())
    return {k: v for k, v in {**shared, **own}.items() if k not in left_out}

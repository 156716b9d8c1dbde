"""The result of an analysis: plain frozen records that every report is a view of."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from profiler.analyzer import Subject
    from profiler.crosscheck import Crosscheck

SCHEMA = "netgauge.profile/1"
Shape = tuple[int, ...]


class Phases(NamedTuple):
    """What each position sees, along an axis where positions differ.

    Attributes:
        period: positions after which the pattern repeats, each moved on by period * stride; None where there is none.
        fields: size and start of positions 0, 1, ...: of one period without regard to borders, or, where there is no
            period, of all positions at this input size with what the borders cut off left out. A position that sees
            nothing has size 0 and start None. Empty where there are too many to list.
        smallest: smallest size.
        largest: largest size.
    """

    period: int | None
    fields: tuple[tuple[int, int | None], ...]
    smallest: int
    largest: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"period": self.period, "fields": [list(f) for f in self.fields], "sizes": [self.smallest, self.largest]}


class ReceptiveField(NamedTuple):
    """What the outputs of an operator see of the network's input; one entry per input axis that is followed.

    Attributes:
        size: inputs seen by one output, the padding included; the largest where outputs differ.
        stride: inputs between the fields of neighbouring outputs, the mean where they differ; 0 where all see the same.
        start: left edge of the first output's field, negative where it reaches into the padding.
        status: "exact", "bounded" (a bound from above), "whole-input", "data-dependent" or "unknown".
        local: the field without operations that join all positions, where it differs.
        phases: where outputs differ in what they see: what each of them sees; None where they do not.
        aligned: whether all paths that were joined are centred on the same places.
        reason: why the field is neither exact nor the whole input.
        input: number of the input of the network that is seen: the first one that is followed and reached.
        others: fields in further inputs.
    """

    size: tuple[int, ...]
    stride: tuple[Fraction, ...]
    start: tuple[int, ...]
    status: str
    local: "ReceptiveField | None" = None
    phases: tuple[Phases | None, ...] = ()
    aligned: bool = True
    reason: str = ""
    input: int = 0
    others: tuple["ReceptiveField", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON: a fraction that is no integer is a string."""
        return {
            "size": list(self.size),
            "stride": [int(s) if s.denominator == 1 else str(s) for s in self.stride],
            "start": list(self.start),
            "status": self.status,
            "local": self.local.to_dict() if self.local else None,
            "phases": [p.to_dict() if p else None for p in self.phases] if any(self.phases) else None,
            "aligned": self.aligned,
            "reason": self.reason or None,
            "input": self.input,
            "others": [field.to_dict() for field in self.others],
        }


class Layer(NamedTuple):
    """One operator call that was counted, or could not be, or that reads parameters for the first time.

    Attributes:
        name: path of the innermost module, "" for the model itself.
        type: that module's class.
        op: the kind of operation.
        call: how often the module had been called before.
        input_shapes: sizes of the tensors that went in, parameters left out.
        output_shapes: sizes of the tensors that came out.
        macs: multiply-accumulates.
        flops: floating-point operations.
        params: parameters used here for the first time.
        param_bytes: their bytes.
        output_bytes: bytes of the outputs.
        read_bytes: bytes of all tensors that went in, parameters included; 0 where the result is a view.
        write_bytes: bytes written: the outputs, or what an in-place operator changes; 0 for a view.
        formula: heading in docs/formulas.md.
        status: "counted", "uncounted", or "free" where it computes nothing and its parameters are why it has a row.
        receptive_field: of the first output; None where the input does not reach it.
    """

    name: str
    type: str
    op: str
    call: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    macs: int
    flops: int
    params: int
    param_bytes: int
    output_bytes: int
    read_bytes: int
    write_bytes: int
    formula: str
    status: str
    receptive_field: ReceptiveField | None

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs per byte read or written, 0 where no byte moves."""
        moved = self.read_bytes + self.write_bytes
        return self.flops / moved if moved else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        row = self._asdict()
        row["input_shapes"] = [list(s) for s in self.input_shapes]
        row["output_shapes"] = [list(s) for s in self.output_shapes]
        row["receptive_field"] = self.receptive_field.to_dict() if self.receptive_field else None
        return row


class ModuleSum(NamedTuple):
    """A module and everything below it.

    Attributes:
        name: path from the root.
        type: class.
        macs, flops: of all operator calls inside.
        params, param_bytes: of all parameters inside, each storage once.
        children: direct submodules.
    """

    name: str
    type: str
    macs: int
    flops: int
    params: int
    param_bytes: int
    children: tuple["ModuleSum", ...]

    def walk(self) -> Iterator["ModuleSum"]:
        """This module and all below it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the model.

    Attributes:
        macs: multiply-accumulates.
        flops: floating-point operations.
        params: parameters, tied ones once.
        trainable_params: those with requires_grad.
        param_bytes: their bytes.
        activation_bytes: bytes of every tensor computed, views not counted again.
        peak_bytes: most bytes of inputs and activations alive at once, parameters left out.
        read_bytes, write_bytes: sums over the layers: what the operators read and write if nothing stays in a cache.
    """

    macs: int
    flops: int
    params: int
    trainable_params: int
    param_bytes: int
    activation_bytes: int
    peak_bytes: int
    read_bytes: int
    write_bytes: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs per byte read or written."""
        moved = self.read_bytes + self.write_bytes
        return self.flops / moved if moved else 0.0


@dataclass(frozen=True, slots=True)
class OperatorSum:
    """All calls of one kind of operation.

    Attributes:
        op: the kind.
        calls: how many rows there are.
        macs, flops, params, read_bytes, write_bytes: their sums.
    """

    op: str
    calls: int
    macs: int
    flops: int
    params: int
    read_bytes: int
    write_bytes: int


@dataclass(frozen=True, slots=True)
class Backward:
    """The backward half of a training step: gradients of the sum of the outputs for every parameter.

    Attributes:
        macs, flops: of the backward operators.
        peak_bytes: most bytes of activations and gradients alive at once over forward and backward.
        layers: one row per backward operator call, under the module whose forward call it belongs to.
        uncounted: calls per operator that no formula is known for.
        free: calls per operator that is free by convention.
        notes: what a reader must know of how the figures came about; they stand in the profile's own as well.
    """

    macs: int
    flops: int
    peak_bytes: int
    layers: tuple[Layer, ...]
    uncounted: Mapping[str, int]
    free: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "macs": self.macs,
            "flops": self.flops,
            "peak_bytes": self.peak_bytes,
            "layers": [layer.to_dict() for layer in self.layers],
            "uncounted": dict(self.uncounted),
            "free": dict(self.free),
        }


@dataclass(frozen=True)
class Profile:
    """What `analyze` found.

    Attributes:
        totals: sums over the model.
        layers: one row per operator call that was counted or uncounted, in call order.
        modules: the module tree with sums.
        uncounted: calls per operator that no formula is known for.
        free: calls per operator that is free by convention.
        inputs: sizes the model was run on.
        backward: the backward half of a training step, where it was asked for.
        notes: what a reader must know of how the figures came about, in sentences.
    """

    totals: Totals
    layers: tuple[Layer, ...]
    modules: ModuleSum
    uncounted: Mapping[str, int]
    free: Mapping[str, int]
    inputs: tuple[Shape, ...]
    backward: Backward | None = None
    notes: tuple[str, ...] = ()
    subject: "Subject | None" = field(default=None, repr=False, compare=False)
    _checks: dict[str, "Crosscheck"] = field(default_factory=dict, repr=False, compare=False)

    @property
    def operators(self) -> tuple[OperatorSum, ...]:
        """Sums per kind of operation, in the order in which the kinds appear."""
        groups: dict[str, list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault(layer.op, []).append(layer)
        names = ("macs", "flops", "params", "read_bytes", "write_bytes")
        return tuple(
            OperatorSum(op, len(rows), *(sum(getattr(row, name) for row in rows) for name in names))
            for op, rows in groups.items()
        )

    def crosscheck(self, peer: str = "fvcore") -> "Crosscheck":
        """Compare with another counter and explain every difference; run once, then remembered.

        Raises:
            UsageError: no such peer.
        """
        if peer not in self._checks:
            from profiler.crosscheck import crosscheck

            self._checks[peer] = crosscheck(peer, self)
        return self._checks[peer]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, by the schema `netgauge.profile/1`; crosschecks that have been run are part of it."""
        from profiler.environment import environment

        return {
            "schema": SCHEMA,
            "inputs": [list(s) for s in self.inputs],
            "totals": asdict(self.totals),
            "layers": [layer.to_dict() for layer in self.layers],
            "uncounted": dict(self.uncounted),
            "free": dict(self.free),
            "operators": [asdict(o) for o in self.operators],
            "backward": self.backward.to_dict() if self.backward else None,
            "notes": list(self.notes),
            "crosscheck": {peer: check.to_dict() for peer, check in self._checks.items()},
            "environment": environment(),
        }

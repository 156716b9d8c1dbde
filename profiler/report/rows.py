"""What the lines of a report are made of: one record for operator calls, modules and kinds of operation alike."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from profiler.profile import Backward, Layer, ModuleSum, Profile, ReceptiveField, Shape


@dataclass(frozen=True, slots=True)
class Row:
    """One line; what it is a sum of has the sum, what does not apply to it is empty.

    Attributes:
        name: path of the module, or the operation where rows are operations.
        kind: the module's class, with the operation where the module has several.
        label: the name as shown: with the call's number, or as a branch of the tree.
        uncounted: operator calls in it that no formula is known for, so that its FLOPs are a bound from below.
        backward_macs, backward_flops: of the backward operators of a module, where they were asked for.
        children: in a tree, what is below it.

    The others are those of `Layer`, `ModuleSum` and `OperatorSum`.
    """

    name: str
    type: str = ""
    op: str = ""
    kind: str = ""
    label: str = ""
    call: int = 0
    calls: int = 1
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    macs: int = 0
    flops: int = 0
    params: int = 0
    param_bytes: int = 0
    output_bytes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    formula: str = ""
    status: str = ""
    receptive_field: ReceptiveField | None = None
    uncounted: int = 0
    backward_macs: int = 0
    backward_flops: int = 0
    children: tuple["Row", ...] = ()

    @property
    def bytes(self) -> int:
        """Read and written."""
        return self.read_bytes + self.write_bytes

    @property
    def intensity(self) -> float:
        """FLOPs per byte read or written, 0 where no byte moves."""
        return self.flops / self.bytes if self.bytes else 0.0

    def walk(self) -> Iterator["Row"]:
        """This row and all below it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


def layer_rows(layers: Iterable[Layer]) -> list[Row]:
    """One row per operator call."""
    layers = list(layers)
    together = Counter((layer.name, layer.call) for layer in layers)
    parents = {above for layer in layers for above in _path(layer.name) if above != layer.name} | {""}
    rows = []
    for layer in layers:
        # Where a module's class does not tell what was computed, the operation does.
        alone = together[layer.name, layer.call] == 1 and layer.name not in parents
        fields = layer._asdict()
        rows.append(
            Row(
                **fields,
                kind=layer.type if alone else f"{layer.type}: {layer.op}",
                label=(layer.name or ".") + (f" #{layer.call + 1}" if layer.call else ""),
                uncounted=int(layer.status == "uncounted"),
            )
        )
    return rows


def operator_rows(profile: Profile) -> list[Row]:
    """One row per kind of operation."""
    unknown = Counter(layer.op for layer in profile.layers if layer.status == "uncounted")
    rows = []
    for each in profile.operators:
        fields = {name: getattr(each, name) for name in each.__slots__}
        rows.append(Row(name=each.op, label=each.op, uncounted=unknown[each.op], **fields))
    return rows


def module_tree(profile: Profile) -> Row:
    """The modules with what their sums in the profile do not hold: last output, bytes moved, backward pass."""
    inside = _sums_inside(profile.layers)
    back = _sums_inside(profile.backward.layers if profile.backward else ())
    nothing = Row("")

    def build(module: ModuleSum) -> Row:
        own, later = inside.get(module.name, nothing), back.get(module.name, nothing)
        return replace(
            own,
            name=module.name,
            type=module.type,
            kind=module.type,
            label=module.name or ".",
            macs=module.macs,
            flops=module.flops,
            params=module.params,
            param_bytes=module.param_bytes,
            backward_macs=later.macs,
            backward_flops=later.flops,
            children=tuple(map(build, module.children)),
        )

    return build(profile.modules)


def _path(name: str) -> Iterator[str]:
    """A module's path, and those of the modules that it lies in, up to the model itself."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _sums_inside(layers: Iterable[Layer]) -> dict[str, Row]:
    """What happens in each module and below it, by path."""
    groups: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        for path in _path(layer.name):
            groups[path].append(layer)
    names = ("macs", "flops", "output_bytes", "read_bytes", "write_bytes")
    return {
        path: Row(
            path,
            calls=len(group),
            output_shapes=group[-1].output_shapes,
            receptive_field=group[-1].receptive_field,
            uncounted=sum(layer.status == "uncounted" for layer in group),
            **{name: sum(getattr(layer, name) for layer in group) for name in names},
        )
        for path, group in groups.items()
    }


def total_row(profile: Profile) -> Row:
    """The whole model."""
    totals = profile.totals
    back = profile.backward
    return Row(
        "total",
        label="total",
        calls=len(profile.layers),
        status="total",
        macs=totals.macs,
        flops=totals.flops,
        params=totals.params,
        param_bytes=totals.param_bytes,
        output_bytes=totals.activation_bytes,
        read_bytes=totals.read_bytes,
        write_bytes=totals.write_bytes,
        uncounted=sum(profile.uncounted.values()),
        backward_macs=back.macs if back else 0,
        backward_flops=back.flops if back else 0,
    )


def backward_total(backward: Backward) -> Row:
    """The whole backward pass."""
    return replace(
        sum_row("total", layer_rows(backward.layers)), macs=backward.macs, flops=backward.flops, status="total"
    )


def sum_row(label: str, rows: Iterable[Row]) -> Row:
    """Sums of rows that do not contain one another."""
    rows = list(rows)
    names = ("calls", "macs", "flops", "params", "param_bytes", "output_bytes", "read_bytes", "write_bytes")
    sums = {name: sum(getattr(row, name) for row in rows) for name in (*names, "uncounted")}
    return Row(label, label=label, status="sum", **sums)

"""What a torch.export program is called with: its inputs by name, their sizes, and the sizes that were left free."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from profiler.errors import ModelError, UsageError
from profiler.sources.limits import Limits
from profiler.sources.opened import ExampleInputs
from profiler.sources.program_arguments import Ref
from profiler.sources.program_json import Reader
from profiler.sources.program_module import Parameter
from profiler.sources.program_schema import InputSpec, Program, TensorMeta
from profiler.sources.program_sizes import Size, solved, symbols_of, value_of
from profiler.sources.program_weights import checked_elements

# Integers have values, which models branch on; larger ones are data.
_MOST_VALUES = 1 << 24


@dataclass(frozen=True, slots=True)
class _Input:
    """One input: a tensor, a size that was left free, or a constant that the program was exported for."""

    name: str
    meta: TensorMeta | None = None
    symbol: Size | None = None
    constant: Any = None


class ProgramInputs:
    """The inputs of one program.

    Attributes:
        names: by which the graph knows those that are tensors or sizes.
        dims: the sizes that are free, each with its value at export: `batch` where one is the first axis of inputs and
            no other, else by its symbol, as the file does not keep the name that it had in Python.

    Raises:
        ModelError: they are declared in a way that makes no sense.
    """

    def __init__(self, program: Program, reader: Reader, source: str, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._ranges = program.ranges
        self._inputs = [self._read(spec, program, reader) for spec in program.inputs if spec.kind in _KINDS]
        self.names = [
            spec.value.name for spec in program.inputs if spec.kind == "user_input" and isinstance(spec.value, Ref)
        ]
        self._symbols = self._at_export()
        self._called = self._called_by()
        self.dims = {self._called[symbol]: value for symbol, value in self._symbols.items()}

    def _read(self, spec: InputSpec, program: Program, reader: Reader) -> _Input:
        if not isinstance(spec.value, Ref):
            return _Input(spec.target, constant=spec.constant if spec.kind == "constant_input" else spec.value)
        name = spec.value.name
        if name in program.graph.values:
            return _Input(name, meta=reader.tensor(program.graph, name))
        if name in program.graph.sizes:
            return _Input(name, symbol=reader.size(program.graph, name))
        raise ModelError(
            f"{self._source}: its input {name[:100]!r} is neither a tensor nor a size, and cannot be given"
        )

    # Sizes -------------------------------------------------------------------------------------------------------

    def _free(self) -> list[tuple[str, Size]]:
        """Every size of every input, with where it is."""
        return [
            (f"axis {axis} of {given.name}", size)
            for given in self._inputs
            for axis, size in enumerate(given.meta.sizes if given.meta else ())
        ] + [(given.name, given.symbol) for given in self._inputs if given.symbol is not None]

    def _called_by(self) -> dict[str, str]:
        """What each symbol is called."""
        axes: dict[str, set[str]] = {symbol: set() for symbol in self._symbols}
        for where, size in self._free():
            for symbol in symbols_of(size, self._source):
                axes[symbol].add(where.partition(" of ")[0])
        first = [symbol for symbol, found in axes.items() if found == {"axis 0"}]
        return {symbol: "batch" if first == [symbol] else symbol for symbol in self._symbols}

    def _at_export(self) -> dict[str, int]:
        sizes = [size for _, size in self._free()]
        hints = [(size, size.hint) for size in sizes if not isinstance(size, int) and size.hint is not None]
        found = solved(hints, self._source)
        names = dict.fromkeys(name for size in sizes for name in symbols_of(size, self._source))
        return {name: found.get(name, max(self._bounds(name)[0], 2)) for name in names}

    def _bounds(self, name: str) -> tuple[int, float]:
        least, most = self._ranges.get(name, (None, None))
        return 0 if least is None else least, float("inf") if most is None else most

    def _fits(self, symbols: Mapping[str, int]) -> str:
        """Which symbol is out of the range that the program was exported for; "" where none is."""
        for name, value in symbols.items():
            least, most = self._bounds(name)
            if not least <= value <= most:
                return f"{self._called[name]} = {value}; the program was exported for {self._range(name)}"
        return ""

    def _range(self, name: str) -> str:
        least, most = self._bounds(name)
        return f"{least} or more" if most == float("inf") else f"{least} to {most}"

    # Giving ------------------------------------------------------------------------------------------------------

    def example(self, dims: Mapping[str, int]) -> ExampleInputs:
        """Inputs of the sizes that the program was exported for, but for free sizes that are given.

        Raises:
            UsageError: a size is out of its range.
            RefusedError: an input goes beyond a limit.
        """
        given = {symbol: dims[name] for symbol, name in self._called.items() if name in dims}
        symbols = {**self._symbols, **given}
        wrong = self._fits(given)
        if wrong:
            raise UsageError(f"--dim {wrong}")
        args = tuple(self._example(given, symbols) for given in self._inputs)
        shown = [f"{i.name} {_written(a)}" for i, a in zip(self._inputs, args, strict=True) if i.constant is None]
        filled = any(isinstance(a, torch.Tensor) and not a.is_meta for a in args)
        values = ", integers 0, those of masks 1" if filled else ""
        note = f"input {', '.join(shown)} as the program declares it{values}{self._told(symbols)}"
        return ExampleInputs(args, note=note)

    def _told(self, symbols: Mapping[str, int]) -> str:
        free = self._free()
        told = []
        for name, called in self._called.items():
            where = next((at for at, size in free if name in symbols_of(size, self._source)), "")
            told.append(f"--dim {called}={symbols[name]} sets {where} ({self._range(name)})")
        return "; " + ", ".join(told) if told else ""

    def _example(self, given: _Input, symbols: Mapping[str, int]) -> Any:  # noqa: ANN401  # any input
        if given.symbol is not None:
            return value_of(given.symbol, symbols, self._source)
        if given.meta is None:
            return given.constant
        shape = tuple(value_of(size, symbols, self._source) or 0 for size in given.meta.sizes)
        checked_elements(shape, f"{self._source}, its input {given.name}", self._limits)
        dtype = given.meta.dtype
        if not _has_values(shape, dtype):
            return torch.empty(shape, dtype=dtype, device="meta")
        # Numbers that mask are 1 where something is seen; truth values, by torch's own convention, where it is not.
        return torch.full(shape, int("mask" in given.name and dtype != torch.bool), dtype=dtype)

    def parameters(self) -> list[Parameter]:
        """The parameters of the program's forward."""
        return [
            Parameter(i.name, self._checker(i), inspect.Parameter.empty if i.meta or i.symbol else i.constant)
            for i in self._inputs
        ]

    def _checker(self, given: _Input) -> Callable[[Any], Any]:
        meta = given.meta

        def tensor(value: Any) -> Any:  # noqa: ANN401  # whatever was given
            if meta is None or not isinstance(value, torch.Tensor):
                raise ModelError(f"{self._source}: {given.name} is to be a tensor, got {type(value).__name__}")
            if value.dtype != meta.dtype or value.dim() != len(meta.sizes):
                raise ModelError(
                    f"{self._source}: {given.name} was exported as {self._declared(meta)}, got {_written(value)}"
                )
            return value

        def size(value: Any) -> Any:  # noqa: ANN401  # as above
            if type(value) is not int:
                raise ModelError(f"{self._source}: {given.name} is to be a whole number, got {type(value).__name__}")
            return value

        def constant(value: Any) -> Any:  # noqa: ANN401  # as above
            if isinstance(value, torch.Tensor) or value != given.constant:
                raise ModelError(
                    f"{self._source}: {given.name} is fixed to {str(given.constant)[:100]!r} by the export"
                )
            return given.constant

        return tensor if meta else size if given.symbol is not None else constant

    def check(self, values: Mapping[str, Any]) -> None:
        """Check that the sizes of what was given fit each other and the program.

        Raises:
            ModelError: one does not.
        """
        pairs: list[tuple[str, int, Size, int]] = []
        for given in self._inputs:
            if given.meta is not None:
                for axis, (size, value) in enumerate(zip(given.meta.sizes, values[given.name].shape, strict=True)):
                    if not isinstance(value, torch.SymInt):
                        pairs.append((given.name, axis, size, int(value)))  # TorchScript's tracer gives tensors
                    elif isinstance(size, int):
                        raise self._differs(given.name, axis, size, "any")
            elif given.symbol is not None:
                pairs.append((given.name, 0, given.symbol, values[given.name]))
        symbols = solved([(size, value) for _, _, size, value in pairs], self._source)
        wrong = self._fits({name: value for name, value in symbols.items() if name in self._symbols})
        if wrong:
            raise ModelError(f"{self._source}: {wrong}")
        for name, axis, size, value in pairs:
            expected = value_of(size, symbols, self._source)
            if expected is not None and expected != value:
                raise self._differs(name, axis, expected, value)

    def _differs(self, name: str, axis: int, expected: int, given: int | str) -> ModelError:
        return ModelError(
            f"{self._source}: axis {axis} of {name} was exported as {expected}, got {given}; "
            "export the program with dynamic_shapes for other sizes"
        )

    def _declared(self, meta: TensorMeta) -> str:
        sizes = "x".join(str(n) if isinstance(n, int) else "/".join(symbols_of(n, self._source)) for n in meta.sizes)
        return f"{sizes or 'a scalar'}:{str(meta.dtype).removeprefix('torch.')}"


_KINDS = ("user_input", "constant_input")


def _has_values(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return not dtype.is_floating_point and not dtype.is_complex and torch.Size(shape).numel() <= _MOST_VALUES


def _written(value: Any) -> str:  # noqa: ANN401  # any input
    if not isinstance(value, torch.Tensor):
        return str(value)
    dtype = "" if value.dtype == torch.float32 else f":{str(value.dtype).removeprefix('torch.')}"
    return ("x".join(map(str, value.shape)) or "scalar") + dtype

"""torch.export programs (`.pt2`): the graph is read from the archive's JSON and run by netgauge, never by torch.export.

`torch.export.load` unpickles sample inputs and evaluates sizes as Python; nothing of the kind is done here. The members
`models/NAME.json` and `data/*/NAME_*_config.json` are parsed, raw weights are mapped as bytes, and every other member
stays closed, `data/sample_inputs/NAME.pt` among them. The older layout, a flat archive with
`serialized_exported_program.json`, is read as well, without its weights, which are a pickle. Not read: programs of
another major version of the schema, archives of several programs, AOTInductor packages (compiled code), operators
that are not torch's own, and operators that take graphs and choose between them (cond, while_loop, map, scan).
"""

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch

from profiler.errors import ModelError, RefusedError
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opened import OpenedModel
from profiler.sources.program_inputs import ProgramInputs
from profiler.sources.program_json import Reader
from profiler.sources.program_module import ProgramModule, built
from profiler.sources.program_plan import planned
from profiler.sources.program_schema import Graph, InputSpec, Payload, Program
from profiler.sources.program_weights import Weights, is_native

_FLAT = "serialized_exported_program.json"  # of the layout before this one
_HELD = ("parameter", "buffer", "tensor_constant")
_FOLDERS = {"weights": "data/weights/", "constants": "data/constants/"}


def open_program(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:  # noqa: ARG001  # nothing to trust here
    """Open a torch.export program.

    Raises:
        ModelError: it is damaged, or of a kind that is not read (see above).
        RefusedError: it calls what is not run, or asks for too much; `known` has its tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(path, archive, limits).opened()
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{path}: is truncated or damaged ({error}); copy or download it again") from error


class _Archive:
    """One file, open."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, limits: Limits) -> None:
        self._path = path
        self._archive = archive
        self._limits = limits
        self._members = _checked_members(path, archive.infolist(), limits)
        self._reader = Reader(str(path), limits)

    def opened(self) -> OpenedModel:
        """The whole of it."""
        root, program_member = self._found()
        program = self._reader.program(self._read(program_member))
        stem = PurePosixPath(program_member).stem
        payloads = {
            kind: self._payloads(f"{root}{folder}{stem}_{kind}_config.json", kind) for kind, folder in _FOLDERS.items()
        }
        held = self._held(program, payloads, root)
        entries = tuple(_entry(path, tensor) for _, path, tensor in held)
        self._limits.check("tensors", len(entries), str(self._path))
        opened = OpenedModel(str(self._path), "weights", tensors=entries, path=self._path)
        inputs = ProgramInputs(program, self._reader, str(self._path), self._limits)
        try:
            module = self._module(program, held, inputs)
        except RefusedError as refused:
            raise RefusedError(str(refused), known=opened) from refused
        return replace(
            opened,
            kind="module",
            module=module,
            notes=_notes(program, payloads),
            inputs=inputs.example,
            dims=inputs.dims,
        )

    def _module(
        self, program: Program, held: list[tuple[str, str, torch.Tensor]], inputs: ProgramInputs
    ) -> ProgramModule:
        given = [name for name, _, _ in held] + inputs.names
        plan = planned(program.graph, given, program.outputs, str(self._path))
        module = built(plan, held, inputs.parameters(), program.modules, inputs.check)
        module.eval()
        return module

    def _found(self) -> tuple[str, str]:
        """The folder that everything lies in, with its slash, and the member that holds the program."""
        if _FLAT in self._members:
            return "", _FLAT
        roots = {name.partition("/")[0] + "/" for name in self._members if name.endswith("/archive_format")}
        root = min(roots, default="")
        programs = [n for n in self._members if n.startswith(f"{root}models/") and n.endswith(".json")]
        if len(roots) > 1 or len(programs) > 1:
            names = ", ".join(sorted(ascii(PurePosixPath(n).stem) for n in programs)[:5])
            raise ModelError(f"{self._path}: holds several programs ({names}); save each on its own")
        if not programs:
            compiled = any(n.startswith(f"{root}data/aotinductor/") for n in self._members)
            what = "an AOTInductor package, compiled code without a graph" if compiled else "no torch.export program"
            raise ModelError(f"{self._path}: is {what}; save the program with torch.export.save")
        return root, programs[0]

    def _read(self, name: str) -> bytes:
        self._limits.check("header_bytes", self._members[name].file_size, f"{self._path}, {name!a}")
        return self._archive.read(name)

    def _payloads(self, name: str, kind: str) -> dict[str, Payload]:
        """What a configuration says; nothing where there is none, as in older files."""
        return self._reader.payloads(self._read(name), f"its {kind}") if name in self._members else {}

    def _held(
        self, program: Program, payloads: Mapping[str, Mapping[str, Payload]], root: str
    ) -> list[tuple[str, str, torch.Tensor]]:
        """The tensors that the program holds: name in the graph, dotted name, tensor."""
        order = self._members.get(f"{root}byteorder")
        native = is_native(b"" if order is None else self._archive.read(order) if order.file_size < 20 else b"?")
        weights = Weights(self._path, self._members, self._limits, native=native)
        held = []
        for spec in program.inputs:
            if spec.kind not in _HELD:
                continue
            name = spec.value.name
            for kind, folder in _FOLDERS.items():
                payload = payloads[kind].get(spec.target)
                if payload is not None and payload.meta is not None:
                    tensor = weights.tensor(f"{root}{folder}", spec.target, _as(spec, payload))
                    break
            else:
                tensor = self._declared(weights, program.graph, spec)
            held.append((name, spec.target, tensor))
        return held

    def _declared(self, weights: Weights, graph: Graph, spec: InputSpec) -> torch.Tensor:
        """A tensor that only the graph tells of."""
        meta = self._reader.tensor(graph, spec.value.name)
        if spec.kind == "parameter" and (meta.dtype.is_floating_point or meta.dtype.is_complex):
            meta = replace(meta, requires_grad=True)  # the graph's own are detached
        return weights.declared(spec.target, Payload("", spec.kind == "parameter", pickled=True, meta=meta))


def _as(spec: InputSpec, payload: Payload) -> Payload:
    """A payload as what the signature takes it for."""
    return replace(payload, is_param=spec.kind == "parameter")


def _checked_members(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> dict[str, zipfile.ZipInfo]:
    limits.check("members", len(members), str(path))
    found = {m.filename: m for m in members}
    if len(found) < len(members):
        raise RefusedError(f"{path}: the archive lists a member twice, which no honest tool does; refused")
    flat = _FLAT in found  # written by Python's zipfile, and just as uncompressed
    if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
        raise RefusedError(f"{path}: the archive is compressed, which torch.export.save never does; refused")
    if not flat and any(not PurePosixPath(n).parts or ".." in PurePosixPath(n).parts for n in found):
        raise RefusedError(f"{path}: a member's name leads out of the archive, which no honest tool writes; refused")
    return found


def _entry(path: str, tensor: torch.Tensor) -> TensorEntry:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorEntry(path, tuple(tensor.shape), dtype, tensor.nbytes, str(tensor.untyped_storage()._cdata))  # noqa: SLF001  # a storage's identity


def _notes(program: Program, payloads: Mapping[str, Mapping[str, Payload]]) -> tuple[str, ...]:
    """What a reader should know of how the program was read."""
    notes = [
        f"torch.export program written by torch {program.written_by}; its graph is read as data, nothing is unpickled"
    ]
    stored = [payload for of_kind in payloads.values() for payload in of_kind.values()]
    pickled = sum(payload.pickled and payload.meta is not None for payload in stored)
    if pickled:
        notes.append(f"{pickled} tensors are stored as pickles, which stay closed: their sizes are those declared")
    held = [s for s in program.inputs if s.kind in _HELD]
    if held and not stored:
        notes.append(
            "the weights are stored as a pickle, which stays closed: sizes are those of the graph, every parameter is"
            " taken to be trained, and tied ones count each on its own"
        )
    if any(_trains(node.inputs, node.target) for node in program.graph.nodes):
        notes.append("the program was exported in training mode: batch statistics and dropout are in its graph")
    return tuple(notes)


_MODES = {"torch.ops.aten.batch_norm.default": "training", "torch.ops.aten.dropout.default": "train"}


def _trains(inputs: tuple[tuple[str, object], ...], target: str) -> bool:
    name = _MODES.get(target)
    return name is not None and any(n == name and value is True for n, value in inputs)

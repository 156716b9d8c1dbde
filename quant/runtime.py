"""ONNX Runtime, in the one place that imports it: sessions with every setting stated, and errors in one clear line.

Left to its defaults ONNX Runtime prints to the terminal, spins its threads between runs (which spoils the timing of
whatever runs next) and quietly falls back to the CPU where a provider does not load. A session opened here does none of
these.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from profiler.errors import DataError, ModelError, UnavailableError, UsageError
from quant import _runtime_errors
from quant.assignment import CONFIG, Assignment, assignment
from quant.bound import Bound
from quant.devices import DEVICES, MEMORY, Engine, FirstRunTimed, engine_for, provider_options
from quant.installation import import_onnxruntime, installed_distributions, provider_state
from quant.model_files import for_runtime
from quant.session_options import WITHOUT, session_options

__all__ = [
    "DEVICES",
    "RuntimeSession",
    "check_device",
    "import_onnxruntime",
    "installed_distributions",
    "open_session",
    "provider_state",
    "run_batches",
]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

    import numpy as np
    from onnxruntime import InferenceSession, SessionOptions

    from profiler.sources import Limits
    from quant.providers import ProviderState

_T = TypeVar("_T")
Level = Literal["all", "extended", "basic", "disabled"]

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}


@dataclass(frozen=True, eq=False)
class RuntimeSession:
    """A model loaded into ONNX Runtime.

    Attributes:
        name: the file's name, or "model" for bytes; used in messages.
        input_names: in the model's order; the three `input_` tuples run in parallel.
        input_shapes: an int where a dimension is fixed, its name or None where it is not. Empty for a scalar and for an
            input of unknown rank: ONNX Runtime does not tell them apart.
        input_types: NumPy's names ("float32"); ONNX Runtime's ("tensor(bfloat16)") for types that NumPy lacks.
        output_names: in the model's order.
        settings: how the session was opened, for reports.
        assignment: which provider runs which nodes; None on the CPU, and where ONNX Runtime does not tell.
        engine: TensorRT's engine of the model; None on other devices.
    """

    name: str
    input_names: tuple[str, ...]
    input_shapes: tuple[tuple[int | str | None, ...], ...]
    input_types: tuple[str, ...]
    output_names: tuple[str, ...]
    settings: Mapping[str, object]
    _session: InferenceSession = field(repr=False)
    assignment: Assignment | None = None
    engine: Engine | None = None

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the order of `output_names`.

        Raises:
            DataError: an input is missing, unknown, or of another type or shape than the model takes.
            ModelError: the model failed on inputs that fit.
        """
        try:
            outputs: list[np.ndarray] = self._session.run(None, dict(inputs))
        except _runtime_errors.exceptions() as error:
            raise self._explained(error, inputs) from error
        return outputs

    def bound(self, feeds: Sequence[Mapping[str, np.ndarray]]) -> Bound:
        """The session with these inputs on its device and the outputs kept there, for timing.

        Args:
            feeds: inputs as for `run`; the result takes the number of one of them.

        Raises:
            DataError: an input does not fit the model.
            ModelError: the device's memory is full.
        """
        memory = MEMORY[str(self.settings["device"])]
        return Bound(self._session, import_onnxruntime(), feeds, memory, self._explained)

    def _explained(self, error: Exception, inputs: Mapping[str, np.ndarray]) -> DataError | ModelError:
        expected = dict(zip(self.input_names, zip(self.input_shapes, self.input_types, strict=True), strict=True))
        return _runtime_errors.explained(self.name, error, inputs, expected, gpu=self.settings["device"] != "cpu")

    def end_profiling(self) -> list[dict[str, Any]]:
        """The events of a session opened with `profile=True`, in Chrome's trace format; the session records no more."""
        if not self.settings["profile"]:
            raise UsageError(f"{self.name}: the session was opened without profile=True")
        return _trace_events(Path(self._session.end_profiling()).read_text(encoding="utf-8", errors="replace"))


def open_session(
    model: str | Path | bytes,
    *,
    device: str = "cpu",
    threads: int = 1,
    profile: bool = False,
    optimized_path: str | Path | None = None,
    level: Level = "all",
    quant_kernels: bool = True,
    trust: bool = False,
    limits: Limits | None = None,
    checked: bool = False,
    before_load: Callable[[], None] | None = None,
) -> RuntimeSession:
    """Load an ONNX model into ONNX Runtime.

    Args:
        model: an ONNX file, or the bytes of one.
        device: "cpu", "cuda" or "tensorrt".
        threads: that one operator may use; operators run one after the other, and no thread spins while it waits.
        profile: record the time of every node (see `RuntimeSession.end_profiling`), which slows the whole down.
        optimized_path: where to write the graph as ONNX Runtime will run it.
        level: of graph optimization.
        quant_kernels: False keeps QDQ models in float: the same rounding, without int8 kernels.
        trust: take files of tensors that have several names.
        limits: how much a file may ask for.
        checked: the caller is inside `quant.model_files.for_runtime` of this very file, in this process or another.
        before_load: called right before ONNX Runtime is given the model.

    Raises:
        UsageError: an unknown device or level, or fewer than one thread.
        UnavailableError: ONNX Runtime or the device's provider is missing or does not load.
        ModelError: ONNX Runtime cannot load the model, or it is no ONNX file.
        RefusedError: see `quant.model_files`.
    """
    wanted = _choice(DEVICES, device, "device")
    if threads < 1:
        raise UsageError(f"a session needs at least one thread, got {threads}")
    optimization = _choice(_LEVELS, level, "level")
    ort = import_onnxruntime()
    if wanted[0] not in ort.get_available_providers():
        raise _unusable(provider_state(wanted[0]))
    options = session_options(ort, threads)
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, optimization)
    if not quant_kernels:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    name = "model" if isinstance(model, bytes) else str(model)
    with contextlib.ExitStack() as cleanup:
        if profile:
            folder = tempfile.mkdtemp(prefix="netgauge-profile-")
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "trace")
        given = model if isinstance(model, bytes) else str(model)
        checks = for_runtime(model, trust=trust, limits=limits)
        began = time.perf_counter()
        with contextlib.nullcontext(given) if checked else checks as source:
            engine = engine_for(source, ort.__version__) if device == "tensorrt" else None
            if engine is not None and not engine.kept:
                cleanup.callback(shutil.rmtree, engine.folder, ignore_errors=True)
            if before_load is not None:
                before_load()
            session = _create(ort, source, options, wanted, name, engine)
        placed = assignment(session, wanted[0]) if device != "cpu" else None
        if placed is not None:
            placed.check(name)
        if engine is not None:
            engine.opening_seconds = time.perf_counter() - began
            session = FirstRunTimed(session, engine)
        opened = RuntimeSession(
            name=name,
            input_names=tuple(value.name for value in session.get_inputs()),
            input_shapes=tuple(tuple(value.shape) for value in session.get_inputs()),
            input_types=tuple(
                _runtime_errors.NUMPY_TYPES.get(value.type, value.type) for value in session.get_inputs()
            ),
            output_names=tuple(value.name for value in session.get_outputs()),
            settings=MappingProxyType(
                {
                    "device": device,
                    "providers": list(session.get_providers()),
                    "threads": threads,
                    "inter_op_threads": 1,
                    "spinning": False,
                    "optimization": level,
                    "disabled_optimizers": [WITHOUT],
                    "quant_kernels": quant_kernels,
                    "profile": profile,
                    "io_binding": False,  # each run copies its inputs to the device and its outputs back
                    **({"nodes": placed.nodes} if placed else {}),
                }
            ),
            _session=session,
            assignment=placed,
            engine=engine,
        )
        weakref.finalize(opened, cleanup.pop_all().close)  # the trace lives as long as the session
    return opened


def check_device(device: str) -> None:
    """Find out whether a device can be used before time is spent on what it is for.

    Raises:
        UsageError: it is unknown.
        UnavailableError: its provider does not load; the message says what is missing.
    """
    provider = _choice(DEVICES, device, "device")[0]
    if device != "cpu" and not (state := provider_state(provider)).loads:
        raise _unusable(state)


def run_batches(session: RuntimeSession, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[list[np.ndarray]]:
    """Run one batch after the other, holding no more than one; an error names the batch it arose in.

    Raises:
        DataError: a batch does not fit the model.
        ModelError: the model failed on a batch that fits.
    """
    for number, batch in enumerate(batches):
        try:
            outputs = session.run(batch)
        except (DataError, ModelError) as error:
            raise type(error)(f"batch {number}: {error}") from error
        yield outputs


def _create(
    ort: ModuleType,
    source: str | bytes,
    options: SessionOptions,
    wanted: Sequence[str],
    name: str,
    engine: Engine | None,
) -> InferenceSession:
    """An `onnxruntime.InferenceSession` in which the first wanted provider is at work."""
    if wanted[0] != "CPUExecutionProvider":
        options.add_session_config_entry(*CONFIG)
        with contextlib.redirect_stdout(io.StringIO()):  # prints what it does not find; the session will tell
            ort.preload_dlls()
    available = [p for p in wanted if p in ort.get_available_providers()]
    settings = [provider_options(p, source, engine) for p in available]
    failure: Exception | None = None
    try:
        session = ort.InferenceSession(
            source, options, providers=available, provider_options=settings, enable_fallback=0
        )
    except _runtime_errors.exceptions() as error:
        failure = error
    else:
        if wanted[0] in session.get_providers():
            return session
    if wanted[0] != "CPUExecutionProvider":
        state = provider_state(wanted[0])
        if not state.loads:
            raise _unusable(state) from failure
    gpu = wanted[0] != "CPUExecutionProvider"
    reason = _runtime_errors.reason(failure, gpu=gpu) if failure else f"it would run without {wanted[0]}"
    raise ModelError(f"{name}: ONNX Runtime cannot load it: {reason}") from failure


def _unusable(state: ProviderState) -> UnavailableError:
    return UnavailableError(f"{state.name} does not load: {state.reason}\n{state.remedy}")


def _choice(table: Mapping[str, _T], key: str, what: str) -> _T:
    if key not in table:
        raise UsageError(f"unknown {what} {key!r}; known are {', '.join(table)}")
    return table[key]


def _trace_events(text: str) -> list[dict[str, Any]]:
    """Events of a profile; ONNX Runtime 1.30 does not escape node names, so an event that is no JSON is left out."""
    events: list[object]
    try:
        events = json.loads(text)
    except json.JSONDecodeError:
        events = []
        for line in text.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                events.append(json.loads(line.strip().rstrip(",")))
    return [event for event in events if isinstance(event, dict)]

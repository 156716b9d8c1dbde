"""ONNX files on their way into ONNX Runtime: what `profiler.sources` checks, and what only matters once a graph runs.

ONNX Runtime opens files by itself, so a file is checked first, handed over by its path, and looked at again afterwards:
one that was exchanged in between is refused. Bytes have no folder; ONNX Runtime and onnx would look for tensors that
they keep in other files in the current folder, so such bytes never get there.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from math import inf, prod
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import ModelError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto

    from profiler.sources import Limits, OpenedModel

# Domains of operators that ONNX Runtime defines itself; those of others come from libraries, which are never loaded.
_DOMAINS = frozenset(
    (
        *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training"),
        *("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.microsoft.dml"),
        *("com.ms.internal.nhwc", "org.pytorch.aten"),
    )
)
_BYTES = 4  # of an element of such a tensor, as a rule
_KINDS = {
    "torch zip": "a torch.save file",
    "legacy torch": "a torch.save file",
    "torchscript": "TorchScript",
    "program": "a torch.export program",
    "safetensors": "a safetensors file",
    "index": "a JSON file",
}


def open_graph(path: str | Path, *, trust: bool = False, limits: Limits | None = None) -> OpenedModel:
    """Open an ONNX file that ONNX Runtime can be given.

    Args:
        path: the file.
        trust: take files of tensors that have several names (hard links).
        limits: how much the graph may ask for.

    Raises:
        ModelError: it is no ONNX file, damaged, or not one that ONNX Runtime can run.
        RefusedError: see `profiler.sources.onnx_file.open_onnx` and `check_runs`.
    """
    from profiler.sources import OPENERS
    from profiler.sources.detect import kind_of
    from profiler.sources.limits import DEFAULT, check_file

    path, limits = Path(path).expanduser(), limits or DEFAULT
    kind = kind_of(path)
    if kind != "onnx":
        named = _KINDS.get(kind, f"a {kind} file")
        raise ModelError(f"{path}: is {named}, and only ONNX files run here; netgauge quantize makes one of a model")
    check_file(path, limits)
    opened = OPENERS[kind](path, trust=trust, limits=limits)
    check_runs(opened, trust=trust)
    return opened


def check_runs(opened: OpenedModel, *, trust: bool = False) -> None:
    """Refuse a graph that ONNX Runtime could not run, or only with code that comes with it.

    Raises:
        ModelError: files with tensors or tensors' contents are missing, or operators are of a library.
        RefusedError: it holds compiled code.
    """
    from profiler.sources.external_data import missing, outside_tensors
    from profiler.sources.onnx_checks import check_complete

    graph = opened.graph
    if graph is None:
        raise ModelError(f"{opened.target}: holds no ONNX graph")
    _check_operators(graph, opened)
    gone = missing(outside_tensors(graph, opened.path, trust=trust)) if opened.path is not None else ()
    if gone:
        listed = ", ".join(map(repr, gone[:3]))
        raise ModelError(f"{opened.target}: keeps tensors in {listed}, which is missing; put it beside the model")
    check_complete(graph, opened.target)
    _check_memory(graph, opened.target)


def _check_memory(graph: ModelProto, target: str) -> None:
    """What a node makes out of nothing has to fit into this machine; other sizes are known only as the graph runs."""
    from profiler.environment import physical_memory
    from profiler.sources.onnx_checks import made_sizes
    from profiler.sources.onnx_parts import graphs_of

    most = (physical_memory() or inf) / 2
    for _, part in graphs_of(graph):
        for maker, sizes in made_sizes(part):
            count = prod(sizes)
            if count * _BYTES > most:
                raise ModelError(
                    f"{target}: {maker} makes a tensor of {count:,} elements, which does not fit into memory"
                )


def _check_operators(graph: ModelProto, opened: OpenedModel) -> None:
    from profiler.sources.onnx_parts import key_of, nodes_of

    functions = {key_of(function) for function in graph.functions}
    strange: defaultdict[str, set[str]] = defaultdict(set)
    for node in nodes_of(graph):
        if node.op_type == "EPContext" or any(a.name == "ep_cache_context" for a in node.attribute):
            raise RefusedError(
                f"{opened.target}: holds code compiled for one device (EPContext), which would run as it is; give the "
                "model that it was compiled from",
                known=opened,
            )
        if node.domain not in _DOMAINS and key_of(node) not in functions:
            strange[node.domain].add(node.op_type)
    if strange:
        domain, operators = min(strange.items())
        listed = ", ".join(sorted(operators)[:3])
        raise ModelError(
            f"{opened.target}: {listed} of the domain {domain!r} is no operator of ONNX Runtime; libraries that define "
            "further ones are never loaded. Export the model with standard operators"
        )


def check_bytes(data: bytes) -> None:
    """Refuse bytes of a model that keeps tensors in other files.

    Raises:
        ModelError: it does.
    """
    if b"location" not in data:  # what every tensor outside must have; parsing takes time
        return
    from profiler.sources import _loaders
    from profiler.sources.onnx_parts import is_outside, tensors_of

    model = _loaders.parse_onnx_bytes(data, "the bytes")
    outside = next((name for name, tensor in tensors_of(model) if is_outside(tensor)), None)
    if outside is not None:
        raise ModelError(f"the model keeps {outside!r} and perhaps more in other files: give the path of its file")


@contextmanager
def for_runtime(
    model: str | Path | bytes, *, trust: bool = False, limits: Limits | None = None
) -> Iterator[str | bytes]:
    """Check a model; inside the context it can be given to ONNX Runtime.

    Raises:
        ModelError, RefusedError: see `open_graph` and `check_bytes`; or a file was exchanged meanwhile.
    """
    if isinstance(model, bytes):
        check_bytes(model)
        yield model
        return
    from profiler.sources.external_data import outside_tensors

    opened = open_graph(model, trust=trust, limits=limits)
    path = Path(model).expanduser()
    files = [path]
    if opened.graph is not None:
        tensors = outside_tensors(opened.graph, path, trust=trust)
        files += [path.parent / location for location in dict.fromkeys(t.location for t in tensors)]
    del opened  # as large as the file; ONNX Runtime reads its own
    before = [_stamp(file) for file in files]
    yield str(path)
    for file, stamp in zip(files, before, strict=True):
        if _stamp(file) != stamp:
            raise RefusedError(f"{file}: was changed while the model was being opened; refused")


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

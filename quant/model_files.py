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

    from profiler.sources import Limits, OpenedModel
    from profiler.sources.external_data import OutsideTensor
    from profiler.sources.onnx_parts import Parts

# Domains of operators that ONNX Runtime defines itself; those of others come from libraries, which are never loaded.
_DOMAINS = frozenset(
    (
        *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training"),
        *("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.microsoft.dml"),
        *("com.ms.internal.nhwc", "org.pytorch.aten"),
    )
)
# Holds what an execution provider has compiled, or the path of a library.
_COMPILED = "EPContext"
_BYTES = 4  # of an element of such a tensor, as a rule
_KINDS = {
    "torch zip": "a torch.save file",
    "legacy torch": "a torch.save file",
    "torchscript": "TorchScript",
    "program": "a torch.export program",
    "safetensors": "a safetensors file",
    "index": "a JSON file",
}


def check_runs(opened: OpenedModel, *, trust: bool = False) -> tuple[OutsideTensor, ...]:
    """Refuse a graph that ONNX Runtime could not run, or only with code that comes with it.

    Args:
        opened: an ONNX graph.
        trust: take files of tensors that have several names (hard links).

    Returns:
        The tensors that lie in other files; none where the graph comes from no file.

    Raises:
        ModelError: files with tensors or tensors' contents are missing, or operators are of a library.
        RefusedError: it holds compiled code.
    """
    from profiler.sources.external_data import missing, outside_tensors
    from profiler.sources.onnx_checks import check_complete
    from profiler.sources.onnx_parts import parts_of

    if opened.graph is None:
        raise ModelError(f"{opened.target}: holds no ONNX graph")
    parts = parts_of(opened.graph)
    _check_operators(parts, opened)
    outside = outside_tensors(parts, opened.path, trust=trust) if opened.path is not None else ()
    gone = missing(outside)
    if gone:
        listed = ", ".join(map(repr, gone[:3]))
        raise ModelError(f"{opened.target}: keeps tensors in {listed}, which is missing; put it beside the model")
    check_complete(parts, opened.target)
    _check_memory(parts, opened.target)
    return outside


def _check_memory(parts: Parts, target: str) -> None:
    """What a node makes out of nothing has to fit into this machine; other sizes are known only as the graph runs."""
    from profiler.environment import physical_memory
    from profiler.sources.onnx_checks import made_sizes

    most = (physical_memory() or inf) / 2
    for _, graph in parts.graphs:
        for maker, sizes in made_sizes(graph):
            count = prod(sizes)
            if count * _BYTES > most:
                raise ModelError(f"{target}: {maker} makes a tensor of {count:,} elements, too many for this machine")


def _check_operators(parts: Parts, opened: OpenedModel) -> None:
    from profiler.sources.onnx_parts import key_of

    functions = {key_of(function) for function in opened.graph.functions} if opened.graph is not None else set()
    strange: defaultdict[str, set[str]] = defaultdict(set)
    if any(a.name == "ep_cache_context" for a in parts.attributes) or any(n.op_type == _COMPILED for n in parts.nodes):
        raise RefusedError(
            f"{opened.target}: holds code compiled for one device ({_COMPILED}), which would run as it is; give the "
            "model that it was compiled from",
            known=opened,
        )
    for node in parts.nodes:
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
    from profiler.sources.onnx_parts import is_outside, parts_of

    model = _loaders.parse_onnx_bytes(data, "the bytes")
    outside = next((name for name, tensor in parts_of(model).tensors if is_outside(tensor)), None)
    if outside is not None:
        raise ModelError(f"the model keeps {outside!r} and perhaps more in other files: give the path of its file")


@contextmanager
def for_runtime(
    model: str | Path | bytes, *, trust: bool = False, limits: Limits | None = None
) -> Iterator[str | bytes]:
    """Check a model; inside the context it can be given to ONNX Runtime.

    Args:
        model: a file, or the bytes of one that holds all its tensors.
        trust: take files of tensors that have several names (hard links).
        limits: how much a file may ask for.

    Raises:
        ModelError: it is no ONNX file, is damaged, or not one that ONNX Runtime can run.
        RefusedError: it asks for too much, for files that are not its own, or holds code; or a file was exchanged.
    """
    if isinstance(model, bytes):
        check_bytes(model)
        yield model
        return
    path = Path(model).expanduser()
    expected = {path: _stamp(path)}
    for tensor in _checked(path, trust=trust, limits=limits):
        if tensor.file is not None:
            expected[path.parent / tensor.location] = (tensor.file.device, tensor.file.inode, tensor.file.size)
    yield str(path)
    for file, stamp in expected.items():
        if _stamp(file) != stamp:
            raise RefusedError(f"{file}: was exchanged while the model was being opened; refused")


def _checked(path: Path, *, trust: bool, limits: Limits | None) -> tuple[OutsideTensor, ...]:
    """Check a file; its graph, which ONNX Runtime will read for itself, is let go."""
    from profiler.sources import OPENERS
    from profiler.sources.detect import kind_of
    from profiler.sources.limits import DEFAULT, check_file

    limits = limits or DEFAULT
    kind = kind_of(path)
    if kind != "onnx":
        named = _KINDS.get(kind, f"a {kind} file")
        raise ModelError(f"{path}: is {named}, and only ONNX files run here; netgauge quantize makes one of a model")
    check_file(path, limits)
    return check_runs(OPENERS[kind](path, trust=trust, limits=limits), trust=trust)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size

"""TorchScript archives: a pickle of the modules and the source of their methods. Both are read, neither is run.

Loading one runs code in it (`__setstate__`), and its code can write files, so torch loads it only with `--trust`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from profiler.errors import ModelError, RefusedError
from profiler.sources import _loaders
from profiler.sources.archive import Archive, open_archive
from profiler.sources.described import tensors_in
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opcodes import Instance, read_symbolically
from profiler.sources.opened import ExampleInputs, OpenedModel
from profiler.sources.stored import Stored
from profiler.sources.subtrees import notes_on

_CODE = "code/"
_AS_ONE = "TorchScript runs as one module: its layers have no paths of their own"
_MOST_FILES = 4


def open_torchscript(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:
    """Say what a TorchScript archive holds; load it where the user trusts its maker.

    Raises:
        RefusedError: `trust` is not set; its `known` lists parameters, buffers and constants.
        ModelError: it is damaged.
    """
    archive = open_archive(path, limits, deflated=_CODE)
    if trust:
        module = _loaders.load_trusted_script(path)
        inputs = _traced_on(archive)
        return OpenedModel(str(path), "module", module=module, path=path, notes=(_AS_ONE,), inputs=inputs)
    stored = _stored(archive)
    stored.check_storages()
    files = [n.removeprefix(archive.root) for n in archive.members if n.startswith(archive.root + _CODE)]
    sources = [name for name in files if name.endswith(".py")]
    raise RefusedError(_refusal(stored, archive, sources), _known(stored, archive, sources))


def read_torchscript(path: Path, limits: Limits = DEFAULT) -> Stored:
    """The attributes of a TorchScript archive's modules: parameters, buffers and other tensors.

    Raises:
        RefusedError: no honest tool writes it, or it asks for too much.
        ModelError: it is damaged.
    """
    return _stored(open_archive(path, limits, deflated=_CODE))


def _stored(archive: Archive) -> Stored:
    tree, names = read_symbolically(archive.read("data.pkl"), str(archive.path), archive.limits)
    return Stored(archive.path, tree, names, archive.regions("data/"), archive.limits, big_endian=archive.big_endian)


def _traced_on(archive: Archive) -> Callable[[Mapping[str, int]], ExampleInputs] | None:
    """The inputs that a module was traced on, where the archive keeps their sizes and they are all tensors."""
    if f"{archive.root}traced_inputs.pkl" not in archive.members:
        return None
    tree, _ = read_symbolically(archive.read("traced_inputs.pkl"), str(archive.path), archive.limits)
    forward = [t for t in tensors_in(tree, str(archive.path), archive.limits) if t.path[:1] == ("forward",)]
    if not forward or any(len(tensor.path) != 2 for tensor in forward):
        return None
    layouts = [tensor.layout for tensor in forward]
    sizes = ", ".join("x".join(map(str, layout.shape)) for layout in layouts)
    args = tuple(
        torch.empty(layout.shape, dtype=layout.dtype, device="meta")
        if layout.dtype.is_floating_point
        else torch.zeros(layout.shape, dtype=layout.dtype)
        for layout in layouts
    )
    return lambda _: ExampleInputs(args, note=f"input {sizes}, which it was traced on; --input sets another")


def _known(stored: Stored, archive: Archive, sources: list[str]) -> OpenedModel:
    source = str(archive.path)
    constants, _ = read_symbolically(archive.read("constants.pkl"), source, archive.limits)
    # Its code calls the first CONSTANTS.c0. Their storages are others than those of the same key in data/.
    named = {f"CONSTANTS.c{n}": value for n, value in enumerate(constants if isinstance(constants, tuple) else ())}
    entries = [t.entry() for t in stored.tensors]
    entries += [t.entry(folder="constants/") for t in tensors_in(named, source, archive.limits)]
    more = f" and {len(sources) - _MOST_FILES} more" if len(sources) > _MOST_FILES else ""
    code = f"code in {', '.join(sources[:_MOST_FILES])}{more}" if sources else "no code"
    notes = (code, *notes_on(stored.tensors, module=True))
    return OpenedModel(source, "weights", tensors=tuple(entries), path=archive.path, notes=notes)


def _refusal(stored: Stored, archive: Archive, sources: list[str]) -> str:
    if not isinstance(stored.tree, Instance):
        raise ModelError(f"{stored.path}: holds no module, as TorchScript does; it is damaged")
    text = "\n".join(archive.read(name).decode("utf-8", "replace") for name in sources)
    risks = list(dict.fromkeys(_risks(text)))
    seen = f"; its code has {', '.join(risks[:5])}" if risks else ""
    return (
        f"{stored.path}: is TorchScript ({stored.tree.kind.name}), which runs code as it loads{seen}. Export the model"
        " to ONNX, or name its architecture as FILE.py:factory with this file as --weights, or pass --trust if you"
        " trust its maker."
    )


# What the code of a model has no need of: (pattern, what it is).
_RISKS = (
    (r"\b(?:torch|ops\s*\.\s*aten)\s*\.\s*save\s*\(", "torch.save (writes files)"),
    (r"\b(?:torch|ops\s*\.\s*aten)\s*\.\s*from_file\s*\(", "torch.from_file (reads files)"),
    (r"\bdef\s+__setstate__\b", "__setstate__ (runs while it loads)"),
)
# Namespaces of operators that torch itself brings.
_OWN = frozenset({
    *("aten", "prim", "prims", "quantized", "_quantized", "sparse", "mkldnn", "mkldnn_prepacked", "mkl", "onednn"),
    *("inductor", "prepacked", "profiler"),
})  # fmt: skip


def _risks(text: str) -> Iterator[str]:
    yield from (what for pattern, what in _RISKS if re.search(pattern, text))
    for name in re.findall(r"\bops\s*\.\s*(\w+)\s*\.", text):
        if name not in _OWN:
            yield f"ops.{name} (operators of another library)"
    for name in re.findall(r"__torch__\.torch\.classes\.([\w.]+)", text):
        yield f"torch.classes.{name} (a class in C++)"

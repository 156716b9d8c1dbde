"""The int8 instructions of this CPU, and what each means for a quantized model in ONNX Runtime.

ONNX Runtime's matrix library (MLAS) picks its kernels by these instructions. "U8S8" is uint8 activations times int8
weights. On x86 without VNNI its kernels add two products in 16 bits that *saturate* (VPMADDUBSW), so a file loses
accuracy there that it keeps elsewhere: 1 to 11 points of top-1 in the ImageNet models that Intel publishes.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ARCHITECTURES = {"x86_64": "x86", "amd64": "x86", "i686": "x86", "aarch64": "arm", "arm64": "arm"}


@dataclass(frozen=True)
class Int8Path:
    """One set of int8 instructions.

    Attributes:
        name: the usual name.
        present: whether this CPU has it; None where that could not be found out.
        meaning: what ONNX Runtime does with it.
    """

    name: str
    present: bool | None
    meaning: str


# Architecture -> rows of (name, flag in /proc/cpuinfo, key of torch.cpu.get_capabilities, meaning).
_PATHS = {
    "x86": (
        ("avx2", "avx2", "avx2", "256-bit int8 kernels; U8S8 sums saturate at 16 bits."),
        ("avx512", "avx512bw", "avx512_bw", "512-bit int8 kernels; U8S8 sums saturate at 16 bits."),
        ("avx_vnni", "avx_vnni", "avx_vnni", "256-bit U8S8 kernels with exact 32-bit sums."),
        ("avx512_vnni", "avx512_vnni", "avx512_vnni", "512-bit U8S8 kernels with exact 32-bit sums."),
        ("avx_vnni_int8", "avx_vnni_int8", "avx_vnni_int8", "Exact kernels for S8S8 and U8U8 too, not only U8S8."),
        ("amx_int8", "amx_int8", "amx_int8", "Tile kernels for U8S8 matrix products, exact."),
    ),
    "arm": (
        ("dotprod", "asimddp", "dot", "int8 dot products with exact 32-bit sums, for S8S8 and U8U8 alike."),
        ("i8mm", "i8mm", "i8mm", "int8 matrix instructions: about twice the rate of dot products, exact."),
    ),
}
_VNNI = {"avx_vnni", "avx512_vnni"}


def architecture() -> str:
    """The processor's family: "x86", "arm", or the platform's own name for anything else."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def int8_paths(root: Path = Path("/")) -> tuple[Int8Path, ...]:
    """The int8 instruction sets known for this architecture; empty for one that is neither x86 nor 64-bit ARM.

    Args:
        root: where /proc is looked for.
    """
    flags = _linux_flags(root)
    capabilities = {} if flags is not None else torch_capabilities()
    return tuple(
        Int8Path(name, _present(flag, key, flags, capabilities), meaning)
        for name, flag, key, meaning in _PATHS.get(architecture(), ())
    )


def u8s8_saturates(paths: tuple[Int8Path, ...]) -> bool | None:
    """Whether U8S8 kernels lose sums on this CPU; None where it is unknown."""
    if architecture() == "arm":
        return False
    vnni = [path.present for path in paths if path.name in _VNNI]
    if any(vnni):
        return False
    return None if not vnni or None in vnni else True


def advice(paths: tuple[Int8Path, ...]) -> str:
    """One sentence on how to quantize for this CPU."""
    saturates = u8s8_saturates(paths)
    if saturates is None:
        return (
            "The int8 instructions of this CPU are unknown: measure the accuracy and the latency of int8 models here."
        )
    if saturates:
        return (
            "No VNNI: int8 gains less, and sums of full-range uint8 times int8 saturate; measure accuracy on this CPU, "
            "or keep the weights within 7 bits."
        )
    if architecture() == "x86":
        return "VNNI: uint8 activations with int8 weights are exact and run fastest."
    if not any(path.present for path in paths):
        return "No int8 dot products: int8 models are exact, but gain little."
    return "int8 dot products: int8 models are exact and run fast."


def torch_capabilities() -> Mapping[str, object]:
    """What torch detects of the CPU on any platform; empty before torch 2.11."""
    import torch

    get = getattr(torch.cpu, "get_capabilities", dict)
    found: Mapping[str, object] = get()
    return found


def _linux_flags(root: Path) -> set[str] | None:
    """Flags of the first core, or None where there is no /proc/cpuinfo."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return set(value.split())
    return None


def _present(flag: str, key: str, flags: set[str] | None, capabilities: Mapping[str, object]) -> bool | None:
    if flags is not None:
        return flag in flags
    return bool(capabilities[key]) if key in capabilities else None

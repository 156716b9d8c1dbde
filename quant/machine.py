"""What this machine is, for the `environment` of reports, and what it can do, for `doctor`.

Everything is read from files and libraries, on any platform; what cannot be found out is None, never a guess.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import UnavailableError
from quant import isa, providers, runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PACKAGES = ("netgauge", "torch", "onnx", "onnx-ir", "onnxscript", "fvcore", "numpy")
_BUSY = 0.5  # load per usable core above which other work is worth a warning


@dataclass(frozen=True)
class Cpu:
    """The processor, as this process may use it.

    Attributes:
        model: the vendor's name of it.
        architecture: "x86", "arm" or the platform's name.
        cores: logical cores of the machine.
        allowed_cores: those the scheduler lets this process use.
        quota_cores: how many cores' worth of time the control group grants; None without a quota.
        governor: the frequency governor (Linux); None where there is none to read.
        turbo: whether the clock may rise above its nominal frequency (Linux); None where it is not said.
        int8_paths: names of the int8 instruction sets present (see `quant.isa`).
    """

    model: str
    architecture: str
    cores: int | None
    allowed_cores: int | None
    quota_cores: float | None
    governor: str | None
    turbo: bool | None
    int8_paths: tuple[str, ...]

    @property
    def usable_cores(self) -> float | None:
        """What affinity and quota leave; None where the number of cores is unknown."""
        limits = [limit for limit in (self.allowed_cores, self.quota_cores) if limit is not None]
        return min(limits) if limits else None


@dataclass(frozen=True)
class Machine:
    """A machine and what is installed on it.

    Attributes:
        cpu: the processor.
        memory_bytes: physical memory; None where unknown.
        memory_limit_bytes: the control group's limit; None without one.
        gpus: names of NVIDIA's GPUs by their driver (Linux); None where the driver tells nothing.
        load_average: runnable processes over the last minute; None where the platform does not count them.
        os: name and version of the operating system.
        versions: package -> version, None where it is not installed; with `python` and ONNX Runtime's distributions.
    """

    cpu: Cpu
    memory_bytes: int | None
    memory_limit_bytes: int | None
    gpus: tuple[str, ...] | None
    load_average: float | None
    os: str
    versions: Mapping[str, str | None]

    def warnings(self) -> list[str]:
        """Sentences on what here makes timings unsteady."""
        found = []
        usable = self.cpu.usable_cores
        if self.load_average is not None and usable is not None and self.load_average > _BUSY * usable:
            found.append(
                f"the load average is {self.load_average:.1f} on {usable:g} usable cores: other work may disturb"
            )
        if self.cpu.governor not in {None, "performance"}:
            found.append(f"the CPU frequency governor is {self.cpu.governor!r}, not 'performance': the clock may move")
        if self.cpu.quota_cores is not None:
            found.append(
                f"a control group grants {self.cpu.quota_cores:g} cores' worth of time and pauses what takes more"
            )
        return found

    def to_dict(self) -> dict[str, object]:
        """The `environment` block of reports."""
        return asdict(self)


@dataclass(frozen=True)
class Diagnosis:
    """What this machine can do with quantized models.

    Attributes:
        machine: what it is.
        int8_paths: the int8 instruction sets known for its architecture, present or not.
        u8s8_saturates: whether uint8 times int8 loses sums on this CPU; None where unknown.
        advice: one sentence on how to quantize for this CPU.
        providers: ONNX Runtime's execution providers, each tried.
        problems: what must be put right before models can be quantized.
    """

    machine: Machine
    int8_paths: tuple[isa.Int8Path, ...]
    u8s8_saturates: bool | None
    advice: str
    providers: tuple[providers.ProviderState, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """The same, ready for JSON."""
        return {"schema": "netgauge.diagnosis/1", **asdict(self)}


def describe(root: Path = Path("/")) -> Machine:
    """What this machine is. Reads no more than a few small files.

    Args:
        root: where /proc and /sys are looked for.
    """
    return Machine(
        cpu=_cpu(root),
        memory_bytes=_physical_memory(),
        memory_limit_bytes=_memory_limit(root),
        gpus=_gpus(root),
        load_average=_load_average(),
        os=platform.platform(),
        versions=_versions(),
    )


def doctor() -> Diagnosis:
    """What this machine can do. Tries every execution provider in a process of its own, which takes some seconds."""
    paths = isa.int8_paths()
    states: tuple[providers.ProviderState, ...] = ()
    problems: tuple[str, ...] = ()
    try:
        compiled_in = runtime.import_onnxruntime().get_available_providers()
    except UnavailableError as error:
        problems = (str(error),)
    else:
        wanted = dict.fromkeys([names[0] for names in runtime.DEVICES.values()] + compiled_in)
        states = tuple(runtime.provider_state(name) for name in wanted)
    return Diagnosis(describe(), paths, isa.u8s8_saturates(paths), isa.advice(paths), states, problems)


def peak_memory_bytes() -> int | None:
    """The most memory this process has held so far (resident set); None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes() -> int | None:
    """The memory that this process holds now (resident set; Linux); None elsewhere."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError, IndexError):
        return None


def _cpu(root: Path) -> Cpu:
    affinity = getattr(os, "sched_getaffinity", None)
    return Cpu(
        model=_cpu_model(root),
        architecture=isa.architecture(),
        cores=os.cpu_count(),
        allowed_cores=len(affinity(0)) if affinity else os.cpu_count(),
        quota_cores=_quota_cores(root),
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo=_turbo(root),
        int8_paths=tuple(path.name for path in isa.int8_paths(root) if path.present),
    )


def _turbo(root: Path) -> bool | None:
    """Two drivers say it, one of them the other way round."""
    boost = _read(root / "sys/devices/system/cpu/cpufreq/boost")
    without = _read(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    if boost in {"0", "1"}:
        return boost == "1"
    return without == "0" if without in {"0", "1"} else None


def _cpu_model(root: Path) -> str:
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    board = _read(root / "sys/firmware/devicetree/base/model")  # ARM boards name themselves here
    if board:
        return board.rstrip("\0")
    if not sys.platform.startswith("linux") and (name := isa.torch_capabilities().get("cpu_name")):
        return str(name)
    return platform.processor() or platform.machine()


def _quota_cores(root: Path) -> float | None:
    quotas = []
    for limit in _control_group_values(root, "cpu", "cpu.max"):
        quota, _, period = limit.partition(" ")
        if quota != "max":
            quotas.append(int(quota) / int(period))
    periods = _control_group_values(root, "cpu", "cpu.cfs_period_us")
    for quota, period in zip(_control_group_values(root, "cpu", "cpu.cfs_quota_us"), periods, strict=False):
        if int(quota) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _memory_limit(root: Path) -> int | None:
    texts = [
        *_control_group_values(root, "memory", "memory.max"),
        *_control_group_values(root, "memory", "memory.limit_in_bytes"),
    ]
    limits = [int(text) for text in texts if text != "max"]
    return min((limit for limit in limits if limit < 1 << 60), default=None)  # version 1 writes "none" as 2**63 - 4096


def _control_group_values(root: Path, controller: str, file: str) -> Iterator[str]:
    """Contents of a control group's file, from this process's group up to the mount (versions 2 and 1).

    A container often sees a path here that exists only outside; its own group is then the mount itself.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount) and (text := _read(folder / file)):
                yield text


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none; elsewhere it may be unobtainable
        return None


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # no sysconf on Windows, no such name on some systems
        return None


def _gpus(root: Path) -> tuple[str, ...] | None:
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in (_read(file) or "").splitlines() if line.startswith("Model:")]
    return tuple(line.partition(":")[2].strip() for line in lines) or None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    found.update(runtime.installed_distributions())
    return found


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None

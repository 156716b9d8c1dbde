"""The int8 instructions of a CPU, from Linux's flags or from torch."""

import platform
import sys
from types import MappingProxyType, SimpleNamespace

import pytest
import torch

from quant import isa

SKYLAKE = "fpu sse4_2 avx2 avx512f avx512bw"
ZEN4 = "fpu sse4_2 avx2 avx512f avx512bw avx512_vnni"
SAPPHIRE_RAPIDS = ZEN4 + " avx_vnni amx_int8"
NEOVERSE = "fp asimd asimddp i8mm"
CORTEX_A72 = "fp asimd"

NEEDS_TORCH_2_11 = pytest.mark.skipif(not isa.torch_capabilities(), reason="torch before 2.11 tells nothing of the CPU")


@pytest.fixture
def linux(monkeypatch, tmp_path):
    def make(machine, flags):
        key = "flags\t\t" if machine == "x86_64" else "Features\t"
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(
            f"processor\t: 0\nmodel name\t: A CPU\n{key}: {flags}\n\nprocessor\t: 1\n"
        )
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(sys, "platform", "linux")
        return isa.int8_paths(tmp_path)

    return make


@pytest.mark.parametrize(
    ("machine", "flags", "present", "saturates", "advice"),
    [
        ("x86_64", "fpu sse4_2 avx2", {"avx2"}, True, "No VNNI"),
        ("x86_64", SKYLAKE, {"avx2", "avx512"}, True, "No VNNI"),
        ("x86_64", ZEN4, {"avx2", "avx512", "avx512_vnni"}, False, "VNNI"),
        ("x86_64", SAPPHIRE_RAPIDS, {"avx2", "avx512", "avx512_vnni", "avx_vnni", "amx_int8"}, False, "VNNI"),
        ("aarch64", NEOVERSE, {"dotprod", "i8mm"}, False, "int8 dot products"),
        ("aarch64", CORTEX_A72, set(), False, "No int8 dot products"),
        ("riscv64", "rv64imafdcv", set(), None, "unknown"),
    ],
)
def test_linux(linux, machine, flags, present, saturates, advice):
    paths = linux(machine, flags)
    assert {path.name for path in paths if path.present} == present
    assert isa.u8s8_saturates(paths) is saturates
    assert advice in isa.advice(paths)


class TestElsewhere:
    def paths(self, monkeypatch, machine, **capabilities):
        get = lambda: MappingProxyType(capabilities)  # noqa: E731 -- stands in for torch.cpu.get_capabilities
        monkeypatch.setattr(torch, "cpu", SimpleNamespace(get_capabilities=get) if capabilities else SimpleNamespace())
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(sys, "platform", "darwin" if machine == "arm64" else "win32")
        return isa.int8_paths()

    def test_torch_tells(self, monkeypatch):
        assert [path.present for path in self.paths(monkeypatch, "arm64", dot=True, i8mm=False)] == [True, False]

    def test_a_key_that_torch_lacks_is_unknown(self, monkeypatch):
        paths = self.paths(monkeypatch, "AMD64", avx2=True, avx512_bw=False, avx_vnni=False)
        assert {path.name: path.present for path in paths}["avx512_vnni"] is None
        assert isa.u8s8_saturates(paths) is None
        assert isa.u8s8_saturates(self.paths(monkeypatch, "AMD64", avx2=True, avx_vnni=True)) is False

    def test_older_torch_tells_nothing(self, monkeypatch):
        paths = self.paths(monkeypatch, "AMD64")
        assert {path.present for path in paths} == {None}
        assert "unknown" in isa.advice(paths)

    @NEEDS_TORCH_2_11
    def test_torch_uses_the_keys_of_the_table(self):
        """On whatever machine this runs, torch knows every key that this architecture's rows name."""
        rows = isa._PATHS.get(isa.architecture(), ())
        assert {key for _, _, key, _ in rows} <= set(isa.torch_capabilities())


@NEEDS_TORCH_2_11
def test_both_sources_agree_here():
    """On Linux the kernel's flags and torch's detection say the same of this very CPU."""
    capabilities = isa.torch_capabilities()
    rows = {name: key for name, _, key, _ in isa._PATHS.get(isa.architecture(), ())}
    for path in isa.int8_paths():
        assert path.present == bool(capabilities[rows[path.name]]), path.name

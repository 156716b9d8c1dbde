"""What a machine is, read from made-up /proc and /sys trees and from the real one."""

import importlib.metadata
import json
import os
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from quant import installation, machine, providers


def tree(root, **files):
    """Write files into `root`; "__" in a keyword stands for "/"."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class TestTurbo:
    @pytest.mark.parametrize(
        ("files", "turbo"),
        [
            ({}, None),
            ({"sys__devices__system__cpu__cpufreq__boost": "1\n"}, True),
            ({"sys__devices__system__cpu__cpufreq__boost": "0\n"}, False),
            ({"sys__devices__system__cpu__intel_pstate__no_turbo": "1\n"}, False),
            ({"sys__devices__system__cpu__intel_pstate__no_turbo": "0\n"}, True),
            ({"sys__devices__system__cpu__cpufreq__boost": "?\n"}, None),
        ],
    )
    def test_two_drivers_say_it(self, tmp_path, files, turbo):
        assert machine.describe(tree(tmp_path, **files)).cpu.turbo is turbo


class TestControlGroups:
    @pytest.mark.parametrize(
        ("files", "cores"),
        [
            ({}, None),
            ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu.max": "max 100000\n"}, None),
            ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu.max": "150000 100000\n"}, 1.5),
            ({"proc__self__cgroup": "0::/\n", "sys__fs__cpu.max": "150000 100000\n"}, None),
            (
                {
                    "proc__self__cgroup": "0::/outer/inner\n",
                    "sys__fs__cgroup__outer__cpu.max": "200000 100000\n",
                    "sys__fs__cgroup__outer__inner__cpu.max": "400000 100000\n",
                },
                2.0,
            ),
            ({"proc__self__cgroup": "0::/seen/outside/only\n", "sys__fs__cgroup__cpu.max": "50000 100000\n"}, 0.5),
            (
                {
                    "proc__self__cgroup": "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n",
                    "sys__fs__cgroup__cpu,cpuacct__docker__1__cpu.cfs_quota_us": "300000\n",
                    "sys__fs__cgroup__cpu,cpuacct__docker__1__cpu.cfs_period_us": "100000\n",
                },
                3.0,
            ),
            (
                {
                    "proc__self__cgroup": "2:cpu:/\n",
                    "sys__fs__cgroup__cpu__cpu.cfs_quota_us": "-1\n",
                    "sys__fs__cgroup__cpu__cpu.cfs_period_us": "100000\n",
                },
                None,
            ),
        ],
    )
    def test_cpu_quota(self, tmp_path, files, cores):
        assert machine.describe(tree(tmp_path, **files)).cpu.quota_cores == cores

    @pytest.mark.parametrize(
        ("files", "limit"),
        [
            ({}, None),
            ({"proc__self__cgroup": "0::/a\n", "sys__fs__cgroup__a__memory.max": "max\n"}, None),
            ({"proc__self__cgroup": "0::/a\n", "sys__fs__cgroup__a__memory.max": "1073741824\n"}, 1 << 30),
            (
                {
                    "proc__self__cgroup": "4:memory:/\n",
                    "sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n",
                },
                None,
            ),
        ],
    )
    def test_memory_limit(self, tmp_path, files, limit):
        assert machine.describe(tree(tmp_path, **files)).memory_limit_bytes == limit


class TestDescription:
    def test_names(self, tmp_path):
        described = machine.describe(
            tree(
                tmp_path,
                proc__cpuinfo="processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\n",
                sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="powersave\n",
                proc__driver__nvidia__gpus__0__information="Model: \t\t NVIDIA H200\nIRQ: 1\n",
            )
        )
        assert described.cpu.model == "Some CPU @ 2.00GHz"
        assert described.cpu.governor == "powersave"
        assert described.gpus == ("NVIDIA H200",)

    def test_boards_name_themselves(self, tmp_path):
        files = {
            "sys__firmware__devicetree__base__model": "Raspberry Pi 5 Model B\0",
            "proc__cpuinfo": "processor : 0\n",
        }
        assert machine.describe(tree(tmp_path, **files)).cpu.model == "Raspberry Pi 5 Model B"

    def test_what_is_not_there_is_none(self, tmp_path):
        described = machine.describe(tmp_path)
        assert described.cpu.model
        assert (described.cpu.governor, described.gpus, described.memory_limit_bytes) == (None, None, None)

    def test_this_machine(self):
        described = machine.describe()
        assert 0 < described.cpu.usable_cores <= described.cpu.cores
        assert described.versions["numpy"] == np.__version__
        assert described.versions["onnxruntime"] == onnxruntime.__version__
        assert json.loads(json.dumps(described.to_dict()))["cpu"]["model"] == described.cpu.model

    def test_missing_packages_have_no_version(self, monkeypatch):
        def version(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        versions = machine.describe().versions
        assert versions.pop("python")
        assert set(versions.values()) == {None}


class TestWarnings:
    @pytest.fixture
    def quiet(self):
        described = machine.describe()
        cpu = replace(described.cpu, allowed_cores=4, quota_cores=None, governor="performance")
        return replace(described, cpu=cpu, load_average=0.1)

    def test_quiet_machine_has_none(self, quiet):
        assert quiet.warnings() == []
        assert replace(quiet, load_average=None).warnings() == []

    def test_load(self, quiet):
        assert replace(quiet, load_average=1.9).warnings() == []
        assert "load average is 2.1 on 4 usable cores" in replace(quiet, load_average=2.1).warnings()[0]

    def test_quota_and_governor(self, quiet):
        slow = replace(quiet, cpu=replace(quiet.cpu, governor="powersave", quota_cores=1.5))
        assert slow.cpu.usable_cores == 1.5
        assert [word in line for word, line in zip(["powersave", "1.5 cores"], slow.warnings(), strict=True)] == [
            True,
            True,
        ]

    def test_platform_that_counts_nothing(self, monkeypatch):
        monkeypatch.delattr(os, "getloadavg")
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        monkeypatch.delattr(os, "sysconf")
        described = machine.describe()
        assert (described.load_average, described.cpu.allowed_cores, described.memory_bytes) == (None, None, None)
        assert described.cpu.usable_cores is described.cpu.quota_cores


class TestDoctor:
    def test_here(self):
        diagnosis = machine.doctor()
        states = {state.name: state for state in diagnosis.providers}
        assert states["CPUExecutionProvider"].loads
        assert list(states)[:3] == ["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
        assert all(state.loads or (state.reason and state.remedy) for state in states.values())
        assert diagnosis.problems == ()
        report = json.loads(json.dumps(diagnosis.to_dict()))
        assert report["schema"] == "netgauge.diagnosis/1"
        assert report["providers"][0] == {
            "name": "CPUExecutionProvider",
            "loads": True,
            "reason": None,
            "missing_library": None,
            "remedy": None,
        }

    def test_compiled_in_providers_are_tried(self, monkeypatch):
        tried = []

        def probe(name):
            tried.append(name)
            return providers.ProviderState(name, loads=True)

        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["DmlExecutionProvider", "CPUExecutionProvider"]
        )
        monkeypatch.setattr(providers, "probe", probe)
        machine.doctor()
        assert tried == ["CPUExecutionProvider", "DmlExecutionProvider"]

    def test_two_runtimes_are_a_problem(self, monkeypatch):
        monkeypatch.setattr(
            installation, "installed_distributions", lambda: {"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.31.0"}
        )
        diagnosis = machine.doctor()
        assert diagnosis.providers == ()
        assert "overwrite" in diagnosis.problems[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_peak_memory_grows_with_what_is_held():
    before = machine.peak_memory_bytes()
    held = np.ones(64 << 20, np.uint8)
    assert machine.peak_memory_bytes() >= max(before, held.nbytes)
    assert machine.peak_memory_bytes() < 1 << 40

"""Trying execution providers, and reading from their logs what they miss."""

import subprocess

import pytest

from quant import providers

LINUX = (
    "ProviderLibrary::Get() Failed to load library x.so with error: {}: cannot open shared object file: No such file\n"
)


class TestReal:
    def test_cpu_loads(self):
        assert providers.probe("CPUExecutionProvider") == providers.ProviderState("CPUExecutionProvider", loads=True)

    def test_provider_that_was_not_compiled_in_does_not(self):
        state = providers.probe("NopeExecutionProvider")
        assert not state.loads
        assert state.reason
        assert state.remedy


class TestDiagnosis:
    def test_missing_library(self):
        state = providers._diagnosed("CUDAExecutionProvider", LINUX.format("libcudnn.so.9"), returncode=0)
        assert (state.loads, state.missing_library, state.reason) == (
            False,
            "libcudnn.so.9",
            "libcudnn.so.9 is missing",
        )
        assert "onnxruntime-gpu[cuda,cudnn]" in state.remedy

    def test_crash(self):
        assert providers._diagnosed("CUDAExecutionProvider", "", returncode=-11).reason == "it crashes (signal 11)"

    def test_any_other_failure_is_told_in_its_own_words(self):
        log = "Traceback (most recent call last):\nRuntimeError: no such thing\n\n"
        state = providers._diagnosed("CUDAExecutionProvider", log, returncode=1)
        assert state.reason == "RuntimeError: no such thing"
        assert providers._diagnosed("CUDAExecutionProvider", "", returncode=0).reason == "it did not say why"

    @pytest.mark.parametrize(
        ("name", "ran", "log", "reason"),
        [
            ("CUDAExecutionProvider", "CUDAExecutionProvider", "", None),
            ("CUDAExecutionProvider", "CPUExecutionProvider", "", "it leaves a convolution to the CPU"),
            ("CUDAExecutionProvider", "CPUExecutionProvider", "cuDNN library was not found", "cuDNN is not found"),
            ("CUDAExecutionProvider", "", "", None),  # before 1.24 it is not told
            ("AzureExecutionProvider", "CPUExecutionProvider", "", None),
        ],
    )
    def test_loading_is_not_enough(self, monkeypatch, name, ran, log, reason):
        def says(command, **options):
            return subprocess.CompletedProcess(
                command, 0, f"{name} CPUExecutionProvider\n{ran}\n".encode(), log.encode()
            )

        monkeypatch.setattr(subprocess, "run", says)
        state = providers.probe(name)
        assert state.loads == (reason is None)
        assert (state.reason or "").startswith(reason or "")

    def test_no_answer(self, monkeypatch):
        def hangs(command, timeout, **options):
            raise subprocess.TimeoutExpired(command, timeout)

        monkeypatch.setattr(subprocess, "run", hangs)
        assert "no answer" in providers.probe("TensorrtExecutionProvider").reason

"""Trying execution providers, and reading from their logs what they miss."""

import subprocess

import pytest

from quant import providers

LINUX = (
    "[E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] /onnxruntime_src/onnxruntime/core/session/"
    "provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : "
    "FAIL : Failed to load library /venv/onnxruntime/capi/libonnxruntime_providers_cuda.so with error: {}: cannot open "
    "shared object file: No such file or directory\n"
)
PRELOAD = "Failed to load libcurand.so.10: libcurand.so.10: cannot open shared object file: No such file or directory\n"
WINDOWS = (
    '[ONNXRuntimeError] : 1 : FAIL : Error loading "C:\\venv\\onnxruntime_providers_cuda.dll" which depends on '
    '"cudnn64_9.dll" which is missing. (Error 126: "The specified module could not be found.")\n'
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
    @pytest.mark.parametrize(
        ("log", "library", "remedy"),
        [
            (PRELOAD + LINUX.format("libcublasLt.so.13"), "libcublasLt.so.13", "onnxruntime-gpu[cuda,cudnn]"),
            (LINUX.format("libcudnn.so.9"), "libcudnn.so.9", "onnxruntime-gpu[cuda,cudnn]"),
            (LINUX.format("libcuda.so.1"), "libcuda.so.1", "NVIDIA driver"),
            (LINUX.format("libnvinfer.so.10"), "libnvinfer.so.10", "TensorRT"),
            (LINUX.format("libsomething.so.2"), "libsomething.so.2", "https://onnxruntime.ai"),
            (WINDOWS, "cudnn64_9.dll", "onnxruntime-gpu[cuda,cudnn]"),
        ],
    )
    def test_missing_library(self, log, library, remedy):
        state = providers._diagnosed("CUDAExecutionProvider", log, returncode=0)
        assert (state.loads, state.missing_library, state.reason) == (False, library, f"{library} is missing")
        assert remedy in state.remedy

    def test_crash(self):
        assert providers._diagnosed("CUDAExecutionProvider", "", returncode=-11).reason == "it crashes (signal 11)"

    def test_any_other_failure_is_told_in_its_own_words(self):
        log = (
            "Traceback (most recent call last):\nRuntimeError: CUDA failure 100: no CUDA-capable device is detected\n\n"
        )
        state = providers._diagnosed("CUDAExecutionProvider", log, returncode=1)
        assert state.reason == "RuntimeError: CUDA failure 100: no CUDA-capable device is detected"
        assert providers._diagnosed("CUDAExecutionProvider", "", returncode=0).reason == "it did not say why"

    def test_no_answer(self, monkeypatch):
        def hangs(command, timeout, **options):
            raise subprocess.TimeoutExpired(command, timeout)

        monkeypatch.setattr(subprocess, "run", hangs)
        assert "no answer" in providers.probe("TensorrtExecutionProvider").reason

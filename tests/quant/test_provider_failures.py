"""What ONNX Runtime 1.22 to 1.31 and the loader were seen to write, and what is made of it."""

import pytest

from quant import _runtime_errors
from quant.provider_failures import diagnose

BRIDGE = (
    "2026-01-02 03:04:05.6 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] /onnxruntime_src/"
    "onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() "
    "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /venv/onnxruntime/capi/libonnxruntime_providers_{}.so "
    "with error: {}\n"
)
NOT_FOUND = "{}: cannot open shared object file: No such file or directory"
REQUIRE = (
    "2026-01-02 03:04:05.6 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295 CreateExecutionProviderFactory"
    "Instance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA {}.*. Please install all "
    "dependencies as mentioned in the GPU requirements page (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider"
    ".html#requirements), make sure they're in the PATH, and that your GPU is supported.\n"
)
PRELOAD = "Failed to load {0}: {0}: cannot open shared object file: No such file or directory\n"
CALL = (
    "RuntimeError: /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
    "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, "
    "const char*, int) [with ERRTYPE = cudaError; bool THRW = true] {} ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/"
    "onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice(info_.device_id); \n"
)
TENSORRT = (
    "RuntimeError: /onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install "
    "TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH or LD_LIBRARY_PATH, "
    "and that your GPU is supported.\n"
)


class TestMissingLibraries:
    @pytest.mark.parametrize(
        ("library", "reason", "remedy"),
        [
            ("libcudnn.so.9", "libcudnn.so.9 is missing (this ONNX Runtime needs CUDA 13 and cuDNN 9)", "[cuda,cudnn]"),
            ("libcudart.so.13", "libcudart.so.13 is missing (this ONNX Runtime needs CUDA 13", "[cuda,cudnn]"),
            ("libcuda.so.1", "libcuda.so.1 is missing", "NVIDIA driver"),
            ("libsomething.so.2", "libsomething.so.2 is missing", "https://onnxruntime.ai"),
        ],
    )
    def test_is_named_with_its_version(self, library, reason, remedy):
        found = diagnose(BRIDGE.format("cuda", NOT_FOUND.format(library)) + REQUIRE.format(13))
        assert found.library == library
        assert found.reason.startswith(reason)
        assert remedy in found.remedy

    def test_all_of_a_kind_are_named(self):
        libraries = ("libcublasLt.so.12", "libcublas.so.12", "libcurand.so.10")
        log = "".join(map(PRELOAD.format, libraries)) + BRIDGE.format("cuda", NOT_FOUND.format(libraries[0]))
        found = diagnose(log + REQUIRE.format(12))
        assert found.reason == f"{', '.join(libraries)} are missing (this ONNX Runtime needs CUDA 12 and cuDNN 9)"

    def test_those_that_another_thing_provides_are_not_listed_with_it(self):
        log = PRELOAD.format("libcurand.so.10") + BRIDGE.format("tensorrt", NOT_FOUND.format("libnvinfer.so.10"))
        found = diagnose(log + TENSORRT)
        assert found.reason == "libnvinfer.so.10 is missing"
        assert "tensorrt-cu13==10.*" in found.remedy
        assert "LD_LIBRARY_PATH" in found.remedy

    @pytest.mark.parametrize(
        "words", ['which depends on "cudnn64_9.dll" which is missing', 'N0Rc jWW0")n "cudnn64_9.dll" which is missing']
    )
    def test_windows_in_any_language(self, words):
        found = diagnose(f'FAIL : Error loading "C:\\venv\\onnxruntime_providers_cuda.dll" {words}. (Error 126: "...")')
        assert (found.library, found.reason) == ("cudnn64_9.dll", "cudnn64_9.dll is missing")

    def test_windows_before_it_told_which(self):
        log = 'FAIL : LoadLibrary failed with error 126 "" when trying to load "C:\\x\\onnxruntime_providers_cuda.dll"'
        found = diagnose(log)
        assert found.reason == "a library that onnxruntime_providers_cuda.dll needs is missing"
        assert "PATH" in found.remedy

    def test_macos(self):
        log = BRIDGE.format("x", "dlopen(/venv/libx.dylib, 0x0009): Library not loaded: @rpath/libother.1.dylib\n  Why")
        assert diagnose(log).library == "@rpath/libother.1.dylib"

    def test_tensorrt_without_a_name(self):
        found = diagnose(TENSORRT)
        assert found.reason == "TensorRT's libraries are not found"
        assert "tensorrt-cu13" in found.remedy


class TestFailures:
    @pytest.mark.parametrize(
        ("text", "reason", "remedy"),
        [
            ("CUDA failure 100: no CUDA-capable device is detected", "no CUDA-capable GPU is there", "nvidia-smi"),
            ("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version", "too old", "Update"),
            ("CUDA failure 101: invalid device ordinal", "no GPU of that number", "CUDA_VISIBLE_DEVICES"),
            ("CUDA failure 3: initialization error", "CUDA failure 3: initialization error", "nvidia_uvm"),
            ("CUDA failure 999: unknown error", "CUDA failure 999: unknown error", "nvidia_uvm"),
            ("CUDA failure 802: system not yet initialized", "CUDA failure 802", "fabricmanager"),
            ("CUDA failure 803: system has unsupported display driver / cuda driver combination", "803", "restart"),
            ("CUDA failure 804: forward compatibility was attempted on non supported HW", "804", "cuda-compat"),
            ("CUDA failure 209: no kernel image is available for execution on the device", "no code for", "older GPUs"),
            ("CUDA failure 222: the provided PTX was compiled with an unsupported toolchain.", "222", "Update"),
            ("CUDA failure 2: out of memory", "CUDA failure 2: out of memory", "smaller batch"),
            ("CUDA failure 700: an illegal memory access was encountered", "CUDA failure 700", "onnxruntime.ai"),
            ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "smaller batch"),
            ("CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED", "cuDNN does not start", "memory is full"),
            ("CUDNN failure 1003: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH", "two versions", "install them anew"),
        ],
    )
    def test_of_a_call(self, text, reason, remedy):
        found = diagnose(CALL.format(text))
        assert reason in found.reason
        assert remedy in found.remedy
        assert "hostname" not in found.reason
        assert "onnxruntime_src" not in found.reason
        assert found.library is None

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (
                BRIDGE.format("cuda", "/v/libonnxruntime_providers_cuda.so: undefined symbol: cuTensorMapEncodeTiled"),
                "the NVIDIA driver is too old: it lacks cuTensorMapEncodeTiled",
            ),
            (
                BRIDGE.format("cuda", "/v/libcudnn_cnn.so.9: undefined symbol: cudnnGetLibConfig"),
                "libcudnn_cnn.so.9 lacks the function cudnnGetLibConfig",
            ),
            (
                BRIDGE.format("cuda", "/lib/libc.so.6: version `GLIBC_2.28' not found (required by /v/x.so)"),
                "the system's C library is too old: GLIBC_2.28 is needed",
            ),
            (
                "cuDNN is unavailable for CUDA Execution Provider: cuDNN library was not found",
                "cuDNN is not found, and convolutions need it",
            ),
            (
                "TensorRT EP failed to create engine from network for fused node: TRTKernel_graph_1",
                "TensorRT EP failed to create engine from network for fused node: TRTKernel_graph_1",
            ),
        ],
    )
    def test_of_another_kind(self, text, reason):
        assert diagnose(text).reason == reason

    def test_what_is_not_known_is_left_alone(self):
        assert (
            diagnose("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Foo(1)") is None
        )
        assert diagnose("") is None

    def test_a_run_on_the_cpu_has_no_gpu_to_blame(self):
        error = RuntimeError("Failed to allocate memory for requested buffer of size 10")
        assert "GPU" not in _runtime_errors.reason(error)
        assert "GPU" in _runtime_errors.reason(error, gpu=True)

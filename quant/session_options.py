"""The options that every session has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from onnxruntime import SessionOptions

# It crashes ONNX Runtime 1.31 where a node that another optimizer has made, such as FusedMatMul, has a float16 weight
# and runs on the CPU. Constant folding does the same work; nothing but float16 files is concerned.
WITHOUT = "FuseFp16InitializerToFp32NodeTransformer"

_FATAL_ONLY = 4  # log severity: what matters arrives as an exception


def session_options(ort: ModuleType, threads: int) -> SessionOptions:
    """Options for one session.

    Args:
        ort: the module `onnxruntime`.
        threads: that one operator may use; operators run one after the other, and no thread spins while it waits.
    """
    ort.set_default_logger_severity(_FATAL_ONLY)  # of what no session owns: the loading of providers
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("optimization.disable_specified_optimizers", WITHOUT)
    options.add_session_config_entry("session.load_model_format", "ONNX")  # else a name in .ort means another format
    return options

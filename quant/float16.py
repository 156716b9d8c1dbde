"""The pipeline's float16 arm: the float model in half precision, judged and timed as the int8 one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.errors import DataError, ModelError
from quant.half import to_float16
from quant.inference import feeds
from quant.result import Float16

if TYPE_CHECKING:
    import onnx_ir as ir

    from quant.data import Samples
    from quant.judge import Judge
    from quant.select import Bench

LOOKED_AT = 32  # samples, to see which values would overflow
BATCH = 4


def half_arm(
    original: ir.Model, samples: Samples, bench: Bench, judge: Judge, seconds: float, *, fp16: bool | None
) -> tuple[Float16 | None, list[str]]:
    """Make a float16 file and measure it.

    Args:
        original: the float graph, prepared.
        samples: calibration samples.
        bench: what it is timed against and on.
        judge: what it is judged by.
        seconds: most time for the timing.
        fp16: whether to; None does so where the device is not the CPU, which has few kernels for it.

    Returns:
        The measured model, or None and a note where it is not wanted or cannot be had.
    """
    run = bench.run
    if not (run.device != "cpu" if fp16 is None else fp16):
        return None, []
    few = samples.take(range(min(LOOKED_AT, len(samples))))
    with run.stage("float16", "brought the float model to float16, judged and timed it") as stage:
        try:
            half = to_float16(
                original, lambda: (feed for feed, _ in feeds(bench.reference, few, batch=BATCH)), threads=run.threads
            )
            comparison = judge.compared(half.file)
        except (ModelError, DataError) as error:
            stage.kept = False
            return None, [f"no float16 model: {str(error).splitlines()[0]}"]
        latency = bench.against_float(half.file, seconds)
        stage.details = {"kept_float32": len(half.kept)}
    return Float16(comparison, latency, len(half.file), half.kept, half.file), []

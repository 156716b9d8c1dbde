"""A session that is run with its inputs and outputs on the device, as a program that cares for speed would run it.

A plain `run` copies every input to the GPU and every output back, which for a small network takes longer than the
network. Here the inputs are on the device before anything is timed and the outputs stay there; what the two transfers
take is measured apart. The provider's own waiting is switched off, and one run ends when the device has finished, as
`onnxruntime_perf_test` does it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from quant import _runtime_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    Feed = Mapping[str, np.ndarray]

_NO_SYNC = ("disable_synchronize_execution_providers", "1")
_DEVICE = 0  # the only one a session is opened on
_COPIES = 30
_TENSOR = "tensor("
_ON_HOST = "tensor(string)"


@dataclass(frozen=True)
class Transfers:
    """What is not in a bound session's times: a run's copies (medians, milliseconds) and their sizes (bytes)."""

    host_to_device_ms: float
    device_to_host_ms: float
    input_bytes: int
    output_bytes: int

    def to_dict(self) -> dict[str, float | int]:
        """The same, ready for JSON."""
        return asdict(self)


class Bound:
    """Runs a session on inputs that lie on the device. Call it with a number to run input `number` modulo their count.

    Args:
        session: `onnxruntime.InferenceSession`.
        ort: the module `onnxruntime`.
        feeds: the inputs, each a mapping from name to array; all of them stay on the device.
        memory: where: "cuda" or "cpu".
        explained: gives the error to raise where a run on a feed fails.

    Raises:
        DataError: an input does not fit the model.
        ModelError: the model failed on inputs that fit, the device's memory is full, or an input is of strings, which
            ONNX Runtime cannot bind.
    """

    def __init__(
        self,
        session: Any,  # noqa: ANN401  # see above
        ort: ModuleType,
        feeds: Sequence[Feed],
        memory: str,
        explained: Callable[[Exception, Feed], Exception],
    ) -> None:
        self._session, self._explained = session, explained
        self._options = ort.RunOptions()
        self._options.add_run_config_entry(*_NO_SYNC)
        self._outputs = [(value.name, memory if _on_device(value.type) else "cpu") for value in session.get_outputs()]
        # Contiguous, in this order's memory: ONNX Runtime may keep a pointer to it.
        self._feeds = [{name: np.asarray(array, order="C") for name, array in feed.items()} for feed in feeds]
        self._values: list[dict[str, Any]] = []
        self._bindings = [self._binding(ort, feed, memory) for feed in self._feeds]

    def __call__(self, index: int) -> None:
        """Run the model on one input and wait until the device has finished."""
        binding = self._bindings[index % len(self._bindings)]
        try:
            self._session.run_with_iobinding(binding, self._options)
            binding.synchronize_outputs()
        except _runtime_errors.exceptions() as error:
            raise self._explained(error, self._feeds[index % len(self._feeds)]) from error

    def outputs(self, index: int) -> list[np.ndarray]:
        """Run the model on one input and copy its outputs to the host, in the model's order."""
        self(index)
        outputs: list[np.ndarray] = self._bindings[index % len(self._bindings)].copy_outputs_to_cpu()
        return outputs

    def transfers(self) -> Transfers:
        """Time the copies of inputs to the device and of outputs to the host, each apart from any run."""
        up, down, sent, received = [], [], [], []
        for number in range(_COPIES):
            index = number % len(self._feeds)
            feed, values = self._feeds[index], self._values[index]
            self(index)
            began = time.perf_counter_ns()
            for name, value in values.items():
                value.update_inplace(feed[name])
            sent_at = time.perf_counter_ns()
            outputs = self._bindings[index].copy_outputs_to_cpu()
            down.append(time.perf_counter_ns() - sent_at)
            up.append(sent_at - began)
            sent.append(sum(feed[name].nbytes for name in values))
            received.append(sum(output.nbytes for output in outputs if isinstance(output, np.ndarray)))
        return Transfers(1e-6 * median(up), 1e-6 * median(down), int(median(sent)), int(median(received)))

    def _binding(self, ort: ModuleType, feed: Feed, memory: str) -> Any:  # noqa: ANN401  # onnxruntime.IOBinding
        """One binding for each input: then nothing is bound while time runs, and outputs find their memory again."""
        binding = self._session.io_binding()
        values: dict[str, Any] = {}
        try:
            for name, array in feed.items():
                values[name] = ort.OrtValue.ortvalue_from_numpy(array, memory, _DEVICE)
                binding.bind_ortvalue_input(name, values[name])
            for name, where in self._outputs:
                binding.bind_output(name, where, _DEVICE)
            binding.synchronize_inputs()
        except _runtime_errors.exceptions() as error:
            raise self._explained(error, feed) from error
        self._values.append(values)
        return binding


def _on_device(kind: str) -> bool:
    return kind.startswith(_TENSOR) and kind != _ON_HOST  # sequences, maps and strings stay on the host

"""What the GPU suite needs: a provider that loads, or the reason why it does not."""

from functools import cache

import pytest

from profiler.errors import UnavailableError
from quant.devices import DEVICES
from quant.installation import provider_state


@cache
def missing(device):
    """Why the device cannot be used here, None where it can."""
    try:
        state = provider_state(DEVICES[device][0])
    except UnavailableError as error:
        return str(error)
    return None if state.loads else f"{state.name}: {state.reason}"


@pytest.fixture
def cuda():
    """CUDA must load: this suite is asked for by its marker, and passing without a GPU would say nothing."""
    if reason := missing("cuda"):
        pytest.fail(reason, pytrace=False)
    return "cuda"


@pytest.fixture
def tensorrt(cuda, monkeypatch, tmp_path):
    """TensorRT is an installation of its own; without it these tests say why they did not run."""
    if reason := missing("tensorrt"):
        pytest.skip(reason)
    monkeypatch.setenv("NETGAUGE_CACHE", str(tmp_path))
    return "tensorrt"

"""Traces written by hand, whole and damaged, and what is read out of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ModelError
from quant.latency.central import central
from quant.latency.nodes import _unnumbered
from quant.latency.trace import NodeKey, read_trace


def node(name, ts, dur, op="Conv", inputs=2, outputs=1, **changes):
    shapes = {"input_type_shape": [{"float": [1]}] * inputs, "output_type_shape": [{"float": [1]}] * outputs}
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op, **shapes}, **changes
    }  # fmt: skip


def ends(ts, dur):
    """What ends a run: the executor's event, then the run's."""
    return [
        {"cat": "Session", "name": "SequentialExecutor::Execute", "ts": ts, "dur": dur, "args": {}},
        {"cat": "Session", "name": "model_run", "ts": ts - 1, "dur": dur + 2, "args": {}},
    ]


def run(at, times=(10, 4)):
    first, second = times
    return [node("a", at + 1, first), node("b", at + first + 4, second, op="Relu", inputs=1), *ends(at, sum(times) + 9)]


def test_runs_are_told_apart():
    loading = {"cat": "Session", "name": "model_loading_uri", "ts": 0, "dur": 900, "args": {}}
    trace = read_trace([loading, *run(100), *run(200, (12, 5)), *run(300)])
    assert trace.nodes == (NodeKey("a", "Conv", 2, 1), NodeKey("b", "Relu", 1, 1))
    assert trace.durations.tolist() == [[10, 4], [12, 5], [10, 4]]
    assert trace.lengths.tolist() == [23, 26, 23]
    assert trace.gaps.tolist() == [[3, 5], [3, 5], [3, 5]]
    assert trace.without(2).durations.tolist() == [[10, 4]]


def test_nodes_inside_control_flow_belong_to_it():
    inner = [node("inside", 113, 3), *ends(112, 6)[:1]]
    events = [node("before", 105, 6), *inner, node("branch", 111, 9, op="If"), node("after", 125, 2), *ends(100, 40)]
    trace = read_trace(events)
    assert [key.name for key in trace.nodes] == ["before", "branch", "after"]
    assert trace.lengths.tolist() == [40]


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"name": 3, "ts": 1, "dur": 1},
        {"cat": "Node", "name": "x_kernel_time", "ts": "soon", "dur": 1},
        {"cat": "Node", "name": "x_kernel_time", "ts": 1, "dur": -4},
        {"cat": "Node", "name": "x_kernel_time", "ts": 1, "dur": True},
        {"cat": "Kernel", "name": "x_kernel_time", "ts": 1, "dur": 1},
        {"cat": "Node", "name": "x_fence_before", "ts": 1, "dur": 1},
    ],
)
def test_events_that_make_no_sense_are_left_out(damaged):
    trace = read_trace([*run(100), damaged, *run(200)])
    assert trace.durations.shape == (2, 2)


def test_a_node_without_arguments_is_read():
    trace = read_trace([node("a", 101, 1, args=None), *ends(100, 5)])
    assert trace.nodes == (NodeKey("a", "", 1, 1),)


def test_a_run_that_lost_an_event_is_left_out():
    trace = read_trace([*run(100), *run(200)[1:], *run(300), node("a", 401, 10)])
    assert len(trace.lengths) == 2
    assert trace.starts[:, 0].tolist() == [101, 301]


def test_no_run_at_all():
    with pytest.raises(ModelError, match=r"net\.onnx: .*no complete run"):
        read_trace([node("a", 1, 1)], "net.onnx")


def test_added_nodes_are_the_same_whatever_their_number():
    """As seen in two sessions of one MobileNet: ONNX Runtime numbers what it adds differently each time."""
    first, second = ([NodeKey(name, "ReorderOutput", 1, 1)] for name in ("ReorderOutput_token_167", "ReorderOutput"))
    assert _unnumbered(first) == _unnumbered(second)
    assert _unnumbered(first) != _unnumbered([NodeKey("ReorderInput", "ReorderInput", 1, 1)])


class TestCentral:
    def test_ticks_average_out(self):
        """A step of 4.3 at random phases of the clock is seen as 4 or 5; the mean is 4.3."""
        begins = np.random.default_rng(0).uniform(0, 1000, 20_000)
        seen = np.floor(begins + 4.3) - np.floor(begins)
        assert np.median(seen) == 4
        assert central(seen[:, None])[0] == pytest.approx(4.3, abs=0.02)

    def test_interruptions_are_left_out(self):
        values = np.full((100, 1), 50.0)
        values[::3] = 900.0
        assert central(values)[0] == 50.0

    @given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30))
    def test_it_lies_among_the_values(self, values):
        found = central(np.array(values, np.float64))
        assert min(values) <= found <= max(values)
        assert abs(found - np.median(values)) <= max(2.0, 0.15 * np.median(values))

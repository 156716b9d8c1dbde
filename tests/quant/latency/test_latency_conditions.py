"""Cores, what others do on them, and whether two models answer alike."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from onnx import TensorProto, helper

from profiler.errors import DataError, ModelError, UnavailableError, UsageError
from quant.latency import affinity, conditions
from quant.latency.affinity import allowed_cores, cores_of, pinned
from quant.latency.closeness import check_outputs
from quant.latency.conditions import Conditions, watched
from quant.runtime import open_session

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux alone")


class TestCores:
    @pytest.mark.parametrize(
        ("text", "cores"), [("0", (0,)), ("3,1", (1, 3)), ("0-2", (0, 1, 2)), ("5, 1-2,2", (1, 2, 5))]
    )
    def test_lists(self, text, cores):
        assert cores_of(text) == cores

    @pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "0-99999999", "1.5", "0x1"])
    def test_no_lists(self, text):
        with pytest.raises(UsageError, match="no list of cores"):
            cores_of(text)

    @linux
    def test_the_process_and_its_children_stay_there(self):
        before = allowed_cores()
        code = "import os; print(*os.sched_getaffinity(0))"
        with pinned([before[-1]]):
            assert allowed_cores() == (before[-1],)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            assert done.stdout.split() == [str(before[-1])]
        assert allowed_cores() == before

    @linux
    def test_free_again_after_a_failure(self):
        before = allowed_cores()
        with pytest.raises(RuntimeError), pinned([before[0]]):
            raise RuntimeError
        assert allowed_cores() == before

    def test_none_changes_nothing(self):
        before = allowed_cores()
        with pinned(None):
            assert allowed_cores() == before

    @linux
    @pytest.mark.parametrize("cores", [[4095], []])
    def test_cores_that_are_not_there(self, cores):
        with pytest.raises(UsageError, match="this process may use"), pinned(cores):
            pass

    def test_systems_without(self, monkeypatch):
        monkeypatch.setattr(affinity, "allowed_cores", lambda: None)
        with pytest.raises(UnavailableError, match="leave the affinity out"), pinned([0]):
            pass


def stat(tmp_path, *fields):
    file = tmp_path / "stat"
    file.write_text("cpu  " + " ".join(map(str, fields)) + "\ncpu0 1 1 1 1\n")
    return file


class TestConditions:
    def test_time_of_others_is_what_is_not_ours(self, tmp_path, monkeypatch):
        ticks = os.sysconf("SC_CLK_TCK")
        times = {"perf_counter": 100.0, "process_time": 7.0}
        monkeypatch.setattr(conditions.time, "perf_counter", lambda: times["perf_counter"])
        monkeypatch.setattr(conditions.time, "process_time", lambda: times["process_time"])
        file = stat(tmp_path, 10, 0, 0, 999, 0, 0, 0, 0, 0, 0)
        with watched(file) as seen:
            times.update(perf_counter=104.0, process_time=10.0)
            # 9 s of user, nice, system, interrupts and stolen time went by; idle, waiting and guests do not count.
            stat(tmp_path, *(10 + 2 * ticks, ticks, ticks, 5000, 77, ticks, ticks, 3 * ticks, 50, 50))
        assert seen[0].other_cores == pytest.approx((9.0 - 3.0) / 4.0)

    def test_too_short_to_tell(self, tmp_path):
        with watched(stat(tmp_path, *range(10))) as seen:
            pass
        assert seen[0].other_cores is None
        assert seen[0].warnings() == []

    @pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e f g h\n"])
    def test_other_systems(self, tmp_path, text, monkeypatch):
        file = tmp_path / "stat"
        file.write_text(text)
        for place in (file, tmp_path / "missing"):
            with watched(place) as seen:
                time.sleep(0.21)
            assert seen[0].other_cores is None

    @pytest.mark.parametrize(("others", "said"), [(0.9, 0), (1.0, 1), (None, 0)])
    def test_half_of_the_cores_are_worth_a_word(self, others, said):
        lines = Conditions(0.5, 0.6, others, 2, 3).warnings()
        assert len(lines) == said
        assert all("1.0 of 2 cores" in line for line in lines)

    @linux
    def test_a_busy_neighbour_is_seen(self):
        code = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
        with subprocess.Popen([sys.executable, "-c", code]) as neighbour:
            time.sleep(0.2)
            with watched() as seen:
                time.sleep(0.6)
            neighbour.kill()
        assert seen[0].other_cores > 0.05


def graph(*nodes, outputs=("y",), constants=()):
    made = [helper.make_node(op, reads.split(), writes.split()) for op, reads, writes in nodes]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3))
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    built = helper.make_graph(made, "g", [x], values, list(constants))
    opset = [helper.make_opsetid("", 17)]
    return open_session(helper.make_model(built, opset_imports=opset, ir_version=8).SerializeToString())


FLOAT = TensorProto.FLOAT
PLAIN = (("Identity", "x", "y"),)
FEEDS = [{"x": np.array([[1.0, 2.0, 3.0]], np.float32)}, {"x": np.array([[-4.0, 0.0, 0.5]], np.float32)}]


class TestCloseness:
    def check(self, a, b):
        return check_outputs(a, b, FEEDS, FEEDS)

    def test_alike(self):
        found = self.check(graph(*PLAIN, outputs=[("y", FLOAT)]), graph(*PLAIN, outputs=[("y", FLOAT)]))
        assert (found.relative_error, found.max_error, found.warnings()) == (0.0, 0.0, [])

    def test_apart_is_the_norm_of_the_difference_over_all_inputs(self):
        found = self.check(graph(*PLAIN, outputs=[("y", FLOAT)]), graph(("Relu", "x", "y"), outputs=[("y", FLOAT)]))
        whole = np.concatenate([feed["x"].ravel() for feed in FEEDS]).astype(float)
        assert found.relative_error == pytest.approx(np.linalg.norm(whole.clip(max=0)) / np.linalg.norm(whole))
        assert found.max_error == 4.0
        assert len(found.warnings()) == 1
        assert "may not compute the same thing" in found.warnings()[0]

    def test_close_enough_is_no_word_worth(self):
        tenth = helper.make_tensor("t", FLOAT, [1], [1.1])
        other = graph(("Mul", "x t", "y"), outputs=[("y", FLOAT)], constants=[tenth])
        found = self.check(graph(*PLAIN, outputs=[("y", FLOAT)]), other)
        assert found.relative_error == pytest.approx(0.1, rel=1e-5)
        assert found.warnings() == []

    @pytest.mark.parametrize(
        ("nodes", "outputs"),
        [
            ((("Transpose", "x", "y"),), [("y", FLOAT)]),
            ((("Identity", "x", "y"), ("Identity", "x", "z")), [("y", FLOAT), ("z", FLOAT)]),
        ],
    )
    def test_other_shapes_and_numbers(self, nodes, outputs):
        found = self.check(graph(*PLAIN, outputs=[("y", FLOAT)]), graph(*nodes, outputs=outputs))
        assert found.relative_error is None
        assert found.warnings() == ["the two models' outputs differ in number or shape, first on input 0"]

    def test_outputs_without_floats_cannot_be_compared(self):
        models = [graph(("Shape", "x", "y"), outputs=[("y", TensorProto.INT64)]) for _ in range(2)]
        found = self.check(*models)
        assert (found.relative_error, found.warnings()) == (None, [])

    def test_nothing_against_something(self):
        zero = helper.make_tensor("t", FLOAT, [1], [0.0])
        nothing = graph(("Mul", "x t", "y"), outputs=[("y", FLOAT)], constants=[zero])
        assert self.check(nothing, nothing).relative_error == 0.0
        assert self.check(nothing, graph(*PLAIN, outputs=[("y", FLOAT)])).relative_error == np.inf

    def test_one_without_finite_outputs(self):
        log = graph(("Log", "x", "y"), outputs=[("y", FLOAT)])
        plain = graph(*PLAIN, outputs=[("y", FLOAT)])
        for pair in ((log, plain), (plain, log)):
            with pytest.raises(ModelError, match="infinite or undefined outputs on input 1"):
                self.check(*pair)
        assert "first on input 1" in self.check(log, log).warnings()[0]

    def test_a_hint_goes_with_the_first_models_errors(self):
        plain = graph(*PLAIN, outputs=[("y", FLOAT)])
        wrong = [{"x": np.zeros((1, 4), np.float32)}]
        with pytest.raises(DataError, match="do this"):
            check_outputs(plain, plain, wrong, wrong, hint="\ndo this")
        with pytest.raises(DataError, match=r"got \(1, 4\)$"):
            check_outputs(plain, plain, FEEDS[:1], wrong, hint="\ndo this")

"""Cold starts, memory, batch sizes, and the report of all of it."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from cli import cli
from profiler.errors import ModelError, UsageError
from quant.latency import fresh
from quant.latency.compare import SESSIONS, compare_latency
from quant.latency.fresh import Fresh, fresh_starts
from quant.latency.sweep import sweep
from quant.runtime import open_session

MIB = 1 << 20


def dense(width, *, batch="N", outside=None):
    """x -> x @ w, with a weight of width x width."""
    weight = numpy_helper.from_array(np.full((width, width), 1 / width, np.float32), "w")
    if outside is not None:
        outside.write_bytes(weight.raw_data)
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=outside.name)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, width)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "dense", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


class TestFresh:
    def test_times_and_memory_of_both(self, tmp_path):
        large = tmp_path / "large.onnx"
        large.write_bytes(dense(2048, outside=tmp_path / "weights.bin"))
        small = fresh_starts((dense(8), dense(8)), [np.ones((1, 8), np.float32)], repeats=1)[0]
        big = fresh_starts((large, large), [np.ones((1, 2048), np.float32)], repeats=1)[1]
        for model in (small, big):
            times = (*model.import_seconds, *model.load_seconds, *model.first_seconds)
            assert len(times) == 3
            assert min(times) > 0
        if small.memory() is None:
            pytest.skip("this system does not tell a process's memory")
        # The weight has 16 MiB; before the load, neither differs from the other.
        assert small.memory()["peak_bytes"] < 16 * MIB <= big.memory()["peak_bytes"]
        assert big.memory()["load_bytes"] <= big.memory()["peak_bytes"]
        assert abs(big.memory()["base_bytes"] - small.memory()["base_bytes"]) < 16 * MIB

    def test_models_take_turns(self, monkeypatch):
        ran = []

        def started(task):
            ran.append(task["path"].rsplit("/", 1)[1])
            return {"import_seconds": 1.0, "load_seconds": len(ran), "first_seconds": 0.5}

        monkeypatch.setattr(fresh, "_started", started)
        first, second = fresh_starts((dense(2), dense(4)), [np.ones((1, 2), np.float32)], repeats=3)
        assert ran == [f"{k}.onnx" for k in (0, 1, 1, 0, 0, 1)]
        assert (first.load_seconds, second.load_seconds) == ((1, 4, 5), (2, 3, 6))
        assert first.memory() is None
        assert first.cold()["load_ms"] == {"median": 4000.0, "min": 1000.0, "max": 5000.0}

    def test_the_time_limit_leaves_one_of_each(self, monkeypatch):
        times = {"import_seconds": 1.0, "load_seconds": 1.0, "first_seconds": 1.0}
        monkeypatch.setattr(fresh, "_started", lambda _task: times)
        for model in fresh_starts((dense(2), dense(2)), [np.ones((1, 2), np.float32)], seconds=0.0):
            assert model.cold()["processes"] == 1

    def test_failures_name_the_model(self, tmp_path):
        path = tmp_path / "dense.onnx"
        path.write_bytes(dense(2))
        with pytest.raises(ModelError, match=r"in a fresh process: .*0\.onnx|dense\.onnx.*expected shape"):
            fresh_starts((path, path), [np.ones((1, 3), np.float32)], repeats=1)

    def test_a_process_that_dies(self, tmp_path, monkeypatch):
        path = tmp_path / "dense.onnx"
        path.write_bytes(dense(2))
        monkeypatch.setattr(fresh, "_START", "import os; os.kill(os.getpid(), 9)")
        with pytest.raises(ModelError, match=r"dense\.onnx: fails in a fresh process: signal 9; --no-cold"):
            fresh_starts((path, path), [np.ones((1, 2), np.float32)], repeats=1)
        monkeypatch.setattr(fresh, "_START", "raise SystemExit('no such thing')")
        with pytest.raises(ModelError, match="no such thing"):
            fresh_starts((path, path), [np.ones((1, 2), np.float32)], repeats=1)

    def test_medians_over_processes(self):
        model = Fresh((1.0, 2.0, 9.0), (0.1, 0.2, 0.4), (0.5, 0.5, 0.5), (10, 20, 60), (1, 2, 3), (4, 6, 5))
        assert model.cold()["import_ms"] == {"median": 2000.0, "min": 1000.0, "max": 9000.0}
        assert model.memory() == {
            "base_bytes": 20,
            "load_bytes": 2,
            "peak_bytes": 5,
            "min_peak_bytes": 4,
            "max_peak_bytes": 6,
        }


class TestSweep:
    def test_sizes_and_rates(self):
        rows = sweep(dense(16), dense(16), (1, 4), seconds=0.6)
        assert [row.batch for row in rows] == [1, 4]
        for row in rows:
            report = row.to_dict(("a", "b"))
            assert report["a_samples_per_second"] == pytest.approx(1e3 * row.batch / report["a_ms"])
            assert report["b_samples_per_second"] == pytest.approx(1e3 * row.batch / report["b_ms"])
            assert report["a_interval_ms"][0] <= report["a_ms"] <= report["a_interval_ms"][1]
            assert report["interval"][0] <= report["interval"][1]

    def test_batches_are_made_of_the_samples_given(self, monkeypatch):
        seen = []

        class Spy:
            """A session that keeps what it is given."""

            def __init__(self, session):
                self.session = session

            def __getattr__(self, name):
                return getattr(self.session, name)

            def run(self, feed):
                seen.append(feed["x"][:, 0].tolist())
                return self.session.run(feed)

        monkeypatch.setattr("quant.latency.compare.open_session", lambda *a, **k: Spy(open_session(*a, **k)))
        singles = [{"x": np.full((1, 2), k, np.float32)} for k in range(3)]
        rows = sweep(dense(2), dense(2), (2,), inputs=singles, seconds=0.2)
        assert rows[0].latency.settings["random_inputs"] is False
        assert seen[:8:2] == [[0, 1], [2, 0], [1, 2], [0, 1]]  # both models are checked on each of them first
        assert len({tuple(batch) for batch in seen}) == 3

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_fixed_batch_is_left_out_with_the_reason(self, order):
        rows = sweep(*[dense(4), dense(4, batch=2)][::order], (1, 2), seconds=0.4)
        assert rows[0].latency is None
        assert rows[0].to_dict(("a", "b")) == {"batch": 1, "left_out": "model: input 'x' is fixed to a batch of 2"}
        assert rows[1].latency is not None

    def test_a_batch_that_fails_is_left_out(self):
        """The model reshapes to one row, which no larger batch has."""
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 2)) for name in ("x", "y")]
        shape = helper.make_tensor("s", TensorProto.INT64, [2], [1, 2])
        graph = helper.make_graph([helper.make_node("Reshape", ["x", "s"], ["y"])], "g", ends[:1], ends[1:], [shape])
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        rows = sweep(model, model, (1, 3), seconds=0.4)
        assert rows[0].latency is not None
        assert "fails while running" in rows[1].why

    @pytest.mark.parametrize("batches", [(0,), (1, -3)])
    def test_sizes_below_one(self, batches):
        with pytest.raises(UsageError, match="at least one sample"):
            sweep(dense(2), dense(2), batches, seconds=0.2)


class TestSessions:
    def test_files_are_loaded_several_times(self):
        found = compare_latency(dense(4), dense(4), seconds=0.2)
        assert found.sessions == SESSIONS

    def test_open_sessions_are_used_as_they_are(self):
        found = compare_latency(open_session(dense(4)), dense(4), seconds=0.2)
        assert found.sessions == 1
        assert found.noise_floor.fraction >= 0.02

    def test_a_model_that_takes_long_to_load_is_loaded_once(self, monkeypatch):
        monkeypatch.setattr("quant.latency.compare._OPENING_SECONDS", 0.0)
        assert compare_latency(dense(4), dense(4), seconds=0.2).sessions == 1

    def test_a_model_that_takes_much_memory_is_loaded_once(self, monkeypatch):
        monkeypatch.setattr("quant.latency.compare.available_memory", lambda: MIB)
        assert compare_latency(dense(4), dense(4), seconds=0.2).sessions == 1


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / f"{name}.onnx").write_bytes(dense(16))
        return [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]

    def run(self, *arguments):
        return CliRunner().invoke(cli, ["compare", *arguments])

    def test_all_of_it(self, files, tmp_path):
        report = tmp_path / "report.json"
        options = ["--seconds", "0.6", "--batches", "1,2", "--samples", "--report", str(report)]
        done = self.run(*files, *options)
        assert done.exit_code == 0, done.output
        words = ("latency", "speed-up", "cold      a: import", "cold      b: import", "batch", "session(s)")
        for word in (*words, "a against itself", "none removed"):
            assert word in done.output
        latency = json.loads(report.read_text())["latency"]
        assert {"a_ms", "b_ms", "speedup", "interval", "verdict", "threads", "device"} <= set(latency)
        assert set(latency["cold"]) == {"a", "b"}
        assert latency["cold"]["a"]["processes"] >= 1
        assert [row["batch"] for row in latency["batches"]] == [1, 2]
        assert len(latency["arms"]["a"]["samples_ms"]) == latency["pairs"]
        assert latency["outputs"]["relative_error"] == 0.0
        assert latency["sessions"]["count"] == SESSIONS
        assert latency["session"]["affinity_asked"] is False

    def test_less_of_it(self, files, tmp_path):
        report = tmp_path / "report.json"
        done = self.run(*files, "--seconds", "0.2", "--no-cold", "--report", str(report))
        assert done.exit_code == 0, done.output
        assert "cold" not in done.output
        latency = json.loads(report.read_text())["latency"]
        assert (latency["cold"], latency["memory"], latency["batches"]) == (None, None, [])
        assert "samples_ms" not in latency["arms"]["a"]

    def test_cores(self, files, tmp_path):
        if not hasattr(os, "sched_getaffinity"):
            pytest.skip("cores can be chosen on Linux alone")
        core, report = max(os.sched_getaffinity(0)), tmp_path / "report.json"
        done = self.run(*files, "--seconds", "0.2", "--no-cold", "--affinity", str(core), "--report", str(report))
        assert done.exit_code == 0, done.output
        session = json.loads(report.read_text())["latency"]["session"]
        assert (session["affinity"], session["affinity_asked"]) == ([core], True)
        assert core in os.sched_getaffinity(0)

    @pytest.mark.parametrize(
        "options", [("--batches", "1,x"), ("--batches", "0"), ("--affinity", "x"), ("--affinity", "4095")]
    )
    def test_what_makes_no_sense(self, files, options):
        done = self.run(*files, *options)
        assert done.exit_code == 2 or isinstance(done.exception, UsageError)

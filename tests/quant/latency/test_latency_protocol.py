"""The interleaved protocol on a fake clock: models are functions that move it."""

import dataclasses
import gc

import numpy as np
import pytest

from profiler.errors import UsageError
from quant.latency.protocol import compare
from quant.latency.settings import Protocol
from quant.latency.warmup import Warmup, warm_up

MS = 1_000_000
# No pauses and no runs outside the clock, so that the runs can be counted.
FAST = Protocol(resamples=300, lead_in_seconds=0.0, rest_seconds=0.0)


class Bench:
    """A clock in nanoseconds, models that take time on it, and a list of what ran."""

    def __init__(self, seed=0, noise=0.005, slowdown_per_second=0.0):
        self.now = 1_000
        self.calls = []
        self.pauses = []
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.slowdown = slowdown_per_second

    def clock(self):
        return self.now

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += round(1e9 * seconds)

    def model(self, name, milliseconds):
        """A model whose time is `milliseconds`, or what the function `milliseconds` says of the number of its runs."""
        count = 0

        def run(index):
            nonlocal count
            base = milliseconds(count) if callable(milliseconds) else milliseconds
            machine = (1.0 + self.slowdown * self.now * 1e-9) * np.exp(self.noise * self.rng.standard_normal())
            self.now += round(base * MS * machine)
            self.calls.append((name, index))
            count += 1

        return run

    def compare(self, a, b, settings=FAST, **options):
        first, second = (
            [self.model(name, m) for m in times] if isinstance(times, list) else self.model(name, times)
            for name, times in (("a", a), ("b", b))
        )
        return compare(first, second, settings=settings, clock=self.clock, pause=self.pause, **options)

    def after_warmup(self, comparison):
        return self.calls[comparison.a.warmup.runs + comparison.b.warmup.runs :]


class TestVerdict:
    @pytest.mark.parametrize("seed", range(3))
    def test_three_percent_are_found(self, seed):
        slower = Bench(seed).compare(4.0, 4.0 * 1.03)
        assert slower.verdict == "slower"
        assert slower.interval[0] <= 1 / 1.03 <= slower.interval[1]
        assert Bench(seed).compare(4.0 * 1.03, 4.0).verdict == "faster"

    @pytest.mark.parametrize("seed", range(3))
    def test_equal_models_show_no_difference(self, seed):
        result = Bench(seed).compare(4.0, 4.0)
        assert result.verdict == "no difference shown"
        assert result.warnings == ()

    @pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "no difference shown"), (1.03, "slower")])
    def test_drift_does_not_fool_the_ratio(self, ratio, verdict):
        result = Bench(slowdown_per_second=0.05).compare(4.0, 4.0 * ratio)
        assert result.verdict == verdict
        assert result.speedup == pytest.approx(1 / ratio, abs=0.003)
        assert result.a.drift.halves > 1.05
        assert [line.split(":")[0] for line in result.warnings] == ["first model", "second model"]

    def test_nothing_below_the_noise_floor_is_claimed(self):
        """The first model is unsteady while it is compared with itself; then a real 3 % is no evidence any more."""
        rng = np.random.default_rng(5)
        unsteady = range(50, 50 + 310)  # 50 runs of warm-up, then the pairs of the model with itself

        def first(run):
            return 4.0 * (1.0 + 0.6 * rng.random() if run in unsteady else 1.0)

        settings = dataclasses.replace(FAST, min_seconds=1.0, max_seconds=4.0)  # 1.6 s of noise floor
        result = Bench().compare(first, 4.0 * 1.03, settings)
        assert result.noise_floor.fraction > 0.035
        assert result.interval[1] < 1.0
        assert result.verdict == "no difference shown"

    @pytest.mark.parametrize(
        ("ratio", "sessions", "verdict"),
        [
            (1.009, 3, "no difference shown"),
            (1.011, 3, "slower"),
            (1.019, 1, "no difference shown"),
            (1.019, 2, "no difference shown"),
            (1.021, 1, "slower"),
        ],
    )
    def test_nothing_below_the_margin_is_claimed(self, ratio, sessions, verdict):
        result = Bench(noise=0.0).compare([4.0] * sessions, [4.0 * ratio] * sessions)
        assert result.noise_floor.interval == (1.0, 1.0)
        assert result.noise_floor.fraction == (0.01 if sessions == 3 else 0.02)
        assert result.verdict == verdict

    def test_too_few_pairs_claim_nothing(self):
        result = Bench().compare(5000.0, 2500.0)
        assert result.pairs == 2
        assert result.stopped_by == "max_seconds"
        assert result.verdict == "no difference shown"
        assert any("only 2 pairs" in line for line in result.warnings)

    def test_few_pairs_claim_what_is_plain(self):
        result = Bench().compare(800.0, 400.0)
        assert 6 <= result.pairs < 50
        assert result.verdict == "faster"
        assert result.interval[0] <= 2.0 <= result.interval[1]


class TestOrder:
    def test_models_take_turns_on_the_same_inputs(self):
        bench = Bench()
        result = bench.compare(2.0, 3.0)
        itself, pairs = 2 * result.noise_floor.pairs, 2 * result.pairs
        ran = bench.after_warmup(result)
        assert len(ran) == itself + pairs
        assert ran[:itself] == [("a", index) for index in range(result.noise_floor.pairs) for _ in range(2)]
        assert [index for _, index in ran[itself:]] == [index for index in range(result.pairs) for _ in range(2)]
        turns = "".join(name for name, _ in ran[itself:])
        assert {turns[k : k + 4] for k in range(0, len(turns) - 3, 4)} == {"abba", "baab"}

    def test_the_seed_decides_the_turns(self):
        def turns(seed):
            bench = Bench(noise=0.0)
            bench.compare(2.0, 3.0, seed=seed)
            return [name for name, _ in bench.calls]

        assert turns(1) == turns(1) != turns(2)

    def test_sessions_take_turns_too(self):
        bench = Bench(noise=0.0)
        first, second = ([bench.model(f"{name}{k}", 3.0) for k in range(4)] for name in "ab")
        result = compare(first, second, settings=FAST, clock=bench.clock, pause=bench.pause)
        ran = bench.calls[result.a.warmup.runs + result.b.warmup.runs + 6 * FAST.warmup_runs :]
        itself = ran[: 2 * result.noise_floor.pairs]
        assert {name for name, _ in itself} == {"a0", "a1", "a2", "a3"}
        assert {frozenset(name for name, _ in itself[k : k + 2]) for k in range(0, len(itself), 2)} == {
            frozenset({"a0", "a1"}),
            frozenset({"a2", "a3"}),
        }
        pairs = ran[2 * result.noise_floor.pairs :]
        for pair in range(result.pairs):
            session = pair // 2 % 4
            assert {name for name, _ in pairs[2 * pair : 2 * pair + 2]} == {f"a{session}", f"b{session}"}
        assert len(result.session_differences) == result.sessions == 4

    def test_short_runs_are_led_in(self):
        settings = dataclasses.replace(FAST, lead_in_seconds=0.010)
        bench = Bench(noise=0.0)
        result = bench.compare(0.5, 0.25, settings)
        assert result.lead_in
        assert [index for _, index in bench.calls[-5:]] == [4 * (result.pairs - 1) + k for k in (0, 0, 1, 2, 3)]
        assert (result.a_ms, result.b_ms) == (pytest.approx(0.5), pytest.approx(0.25))
        assert not Bench().compare(9.0, 11.0, settings).lead_in

    def test_a_pause_comes_before_every_sample(self):
        bench = Bench(noise=0.0)
        result = bench.compare(2.0, 3.0, dataclasses.replace(FAST, rest_seconds=0.001))
        assert len(bench.pauses) == 2 * (result.pairs + result.noise_floor.pairs)
        assert 0.0005 <= min(bench.pauses) < 0.0006
        assert 0.0014 < max(bench.pauses) <= 0.0015
        assert (result.a_ms, result.b_ms) == (pytest.approx(2.0), pytest.approx(3.0))

    def test_fast_models_run_several_times_per_sample(self):
        bench = Bench(noise=0.0)
        result = bench.compare(0.25, 0.125)
        assert result.a.repeats == 8  # of the faster one: 8 x 0.125 ms = 1 ms
        assert (result.a_ms, result.b_ms) == (pytest.approx(0.25), pytest.approx(0.125))
        assert result.a.percentiles_ms == {}
        last = bench.calls[-16:]
        assert last[:8] == [(last[0][0], 8 * (result.pairs - 1) + k) for k in range(8)]
        assert [index for _, index in last[:8]] == [index for _, index in last[8:]]

    def test_slow_models_run_once_per_sample(self):
        result = Bench().compare(3.0, 5.0)
        assert result.a.repeats == 1
        assert list(result.a.percentiles_ms) == [50, 90, 95]
        assert result.a.percentiles_left_out == {
            99: f"n too small: {result.pairs} of 662",
            99.9: f"n too small: {result.pairs} of 6636",
        }

    def test_samples_carry_their_times(self):
        result = Bench(noise=0.0).compare(2.0, 3.0)
        first, second = (result.a.started, result.b.started)
        assert min(first[0], second[0]) == 0.0
        np.testing.assert_allclose(np.where(first < second, second - first, 0.002), 0.002, atol=1e-12)
        np.testing.assert_allclose(np.where(first > second, first - second, 0.003), 0.003, atol=1e-12)
        np.testing.assert_allclose(np.minimum(first, second), 0.005 * np.arange(result.pairs), atol=1e-9)


class TestStopping:
    def test_precision_ends_it_after_100_pairs_and_three_seconds(self):
        quick, slow = Bench().compare(2.0, 2.0), Bench().compare(40.0, 40.0)
        assert (quick.stopped_by, slow.stopped_by) == ("precision", "precision")
        assert quick.seconds >= 3.0
        assert slow.pairs == 100

    def test_noise_is_measured_longer(self):
        loud, quiet = (Bench(noise=noise).compare(4.0, 4.0) for noise in (0.08, 0.005))
        assert loud.stopped_by == "precision"
        assert loud.pairs > quiet.pairs
        low, high = loud.interval
        assert (high - low) / 2 <= 0.0101 * loud.speedup

    def test_time_limit_ends_it(self):
        bench = Bench(noise=0.5)
        result = bench.compare(10.0, 10.0, Protocol(max_seconds=8.0, resamples=300))
        assert result.stopped_by == "max_seconds"
        assert 0.6 * 8.0 - 0.1 < result.seconds <= 0.6 * 8.0 + 0.1  # the noise floor took its share first
        assert any("interquartile range" in line for line in result.warnings)

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
    def test_limit_must_be_positive(self, seconds):
        with pytest.raises(UsageError, match="time limit"):
            Protocol.lasting(seconds)

    def test_short_limit_shortens_the_rest(self):
        assert Protocol.lasting(1.0).min_seconds == 1.0
        assert Protocol.lasting(60.0).min_seconds == Protocol().min_seconds


class TestWarmup:
    def run(self, milliseconds, settings=FAST):
        bench = Bench(noise=0.0)
        return warm_up(bench.model("a", milliseconds), settings, bench.clock)

    def test_steady_model_takes_two_windows(self):
        warmup, typical = self.run(10.0)
        assert warmup == Warmup(runs=20, seconds=pytest.approx(0.2), first_ms=10.0, steady=True)
        assert typical == 10.0 * MS

    def test_slow_start_is_waited_for(self):
        warmup, typical = self.run(lambda run: 10.0 + 30.0 * 0.8**run)
        assert warmup.steady
        assert warmup.first_ms == 40.0
        assert warmup.runs > 20
        assert typical == pytest.approx(10.0 * MS, rel=0.02)

    def test_model_that_never_settles_meets_the_cap(self):
        warmup, _ = self.run(lambda run: 10.0 * 1.01**run)
        assert not warmup.steady
        assert 2.0 <= warmup.seconds < 2.1
        growing = Bench().compare(lambda run: min(1000.0, 10.0 * 1.01**run), 10.0)
        assert any("still not steady" in line for line in growing.warnings)

    def test_one_run_is_enough_where_it_takes_longer_than_the_cap(self):
        assert self.run(5000.0)[0].runs == 1


class TestHousekeeping:
    def test_collector_is_off_while_timing_and_on_again_after(self):
        seen = set()

        class Spy(Bench):
            def clock(self):
                seen.add(gc.isenabled())
                return super().clock()

        assert gc.isenabled()
        Spy().compare(4.0, 4.0)
        assert seen == {False}
        assert gc.isenabled()

    def test_collector_is_on_again_after_a_failure(self):
        def fails(run):
            raise RuntimeError("broken model")

        with pytest.raises(RuntimeError, match="broken model"):
            Bench().compare(fails, 4.0)
        assert gc.isenabled()

    def test_progress_is_told_now_and_then(self):
        told = []
        result = Bench().compare(4.0, 4.0, progress=lambda stage, part: told.append((stage, part)))
        assert list(dict.fromkeys(stage for stage, _ in told)) == ["noise floor", "comparison"]
        assert all(0.0 < part <= 1.0 for _, part in told)
        assert len(told) < 6 * (result.seconds + 1.0)  # four times a second at most, and a little

    def test_the_seed_decides_the_interval(self):
        one, same, other = (Bench().compare(4.0, 4.1, seed=seed) for seed in (1, 1, 2))
        assert one.interval == same.interval != other.interval
        assert one.speedup == same.speedup


class TestReport:
    def test_contract(self):
        result = Bench(noise=0.0).compare(4.0, 2.0)
        report = result.to_dict()
        assert report["float_ms"] == result.float_ms == 4.0
        assert report["int8_ms"] == result.int8_ms == 2.0
        assert report["speedup"] == 2.0
        assert report["interval"] == [2.0, 2.0]
        assert report["verdict"] == "faster"
        assert (report["threads"], report["device"]) == (None, None)
        assert report["arms"]["float"]["median_ms"] == 4.0

    def test_names_and_samples(self):
        report = Bench().compare(4.0, 2.0).to_dict(("a", "b"), samples=True)
        assert set(report["arms"]) == {"a", "b"}
        arm = report["arms"]["b"]
        assert len(arm["samples_ms"]) == len(arm["started_seconds"]) == report["pairs"]
        assert arm["max_ms"] == max(arm["samples_ms"])
        assert arm["started_seconds"][arm["samples_ms"].index(arm["max_ms"])] == arm["max_at_seconds"]
        assert report["b_ms"] == pytest.approx(np.median(arm["samples_ms"]))

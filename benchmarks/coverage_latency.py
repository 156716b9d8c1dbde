"""Coverage of the speed-up's interval, and false claims, in simulated experiments.

    python benchmarks/coverage_latency.py

The whole protocol of `quant.latency` runs on a clock that is simulated, as are the models' times: a machine whose speed
drifts, wanders as an AR(1) process and spikes; neighbours that interrupt; sessions of one model that differ for as long
as they live. The truth is known: the interval has to hold it in 93 % of experiments or more, and of two equal models
a difference may be claimed in at most 5 %. Exit code 1 where that is not so. No model and no real clock take part.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, table, write_results

COVERAGE, FALSE_CLAIMS = 0.93, 0.05
MS = 1e6
BASE_MS = 3.0
SLOWER = 1.03
SESSIONS, SESSION_SD = 6, 0.005  # the spread is what sessions of one convolutional network showed
STEP_NS = 5e6  # of the wandering speed


@dataclass(frozen=True)
class Machine:
    """How a machine's speed moves.

    Attributes:
        drift: relative change of all times per second.
        rho: of an AR(1) process in steps of 5 ms.
        wander: its standard deviation.
        own: standard deviation of each run's own noise.
        spikes: how many runs take longer, by half as much again on average.
        neighbour: how likely a run is to be interrupted for 3 ms while a neighbour computes, which it does every other
            0.7 s on average.
    """

    drift: float = 0.0
    rho: float = 0.0
    wander: float = 0.0
    own: float = 0.01
    spikes: float = 0.0
    neighbour: float = 0.0


MACHINES = {
    "quiet": Machine(),
    "drift": Machine(drift=0.01),
    "slow wander": Machine(rho=0.97, wander=0.03),
    "fast wander": Machine(rho=0.5, wander=0.05),
    "spikes": Machine(own=0.02, spikes=0.05),
    "neighbour": Machine(own=0.02, neighbour=0.3),
    "all of them": Machine(0.005, 0.97, 0.03, 0.02, 0.03, 0.15),
}


class Simulation:
    """A clock in nanoseconds, and models that move it."""

    def __init__(self, machine: Machine, seed: int, seconds: float) -> None:
        self.now = 0.0
        self.machine = machine
        self.random = random.Random(seed)  # noqa: S311  # a simulation
        rng = np.random.default_rng(seed)
        self.level = self._wander(rng, int(4 * seconds * 1e9 / STEP_NS))
        self.busy = np.cumsum(rng.exponential(0.7e9, 400))

    def _wander(self, rng: np.random.Generator, steps: int) -> list[float]:
        rho, level, levels = self.machine.rho, 0.0, []
        pushes = (math.sqrt(1 - rho**2) * self.machine.wander * rng.standard_normal(steps)).tolist()
        for push in pushes:
            level = rho * level + push
            levels.append(level)
        return levels

    def clock(self) -> int:
        """Nanoseconds since the simulation began."""
        return round(self.now)

    def pause(self, seconds: float) -> None:
        """Let time go by."""
        self.now += 1e9 * seconds

    def sessions(self, milliseconds: float) -> list[Callable[[int], None]]:
        """Runs of several sessions of one model, each with its own luck."""
        return [self._run(milliseconds * math.exp(self.random.gauss(0, SESSION_SD))) for _ in range(SESSIONS)]

    def _run(self, milliseconds: float) -> Callable[[int], None]:
        machine, draw = self.machine, self.random

        def run(_index: int) -> None:
            level = self.level[min(int(self.now / STEP_NS), len(self.level) - 1)]
            log = level + machine.drift * self.now * 1e-9 + machine.own * draw.gauss(0, 1)
            took = milliseconds * MS * math.exp(log)
            if machine.spikes and draw.random() < machine.spikes:
                took *= 1 + draw.expovariate(2.0)
            if machine.neighbour and np.searchsorted(self.busy, self.now) % 2 and draw.random() < machine.neighbour:
                took += 3 * MS
            self.now += took

        return run


def experiment(machine: Machine, ratio: float, seed: int, seconds: float) -> tuple[bool, str]:
    """Whether the interval holds the truth, and the verdict on a second model that takes `ratio` times as long."""
    from dataclasses import replace

    from quant.latency.protocol import compare
    from quant.latency.settings import Protocol

    simulation = Simulation(machine, seed, seconds)
    settings = replace(Protocol.lasting(seconds), resamples=400)
    found = compare(
        simulation.sessions(BASE_MS),
        simulation.sessions(BASE_MS * ratio),
        settings=settings,
        seed=seed,
        clock=simulation.clock,
        pause=simulation.pause,
    )
    low, high = found.interval
    return low <= 1 / ratio <= high, found.verdict


def rates(machine: Machine, experiments: int, seconds: float, first: int = 0) -> dict[str, Any]:
    """Coverage and claims over so many experiments with equal models, and as many with 3 %, from seed `first` on."""
    seeds = range(first, first + experiments)
    equal = [experiment(machine, 1.0, seed, seconds) for seed in seeds]
    slower = [experiment(machine, SLOWER, 1_000_000 + seed, seconds) for seed in seeds]
    none = "no difference shown"
    return {
        "experiments": experiments,
        "coverage_equal": sum(held for held, _ in equal) / experiments,
        "coverage_slower": sum(held for held, _ in slower) / experiments,
        "false_claims": sum(verdict != none for _, verdict in equal) / experiments,
        "slower_found": sum(verdict == "slower" for _, verdict in slower) / experiments,
        "slower_reversed": sum(verdict == "faster" for _, verdict in slower) / experiments,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=143, help="of each kind on each machine (143: 1,001 in all)")
    parser.add_argument("--seconds", type=float, default=10.0, help="simulated limit of one comparison (10)")
    parser.add_argument("--only", choices=MACHINES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    chosen = {name: m for name, m in MACHINES.items() if options.only in (None, name)}
    found = {}
    for number, (name, machine) in enumerate(chosen.items()):
        found[name] = rates(machine, options.experiments, options.seconds, number * options.experiments)
        print(f"{name}: {found[name]}", flush=True)
    keys = ("coverage_equal", "coverage_slower", "false_claims", "slower_found", "slower_reversed")
    whole = {key: sum(case[key] for case in found.values()) / len(found) for key in keys}
    headers = ("machine", "coverage, equal", "coverage, 3 %", "false claims", "3 % found", "3 % reversed")
    rows = [
        [name, *(f"{case[key]:.3f}" for key in keys)]
        for name, case in [*found.items(), ("all machines", whole)]
    ]  # fmt: skip
    text = f"{options.experiments} experiments of each kind on each machine.\n\n{table(headers, rows)}"
    print(text)
    path = write_results(options.output, "coverage_latency", {"machines": found, "all": whole}, text)
    print(f"wrote {path}")
    covered = min(whole["coverage_equal"], whole["coverage_slower"]) >= COVERAGE
    return 0 if covered and whole["false_claims"] <= FALSE_CLAIMS else 1


if __name__ == "__main__":
    sys.exit(main())

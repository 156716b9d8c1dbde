"""How often the 95 % interval of an mAP drop holds the true drop: simulated detectors, the product's own interval.

    python benchmarks/coverage_map.py            eight cases, about 5 minutes of one core
    python benchmarks/coverage_map.py --all      every metric, scenario and number of images, about 15 minutes

An image has a difficulty, 1 to 8 objects of three classes (60, 30 and 10 %), and false detections. Each object has a
latent clarity; a model finds it, with a score and an IoU that depend on the clarity and on noise of its own. The second
model shares the first one's noise but for a part, which is what quantization does; a scenario says on how many images
it differs and by how much. The true drop is that of a very large set. An experiment draws images anew, and asks the
metric itself for its interval. Exits with 1 where an interval covers less often than 93 %.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, table, write_results

from quant.metrics.base import Draws
from quant.metrics.detection import DETECTION, Detection
from quant.metrics.detection_average import DETECTION_RECORD, packed
from quant.metrics.statistics import percentile_interval

WANTED = 0.93
CLASSES = np.array([0.6, 0.3, 0.1])
MOST_OBJECTS = 8
FALSE_DETECTIONS = 3
POPULATION = 60_000
PLAIN_EVERY = 10  # experiments in which a plain bootstrap is seen beside ours


@dataclass(frozen=True)
class Scenario:
    """How the second model differs from the first.

    Attributes:
        touched: part of the images on which it differs at all.
        noise: deviation of what is new in its scores and boxes there.
        loss: what it loses in clarity there.
    """

    touched: float
    noise: float
    loss: float


SCENARIOS = {
    "rarely different": Scenario(touched=0.03, noise=1.0, loss=1.0),
    "slightly worse": Scenario(touched=1.0, noise=0.15, loss=0.03),
    "clearly worse": Scenario(touched=1.0, noise=0.5, loss=0.3),
}

METRICS = ("map50", "map")
IMAGES = (50, 200, 500)
CASES = (  # metric, scenario, images: those that take least time of each kind
    ("map50", "rarely different", 50),
    ("map50", "rarely different", 200),
    ("map50", "rarely different", 500),
    ("map50", "slightly worse", 50),
    ("map50", "slightly worse", 200),
    ("map50", "slightly worse", 500),
    ("map50", "clearly worse", 50),
    ("map", "slightly worse", 50),
)


def simulated(metric: Detection, scenario: Scenario, images: int, rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Records of both models on the same images."""
    count = np.minimum(1 + rng.poisson(1.2, images), MOST_OBJECTS)
    home = np.repeat(np.arange(images), count)
    label = rng.choice(len(CLASSES), len(home), p=CLASSES)
    ease = rng.normal(0, 0.7, images)
    clarity = 0.8 + ease[home] + rng.normal(0, 0.8, len(home)) - 0.3 * label
    wrong_home = np.repeat(np.arange(images), rng.poisson(FALSE_DETECTIONS * 0.4, images))
    wrong_label = rng.choice(len(CLASSES), len(wrong_home), p=CLASSES)
    noise = rng.normal(0, 0.5, (2, len(home)))
    wrong_score = rng.normal(-0.8, 0.9, len(wrong_home))
    objects = np.split(label, np.cumsum(count)[:-1])
    truths = np.empty(images, object)
    truths[:] = objects if images > 1 else [None]
    truths[0] = objects[0]
    touched = rng.random(images) < scenario.touched
    models = []
    for new in (0.0, 1.0):
        part = new * touched
        moved = noise + part[home] * scenario.noise * rng.normal(size=noise.shape)
        seen = clarity - part[home] * scenario.loss
        iou = 1 / (1 + np.exp(-(1.0 + 0.7 * seen + moved[0])))
        score = seen + moved[1]
        false_score = wrong_score + part[wrong_home] * scenario.noise * rng.normal(size=len(wrong_home))
        found = score > -1.5  # what is less clear is not detected at all
        models.append(
            (
                _records(
                    metric,
                    np.concatenate([home[found], wrong_home]),
                    np.concatenate([label[found], wrong_label]),
                    np.concatenate([score[found], false_score]),
                    np.concatenate([iou[found], np.zeros(len(wrong_home))]),
                    images,
                ),
                truths,
            )
        )
    return models


def _records(
    metric: Detection, home: np.ndarray, label: np.ndarray, score: np.ndarray, iou: np.ndarray, images: int
) -> np.ndarray:
    order = np.lexsort((-score, home))
    record = np.zeros(len(home), DETECTION_RECORD)
    record["label"], record["score"] = label[order], np.round(score[order], 2)  # int8 scores tie
    record["hit"] = packed(iou[order, None] >= np.array(metric.thresholds))
    parts = np.empty(images, object)
    for i, part in enumerate(np.split(record, np.cumsum(np.bincount(home, minlength=images))[:-1])):
        parts[i] = part
    return parts


def true_drop(metric: Detection, scenario: Scenario, seed: int = 0, images: int = POPULATION) -> float:
    """The drop of a very large set."""
    first, second = simulated(metric, scenario, images, np.random.default_rng((seed, images)))
    return metric.value(first) - metric.value(second)


def coverage(
    metric: Detection,
    scenario: Scenario,
    drop: float,
    images: int,
    experiments: int,
    resamples: int = 300,
    seed: int = 0,
) -> dict[str, float]:
    """How often the metric's interval holds the true drop, beside that of a plain percentile bootstrap.

    Returns:
        `coverage`; `below` and `above`: how often the true drop lies on which side of the interval otherwise; `width`:
        its mean; `plain` and `plain_width`: coverage and width, in some of the experiments, without the two added
        images and the widened tails.
    """
    rng = np.random.default_rng((seed, images))
    intervals = np.empty((experiments, 2))
    plain: list[tuple[bool, float]] = []
    for experiment in range(experiments):
        pair = simulated(metric, scenario, images, rng)
        draws = Draws(images, seed=experiment, resamples=resamples, unit="image")
        interval, _ = metric.interval(*pair, draws)
        assert interval is not None
        intervals[experiment] = interval
        if experiment % PLAIN_EVERY == 0:
            drops = [metric.resampled(pair[0], w) - metric.resampled(pair[1], w) for w in draws.weights()]
            low, high = percentile_interval(np.concatenate(drops))
            plain.append((low <= drop <= high, high - low))
    below, above = (drop < intervals[:, 0]).mean(), (drop > intervals[:, 1]).mean()
    return {
        "coverage": float(1 - below - above),
        "below": float(below),
        "above": float(above),
        "width": float(np.diff(intervals).mean()),
        "plain": float(np.mean([held for held, _ in plain])),
        "plain_width": float(np.mean([width for _, width in plain])),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument(
        "--resamples", type=int, default=300, help="fewer than in the product: covers half a point less"
    )
    parser.add_argument("--all", action="store_true", help="every metric, scenario and number of images")
    parser.add_argument("--images", type=int, nargs="+", help="numbers of images, with --all")
    parser.add_argument("--population", type=int, default=POPULATION, help="images that the true drop is taken of")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    every = [(m, s, n) for m in METRICS for s in SCENARIOS for n in options.images or IMAGES]
    cases, drops, rows, start = every if options.all else CASES, {}, [], time.process_time()
    for name, scenario, images in cases:
        metric = DETECTION[name].build()
        assert isinstance(metric, Detection)
        if (name, scenario) not in drops:
            drops[name, scenario] = true_drop(metric, SCENARIOS[scenario], images=options.population)
        drop = drops[name, scenario]
        found = coverage(metric, SCENARIOS[scenario], drop, images, options.experiments, options.resamples)
        rows.append({"metric": name, "scenario": scenario, "images": images, "drop": drop, **found})
        print(f"{name}, {scenario}, {images} images: {found['coverage']:.1%} (plain {found['plain']:.1%})", flush=True)
    seconds = time.process_time() - start
    record = {
        "experiments": options.experiments,
        "resamples": options.resamples,
        "processor_seconds": round(seconds, 1),
        "cases": rows,
    }
    write_results(options.output, "coverage_map", record, _text(record), packages=("numpy",))
    return int(any(row["coverage"] < WANTED for row in rows))


def _text(record: dict[str, Any]) -> str:
    headers = (
        "metric",
        "scenario",
        "images",
        "true drop",
        "coverage",
        "too high",
        "too low",
        "mean width",
        "plain",
        "its width",
    )
    rows = [
        (
            row["metric"],
            row["scenario"],
            row["images"],
            f"{row['drop']:.4f}",
            *(f"{row[key]:.1%}" for key in ("coverage", "below", "above")),
            f"{row['width']:.4f}",
            f"{row['plain']:.1%}",
            f"{row['plain_width']:.4f}",
        )
        for row in record["cases"]
    ]
    return (
        f"{record['experiments']} experiments a case, {record['resamples']} resamples each, "
        f"{record['processor_seconds']:.0f} s of processor time. Coverage of the nominal 95 % interval; how often the "
        f"whole interval was too high or too low; plain: a percentile bootstrap of the same images, "
        f"in every {PLAIN_EVERY}th experiment.\n\n{table(headers, rows)}"
    )


if __name__ == "__main__":
    sys.exit(main())

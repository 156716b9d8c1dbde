"""Small sets that are always at hand: scikit-learn's handwritten digits, enlarged, to classify and to segment.

1,797 grey pictures of 8x8 pixels (a part of the UCI set "Optical Recognition of Handwritten Digits", E. Alpaydin and
C. Kaynak, 1998), enlarged to 32x32. They are split once and for all: the reference networks under models/ were trained
on "train", so only the other two parts may calibrate and evaluate them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.errors import UnavailableError, UsageError
from quant.data.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES: Mapping[str, int] = {"train": 1000, "calibration": 297, "evaluation": 500}

_SIDE = 32
_SPLIT_SEED, _NOISE_SEED = 0, 1
_NOISE = 0.3  # standard deviation, where the ink's full range is 1
_INK = 0.5


def digits(split: str) -> Samples:
    """Digits to classify: float32 pictures (n, 1, 32, 32) from 0 (paper) to 1 (ink), labels (n,) int64 from 0 to 9.

    Args:
        split: "train", "calibration" or "evaluation".

    Raises:
        UsageError: an unknown split.
        UnavailableError: scikit-learn is not installed.
    """
    pictures, classes = _load()
    members = _members(split, classes)
    return Samples({"x": pictures[members]}, classes[members], f"digits ({split})", "classification")


def digits_ink(split: str) -> Samples:
    """Ink to find in noise: the pictures of `digits` with Gaussian noise, labels (n, 32, 32) int64, 1 for ink.

    The noise has standard deviation 0.3 and is clipped to 0..1; a pixel is ink where the clean picture is 0.5 or more.

    Args:
        split: "train", "calibration" or "evaluation"; the same pictures as in `digits`.

    Raises:
        UsageError: an unknown split.
        UnavailableError: scikit-learn is not installed.
    """
    pictures, classes = _load()
    noise = _frozen_random(_NOISE_SEED).normal(0.0, _NOISE, pictures.shape).astype(np.float32)
    ink = (pictures[:, 0] >= _INK).astype(np.int64)
    members = _members(split, classes)
    noisy = np.clip(pictures[members] + noise[members], 0.0, 1.0)
    return Samples({"x": noisy}, ink[members], f"digits-ink ({split})", "segmentation")


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnavailableError(
            "The built-in sets come with scikit-learn, which is not installed: pip install 'netgauge[cpu]'."
        ) from error
    small, classes = load_digits(return_X_y=True)
    pictures = (small.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    return _enlarged(pictures), classes.astype(np.int64)


def _enlarged(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, 1, s, s) interpolated bilinearly to (n, 1, 32, 32), pixel centres at half-integers.

    A picture P becomes W P W^T, where row i of W weighs the two source pixels around output pixel i. For 8 to 32 pixels
    and 16 grey values all products and sums are exact in float32: every machine gets the same pictures.
    """
    side = pictures.shape[-1]
    centres = np.clip((np.arange(_SIDE) + 0.5) * side / _SIDE - 0.5, 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(side))).astype(np.float32)
    enlarged: np.ndarray = weights @ pictures @ weights.T
    return enlarged


def _members(split: str, classes: np.ndarray) -> np.ndarray:
    """Positions of a split's pictures, ascending; each class has its share of every split, to within one picture."""
    if split not in SIZES:
        raise UsageError(f"unknown split {split!r}; known are {', '.join(SIZES)}")
    shuffled = _frozen_random(_SPLIT_SEED).permutation(len(classes))
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    evaluated = _every(len(by_class), SIZES["evaluation"])
    rest = by_class[~evaluated]
    calibrated = _every(len(rest), SIZES["calibration"])
    parts = {"train": rest[~calibrated], "calibration": rest[calibrated], "evaluation": by_class[evaluated]}
    return np.sort(parts[split])


def _every(total: int, count: int) -> np.ndarray:
    """A mask of `total` places with `count` of them marked, spread evenly."""
    marked: np.ndarray = np.diff(np.arange(total + 1) * count // total) == 1
    return marked


def _frozen_random(seed: int) -> np.random.RandomState:
    # A split that changed with the version of a library would put training pictures into the evaluation; only
    # RandomState's stream is promised never to change (NEP 19).
    return np.random.RandomState(seed)

"""CTC against a sum over all alignments."""

from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from profiler.errors import DataError, UsageError
from quant.metrics.losses import LOSSES


def by_enumeration(p, labels, blank):
    """The probability of every path that collapses to the labels."""
    total = 0.0
    for path in product(range(p.shape[1]), repeat=len(p)):
        if [c for c, _ in groupby(path) if c != blank] == list(labels):
            total += np.prod([p[t, c] for t, c in enumerate(path)])
    return -np.log(total)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_ctc_sums_all_alignments(loss, seed, blank):
    r = np.random.default_rng(seed)
    z = r.normal(0, 2, (3, 5, 3)).astype(np.float32)
    classes = [c for c in range(3) if c != blank]
    labels, lengths = r.choice(classes, (3, 2)), np.array([2, 1, 0])
    frames = np.array([5, 4, 3])
    p = special.softmax(z.astype(float), axis=2)
    each = [by_enumeration(p[i, : frames[i]], labels[i, : lengths[i]], blank) / max(lengths[i], 1) for i in range(3)]
    arrays = {"targets": labels, "lengths": lengths, "f": frames}
    assert loss("ctc", z, arrays, frames="f", blank=blank, sizes=(2,)) == pytest.approx(np.mean(each), rel=1e-6)
    assert loss("ctc", p, arrays, frames="f", blank=blank, from_logits=False) == pytest.approx(np.mean(each), rel=1e-6)
    assert loss("ctc", np.log(p), arrays, frames="f", blank=blank) == pytest.approx(np.mean(each), rel=1e-6)
    whole = [by_enumeration(p[i], labels[i, : lengths[i]], blank) for i in range(3)]
    padded = np.where(np.arange(2) < lengths[:, None], labels, -1)
    found = loss("ctc", z, padded, lengths="none", target="y", blank=blank, per_label=False)
    assert found == pytest.approx(np.mean(whole), rel=1e-6)


def test_padding_takes_no_frames(loss):
    z = np.array([[[0.5, 1.0, -1.0]]])
    expected = -special.log_softmax(z[0, 0])[1]
    assert loss("ctc", z, np.array([[1, -1, -1]]), lengths="none", target="y") == pytest.approx(expected)


def test_needs_are_the_labels_that_are_named():
    assert LOSSES["ctc"].build().needs == ("targets", "lengths")
    assert LOSSES["ctc"].build(lengths="none", frames="f", target="t").needs == ("t", "f")


def test_extreme_logits_are_finite(loss):
    z = np.array([[[0, 1e30, -1e30], [800, -800, 0]]])
    assert np.isfinite(loss("ctc", z, np.array([[1]]), lengths="none", target="y"))


def test_ctc_refuses(loss):
    z, lengths = np.zeros((2, 3, 4)), np.array([2, 2])
    good = np.array([[1, 2], [3, 1]])

    def refused(match, labels=good, scores=z, lengths=lengths, error=DataError, **options):
        with pytest.raises(error, match=match):
            loss("ctc", scores, {"targets": labels, "lengths": lengths}, **options)

    refused(r"sample 1 has 2 labels, which take 3 frames, and 2", np.array([[1, 2], [1, 1]]), z[:, :2])
    refused("sample 0 hold the blank, 0", np.array([[1, 0], [1, 1]]))
    refused("sample 1 has the label 7", np.array([[1, 2], [7, 1]]))
    refused("sample 1 has the label 3; lengths", lengths=np.array([2, 3]))
    refused(r"\(n, frames, classes\)", scores=z[0])
    refused("blank=4", blank=4)
    refused("from_logits=false", scores=np.full((2, 3, 4), 0.25))
    refused("from_logits=true", scores=z - 1, from_logits=False)
    refused("'frames' are needed", frames="frames", error=UsageError)
    with pytest.raises(DataError, match="after their padding"):
        loss("ctc", z, np.array([[-1, 2], [3, 1]]), lengths="none", target="y")
    found = loss("ctc", z[:, :2], {"targets": np.array([[1, 2], [1, 1]]), "lengths": lengths}, zero_infinity=True)
    assert found == pytest.approx(loss("ctc", z[:1, :2], {"targets": good[:1], "lengths": lengths[:1]}) / 2)

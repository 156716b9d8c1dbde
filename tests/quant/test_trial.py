"""Two models over batches: the same as all at once, with nothing kept that need not be."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import quant.trial
from profiler.errors import DataError, ModelError, UsageError
from quant import evaluate
from quant.data import Samples
from quant.metrics import compare_outputs
from quant.runtime import open_session
from quant.trial import Trial

R = np.random.default_rng(0)
X = R.normal(size=(100, 4)).astype(np.float32)
W = R.normal(size=(4, 3)).astype(np.float32)
Y = (X @ W).argmax(axis=1)
NOISE = 0.2 * R.normal(size=(4, 3)).astype(np.float32)


def model(weights, *further, batch="n", x="x", y="y", last=None):
    """x @ weights, with further nodes (op, inputs, output, attributes) and their outputs."""
    nodes = [helper.make_node("MatMul", [x, "w"], [y if last is None else "z"])]
    if last is not None:
        nodes.append(helper.make_node(last, ["z"], [y]))
    names = [y]
    for op, reads, name, attributes in further:
        nodes.append(helper.make_node(op, [r.replace("y", y) for r in reads], [name], **attributes))
        names.append(name)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def plain(result):
    rows = {name: (m.float, m.int8, m.drop, m.interval, m.verdict, m.n) for name, m in result.metrics.items()}
    return rows, [matrix.tolist() for matrix in result.confusion]


@pytest.mark.parametrize("batch", ["n", 1, 7])
def test_batches_give_what_all_at_once_gives(batch):
    found = evaluate(model(W, batch=batch), model(W + NOISE), (X, Y))
    expected = compare_outputs(X @ W, X @ (W + NOISE), Y)
    assert plain(found) == plain(expected)
    assert found.metrics["accuracy"].p == expected.metrics["accuracy"].p


def test_fidelity_is_of_every_output_and_names_are_matched_by_position():
    more = (("Neg", ["y"], "minus", {}), ("ReduceMax", ["y"], "single", {"keepdims": 0}))
    first, second = model(W, *more), model(W + NOISE, *more, x="other", y="result")
    found = evaluate(first, second, X)
    assert {"sqnr", "agreement", "sqnr:output=minus"} <= set(found.metrics)
    assert found.metrics["sqnr:output=minus"].int8 == pytest.approx(found.metrics["sqnr"].int8)
    assert len(found.fidelity.kl) == 100
    assert any(note.startswith("left out: single") for note in found.notes)
    named = evaluate(first, second, (X, (-X @ W).argmax(axis=1)), metrics=("accuracy:output=minus",))
    assert named.metrics["accuracy:output=minus"].float == 1.0
    with pytest.raises(DataError, match="no output 'none'; it has 'y', 'minus'"):
        evaluate(first, second, (X, Y), metrics=("accuracy:output=none",))


@pytest.mark.parametrize(
    ("metrics", "kept_bytes", "runs"),
    [
        (("accuracy", "f1"), 10**9, 1),  # the records of the first are all that is needed
        (("accuracy", "f1"), 0, 1),
        (("accuracy", "kl"), 10**9, 1),  # its outputs are there
        (("accuracy", "kl"), 0, 3),  # and here they are not
    ],
)
def test_the_first_model_runs_no_oftener_than_it_must(monkeypatch, metrics, kept_bytes, runs):
    monkeypatch.setattr(quant.trial, "KEPT_BYTES", kept_bytes)
    first, seen = open_session(model(W)), []
    original = quant.trial.outputs_of
    monkeypatch.setattr(
        quant.trial,
        "outputs_of",
        lambda s, *rest: (seen.append(len(rest[0])) if s is first else None, original(s, *rest))[1],
    )
    trial = Trial(first, Samples({"x": X}, Y, "data"), metrics=metrics)
    seen.clear()
    trial.check()
    several = [trial.against_first(open_session(model(W + k * NOISE))) for k in (1, 2)]
    assert sum(seen) == 100 * runs
    assert plain(several[0]) == plain(compare_outputs(X @ W, X @ (W + NOISE), Y, metrics=metrics))


def test_what_looked_like_probabilities_in_the_first_batches_is_not():
    x = np.zeros((100, 4), np.float32)
    x[:, 0] = np.linspace(0, 1, 100)
    x[70:, 0] = np.linspace(-3, 3, 30)
    y = (x[:, 0] > 0).astype(int)
    weights = np.eye(4, 1, dtype=np.float32)
    found = evaluate(model(weights), model(weights), (x, y))
    assert found.metrics["accuracy"].float == 1.0  # at a threshold of 0; of probabilities it would be one half
    sigmoid = evaluate(model(weights, last="Sigmoid"), model(weights, last="Sigmoid"), (x, y))
    assert sigmoid.metrics["accuracy"].float == 1.0
    assert sigmoid.metrics["auc"].float == found.metrics["auc"].float


def test_a_bad_label_of_a_late_batch_is_named_by_its_sample():
    y = Y.copy()
    y[77] = 3
    with pytest.raises(DataError, match="sample 77: its label 3 is out of range"):
        evaluate(model(W), model(W), (X, y))
    found = evaluate(model(W), model(W), (X, y), metrics=("accuracy:ignore=3",))
    assert found.metrics["accuracy:ignore=3"].n == 99


def test_outputs_that_differ_are_refused():
    with pytest.raises(DataError, match=r"differ in size: \(32, 3\) and \(32, 2\)"):
        evaluate(model(W), model(W[:, :2]), (X, Y))
    with pytest.raises(ModelError, match="has the outputs y, minus; those of model are y"):
        evaluate(model(W), model(W, ("Neg", ["y"], "minus", {})), (X, Y))
    with pytest.raises(DataError, match=r"the second model gives infinite .* sample 0"):
        evaluate(model(W), model(W * np.float32("inf")), (X, Y))


def test_groups_are_drawn_together():
    groups = np.arange(100) // 5
    data = {
        name: Samples({"x": X}, Y, "data", further=further)
        for name, further in {"a": {}, "g": {"groups": groups}}.items()
    }
    alone, together = (evaluate(model(W), model(W + NOISE), data[name], metrics=("accuracy", "auc")) for name in "ag")
    assert together.metrics["accuracy"].method.startswith("paired bootstrap of 20 groups")
    assert together.metrics["accuracy"].p is None
    assert alone.metrics["accuracy"].drop == together.metrics["accuracy"].drop
    same = evaluate(model(W), model(W), data["g"], metrics=("accuracy",)).metrics["accuracy"]
    assert same.interval.low < 0 < same.interval.high


def test_a_task_can_be_named():
    assert evaluate(model(W), model(W), (X, Y), task="classification").task == "classification"
    with pytest.raises(UsageError, match="no task 'nonsense'"):
        evaluate(model(W), model(W), (X, Y), task="nonsense")
    with pytest.raises(UsageError, match="accuracy needs labels 'y'; the data has none"):
        evaluate(model(W), model(W), X, metrics=("accuracy",))

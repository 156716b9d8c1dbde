"""Losses of embeddings: contrastive, triplet, InfoNCE.

Where the model has an output for each role (anchor, positive, ...) a sample's loss is its own. Where it has one output
and the data classes, pairs and triplets come from all samples together, not from a batch: see `mining`.

contrastive: y d^2 + (1 - y) max(0, m - d)^2, y = 1 for similar pairs; in Hadsell, Chopra and LeCun 2006 with the factor
1/2 and y = 0 for similar ones. triplet: max(0, d(a, p) - d(a, n) + m), d Euclidean, or its square (FaceNet, Schroff et
al. 2015). InfoNCE: -log of the positive's softmax among positive and negatives at temperature tau (van den Oord et al.
2018), of normalized vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.errors import DataError, UsageError
from quant.metrics.base import Evaluated, Family, Metric, Parameter
from quant.metrics.losses._inputs import (
    at_least,
    chosen,
    label_of,
    needed,
    output_of,
    same_vectors,
    tensor,
    whole,
)
from quant.metrics.losses._loss import LABELS, OUTPUT, Loss
from quant.metrics.losses.mining import (
    ClassContrastive,
    ClassInfoNCE,
    ClassTriplet,
    PairedInfoNCE,
    in_triplets,
    normalized,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

# The forms of the contrastive loss: factor, and the label of similar pairs.
_FORMS: Mapping[str, tuple[float, int]] = {"plain": (1.0, 1), "hadsell": (0.5, 0), "lecun": (0.5, 0)}


def distances(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Euclidean distances of rows: two (n, d) -> (n,)."""
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return np.asarray(np.linalg.norm(gap, axis=-1), dtype=np.float64)


def contrastive(
    first: npt.ArrayLike, second: npt.ArrayLike, labels: npt.ArrayLike, *, margin: float = 1.0, form: str = "plain"
) -> Floats:
    """Contrastive loss of pairs: two (n, d) and labels (n,) -> (n,).

    Args:
        first: vectors.
        second: vectors, the other side of each pair.
        labels: 0 or 1; which of them is "similar" the form says.
        margin: how far dissimilar pairs should be apart.
        form: "plain" (1 = similar), or "hadsell", also called "lecun" (0 = similar, factor 1/2).

    Raises:
        UsageError: another form.
    """
    factor, similar = chosen(_FORMS, form, "form")
    d = distances(first, second)
    apart = np.maximum(0.0, margin - d) ** 2
    return np.asarray(factor * np.where(np.asarray(labels) == similar, d**2, apart), dtype=np.float64)


def triplet(
    anchor: npt.ArrayLike,
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    *,
    margin: float = 1.0,
    squared: bool = False,
) -> Floats:
    """Triplet loss of triples: three (n, d) -> (n,)."""
    near, far = distances(anchor, positive), distances(anchor, negative)
    return np.maximum(0.0, (near**2 - far**2 if squared else near - far) + margin)


def infonce(
    query: npt.ArrayLike,
    positive: npt.ArrayLike,
    negatives: npt.ArrayLike,
    *,
    temperature: float = 0.07,
    normalize: bool = True,
) -> Floats:
    """InfoNCE of queries: (n, d), (n, d) and (n, K, d), or (K, d) for all of them -> (n,)."""
    import torch
    import torch.nn.functional as F

    q, k, others = (
        normalized(x) if normalize else np.asarray(x, dtype=np.float64) for x in (query, positive, negatives)
    )
    against = q @ others.T if others.ndim == 2 else np.einsum("nd,nkd->nk", q, others)
    logits = tensor(np.concatenate([(q * k).sum(axis=1, keepdims=True), against], axis=1) / temperature)
    values: Floats = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64), reduction="none").numpy()
    return values


def _roles(**names: str) -> bool:
    """Whether outputs are named for all roles; False for none.

    Raises:
        UsageError: for some of them only.
    """
    missing = [role for role, name in names.items() if name == ""]
    if missing and len(missing) < len(names):
        raise UsageError(f"name the outputs of all roles: {', '.join(f'{role}=' for role in missing)} is missing")
    return not missing


def _vectors(batch: Evaluated, **names: str) -> list[np.ndarray]:
    found = {role: output_of(batch, name) for role, name in names.items()}
    same_vectors(**found)
    return list(found.values())


def _build_contrastive(
    *, output: str = "", target: str = "y", first: str = "", second: str = "", margin: float = 1.0, form: str = "plain"
) -> Metric:
    at_least(0, above=True, margin=margin)
    factor, _ = chosen(_FORMS, form, "form")
    if not _roles(first=first, second=second):
        return ClassContrastive(output, target, margin=margin, factor=factor)

    def losses(batch: Evaluated) -> Floats:
        a, b = _vectors(batch, first=first, second=second)
        labels = label_of(batch, target)
        if labels.size != len(a):
            raise DataError(f"the labels have the size {labels.shape}; one per pair is wanted, ({len(a)},)")
        similar = whole(labels.reshape(-1), 0, 1, "labels of pairs")
        return contrastive(a, b, similar, margin=margin, form=form)

    return Loss(losses, needed(target))


def _build_triplet(
    *,
    output: str = "",
    target: str = "y",
    anchor: str = "",
    positive: str = "",
    negative: str = "",
    margin: float = 1.0,
    mining: str = "all",
    squared: bool = False,
    normalize: bool = False,
) -> Metric:
    at_least(0, margin=margin)
    rule = chosen(in_triplets, mining, "mining")
    if not _roles(anchor=anchor, positive=positive, negative=negative):
        return ClassTriplet(output, target, normalize=normalize, margin=margin, rule=rule, squared=squared)
    if mining != "all":
        raise UsageError(
            f"mining={mining} looks for negatives by class; with anchor=, positive=, negative= they are given"
        )

    def losses(batch: Evaluated) -> Floats:
        rows: list[np.ndarray] = _vectors(batch, anchor=anchor, positive=positive, negative=negative)
        if normalize:
            rows = [normalized(x) for x in rows]
        return triplet(*rows, margin=margin, squared=squared)

    return Loss(losses, ())


def _build_infonce(
    *,
    output: str = "",
    target: str = "y",
    query: str = "",
    positive: str = "",
    negatives: str = "",
    temperature: float = 0.07,
    normalize: bool = True,
) -> Metric:
    at_least(0, above=True, temperature=temperature)
    if not _roles(query=query, positive=positive):
        if negatives:
            raise UsageError("negatives= goes with query= and positive=")
        return ClassInfoNCE(output, target, normalize=normalize, temperature=temperature)
    if not negatives:
        return PairedInfoNCE(query, positive, normalize=normalize, temperature=temperature)

    def losses(batch: Evaluated) -> Floats:
        q, k = _vectors(batch, query=query, positive=positive)
        others = output_of(batch, negatives)
        if others.ndim != 3 or others.shape[::2] != q.shape:
            raise DataError(f"the negatives have the size {others.shape}; ({len(q)}, K, {q.shape[1]}) is wanted")
        return infonce(q, k, others, temperature=temperature, normalize=normalize)

    return Loss(losses, ())


def _role(what: str) -> Parameter:
    return Parameter("", help=f"the output that holds {what}; where none is named, classes make the pairs")


_CLASSES: Mapping[str, Any] = {"output": OUTPUT, "target": LABELS}
_MARGIN = Parameter(1.0, help="how much further apart what differs should be")

FAMILIES: Mapping[str, Family] = {
    "contrastive": Family(
        _build_contrastive,
        "contrastive loss y d^2 + (1 - y) max(0, m - d)^2 of pairs; form=hadsell halves it and has 0 for similar",
        {
            **_CLASSES,
            "first": _role("one side of the pairs"),
            "second": _role("the other side"),
            "margin": _MARGIN,
            "form": Parameter("plain", tuple(_FORMS), "plain: 1 is similar; hadsell, lecun: 0 is, and a factor 1/2"),
        },
    ),
    "triplet": Family(
        _build_triplet,
        "triplet loss max(0, d(a, p) - d(a, n) + margin)",
        {
            **_CLASSES,
            "anchor": _role("anchors"),
            "positive": _role("positives"),
            "negative": _role("negatives"),
            "margin": _MARGIN,
            "mining": Parameter("all", tuple(in_triplets), "which triplets of the classes count"),
            "squared": Parameter(default=False, help="squared distances, as FaceNet has them"),
            "normalize": Parameter(default=False, help="scale vectors to length 1 first"),
        },
    ),
    "infonce": Family(
        _build_infonce,
        "InfoNCE: cross-entropy of the positive among negatives at a temperature",
        {
            **_CLASSES,
            "query": _role("queries"),
            "positive": _role("positives"),
            "negatives": Parameter("", help="the output with negatives (n, K, d); else the other samples' positives"),
            "temperature": Parameter(0.07, help="tau, what similarities are divided by"),
            "normalize": Parameter(default=True, help="scale vectors to length 1 first"),
        },
    ),
}

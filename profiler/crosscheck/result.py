"""What a comparison with another counter gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from profiler.aten.call import Call


@dataclass(frozen=True, slots=True)
class Term:
    """One documented reason for a difference.

    Attributes:
        reason: what the peer does otherwise.
        amount: what it adds to their count, negative where they count less.
        calls: operator calls it concerns.
    """

    reason: str
    amount: int
    calls: int


@dataclass(frozen=True, slots=True)
class Row:
    """One module's own operators (those of its submodules left out) of one kind.

    Attributes:
        name: the module's path, where the peer books the operators.
        op: the peer's name of the operator; ours where it has none.
        ours: multiply-accumulates.
        predicted: what the peer's documented rule gives on these sizes, in its unit.
        theirs: what the peer said, in its unit.
    """

    name: str
    op: str
    ours: int
    predicted: int
    theirs: int

    @property
    def unexplained(self) -> int:
        """What the peer said beyond its own documented rule."""
        return self.theirs - self.predicted


@dataclass(frozen=True, slots=True)
class Crosscheck:
    """A comparison with another counter.

    `ours` and the terms add up to `theirs` wherever every row agrees with its prediction.

    Attributes:
        peer: its name.
        status: "reconciled", "unexplained", "skipped" or "failed".
        reason: why it was skipped or failed, in the peer's own words; else "".
        ours: our multiply-accumulates.
        theirs: the peer's count, in its unit; None where it did not run.
        terms: the documented reasons that lead from ours to theirs.
        rows: module by module.
        unit: what the peer counts.
        run: what it was run on.
    """

    peer: str
    status: str
    reason: str = ""
    ours: int = 0
    theirs: int | None = None
    terms: tuple[Term, ...] = ()
    rows: tuple[Row, ...] = ()
    unit: str = "MACs"
    run: str = ""

    @property
    def unexplained(self) -> int:
        """Sum over all rows of what no documented reason explains, without regard to sign."""
        return sum(abs(row.unexplained) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "status": self.status,
            "reason": self.reason,
            "unit": self.unit,
            "run": self.run,
            "ours": self.ours,
            "theirs": self.theirs,
            "terms": [{"reason": t.reason, "amount": t.amount, "calls": t.calls} for t in self.terms],
            "unexplained": self.unexplained,
            "rows": [
                {
                    "name": r.name,
                    "op": r.op,
                    "ours": r.ours,
                    "predicted": r.predicted,
                    "theirs": r.theirs,
                    "unexplained": r.unexplained,
                }
                for r in self.rows
            ],
        }


def in_its_words(error: Exception) -> str:
    """The first line of a peer's error."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _always(_call: Call) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class PeerRule:
    """A peer's documented rule for one operator.

    Attributes:
        op: its name for the operator.
        count: what its documentation says it counts, from the sizes, in multiply-accumulates.
        reason: in words, why that is not what we count; "" where it is the same, so that a difference is somebody's
            mistake.
        when: for which calls the reason holds.
    """

    op: str
    count: Callable[[Call], int]
    reason: str = ""
    when: Callable[[Call], bool] = _always

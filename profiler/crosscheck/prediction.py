"""What a peer will say, collected from our own walk before the peer is run."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from profiler.crosscheck.result import Crosscheck, PeerRule, Row, Term
from profiler.mode import INTEGER_WORK
from profiler.step import Step

Key = tuple[str, str]  # module path, the peer's name of the operator

NO_RULE = "{peer} has no rule for {op}: it counts 0"
UNCOUNTED = "{peer} counts {op}, which is uncounted here"
INTEGERS = "{peer} counts products of integers, which are no floating-point work here"


def expected(step: Step, rule: PeerRule | None, peer: str) -> tuple[int, str]:
    """What a peer counts for a call, in multiply-accumulates, and the documented reason where that is not our count.

    Where no reason is documented, a peer must say what we say.
    """
    if rule is None:
        op = step.operator.op if step.operator else step.call.packet
        return 0, NO_RULE.format(peer=peer, op=op)
    if step.operator is None:
        return rule.count(step.call), UNCOUNTED.format(peer=peer, op=step.call.packet)
    if step.operator is INTEGER_WORK:
        return rule.count(step.call), INTEGERS.format(peer=peer)
    if rule.reason and rule.when(step.call):
        return rule.count(step.call), rule.reason
    return step.cost.macs, ""


class Prediction:
    """Sums per module and operator, ours and theirs, with the reason of every difference."""

    def __init__(self) -> None:
        self.ours: Counter[Key] = Counter()
        self.theirs: Counter[Key] = Counter()
        self._terms: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def book(self, key: Key, ours: int, theirs: int) -> None:
        """Count one call for one module and operator."""
        self.ours[key] += ours
        self.theirs[key] += theirs

    def explain(self, reason: str, amount: int) -> None:
        """Book the difference that one call makes."""
        if amount:
            entry = self._terms[reason]
            entry[0] += amount
            entry[1] += 1

    @property
    def terms(self) -> tuple[Term, ...]:
        """The reasons in the order in which they first came up."""
        return tuple(Term(reason, amount, calls) for reason, (amount, calls) in self._terms.items())

    def compare(
        self, peer: str, measured: Mapping[Key, int], theirs: int, ours: int, unit: str, run: str
    ) -> Crosscheck:
        """Lay what the peer said beside what was predicted."""
        keys = dict.fromkeys([*self.theirs, *measured])
        rows = [Row(*key, self.ours[key], self.theirs[key], measured.get(key, 0)) for key in keys]
        rows = [row for row in rows if row.ours or row.predicted or row.theirs]
        explained = all(not row.unexplained for row in rows) and theirs == ours + sum(t.amount for t in self.terms)
        status = "reconciled" if explained else "unexplained"
        return Crosscheck(peer, status, "", ours, theirs, self.terms, tuple(rows), unit, run)


def exclusive(inclusive: Mapping[str, Mapping[str, int]], names: Collection[str]) -> dict[Key, int]:
    """Each module's own counts, from counts that include its submodules.

    Args:
        inclusive: per module path and operator.
        names: the modules to share the counts out among; what is inside any other stays with its nearest owner.
    """
    own: Counter[Key] = Counter()
    for name, counts in inclusive.items():
        owner = name.rpartition(".")[0]
        while owner not in names and owner:
            owner = owner.rpartition(".")[0]
        for op, count in counts.items():
            own[name, op] += int(count)
            if name:
                own[owner, op] -= int(count)
    return {key: count for key, count in own.items() if count}

"""What a report says of the positions along one axis, from their law or from the truth position by position."""

from fractions import Fraction

import numpy as np

from profiler.profile import Phases
from profiler.receptive.lattice import Lattice
from profiler.receptive.span import Span

Report = tuple[int, Fraction, int, Phases | None]

# More fields than this are not listed in a report.
MOST_LISTED = 64

_ZERO = Fraction(0)


def phases_of(law: Lattice) -> Phases | None:
    """What the positions of one period see, where they differ."""
    if law.period == 1:
        return None
    fields = tuple([(0, None) if e is None else (e[1] - e[0] + 1, e[0]) for e in law.edges])
    sizes = [size for size, _ in fields]
    return Phases(law.period, fields if law.period <= MOST_LISTED else (), min(sizes), max(sizes))


def seen_in(span: Span) -> Report:
    """Of positions that follow no law: the widest field, the mean stride, the first start."""
    sees = span.last >= span.first
    seen = span.first[sees]
    if len(seen) == 0:
        return 0, _ZERO, 0, None
    stride = Fraction(int(seen[-1] - seen[0]), len(seen) - 1) if len(seen) > 1 else _ZERO
    sizes = np.where(sees, span.last - span.first + 1, 0)
    smallest, widest = int(sizes.min()), int(sizes.max())
    steps = np.diff(span.first)
    if smallest == widest and (steps == steps[:1]).all():
        return widest, stride, int(seen[0]), None
    listed = len(sizes) <= MOST_LISTED
    starts = (
        [start if n else None for start, n in zip(span.first.tolist(), sizes.tolist(), strict=True)] if listed else []
    )
    fields = tuple(zip(sizes.tolist(), starts, strict=True)) if listed else ()
    return widest, stride, int(seen[0]), Phases(None, fields, smallest, widest)

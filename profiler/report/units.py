"""Numbers and names as people read them."""

from profiler import escaping
from profiler.profile import Phases, ReceptiveField, Shape

PREFIXES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
BINARY = {"k": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
# What --units takes: a prefix for each number, all digits, or one prefix for all.
UNITS = ("auto", "raw", *PREFIXES)
printable = escaping.printable


def count(number: int, units: str = "auto") -> str:
    """A count with a metric prefix and three or four digits, 4.089 G; or as `units` says."""
    if units == "raw":
        return f"{number:,}"
    if units != "auto":
        return _fixed(number, PREFIXES[units])
    for prefix, step in reversed(PREFIXES.items()):
        if round(abs(number) / step, 3) >= 1:
            return f"{number / step:.3f} {prefix}"
    return str(number)


def size_of(number: int, units: str = "auto") -> str:
    """Bytes with a binary prefix, 1.50 MiB; or as `units` says."""
    if units == "raw":
        return f"{number:,}"
    if units != "auto":
        return _fixed(number, BINARY[units])
    for prefix, step in reversed(BINARY.items()):
        if number >= 2**10 and round(number / step, 2) >= 1:
            return f"{number / step:.2f} {prefix.upper()}iB"
    return f"{number} B"


def _fixed(number: int, step: int) -> str:
    """In one unit, three decimals; what is too small for them is still not shown as zero."""
    text = f"{number / step:,.3f}"
    return "<0.001" if number > 0 and text == "0.000" else text


def unit_of(units: str, *, binary: bool = False) -> str:
    """What stands in a header where all numbers below it have one unit: " [M]"."""
    if units in ("auto", "raw"):
        return " [B]" if binary and units == "raw" else ""
    return f" [{units.upper()}iB]" if binary else f" [{units}]"


def shape(sizes: Shape) -> str:
    """1x64x112x112."""
    return "x".join(map(str, sizes)) or "scalar"


def percent(part: int, whole: int) -> str:
    """A share, empty where it is zero."""
    if not part or not whole:
        return ""
    text = f"{100 * part / whole:.1f}%"
    return "<0.1%" if text == "0.0%" else text


def field(receptive: ReceptiveField | None) -> str:
    """A receptive field: its size, a mark where it is no exact window, and the local field in brackets.

    Fields in further inputs follow, each with the number of the input.
    """
    if receptive is None:
        return ""
    number = f"#{receptive.input + 1}: " if receptive.input else ""
    return " + ".join([number + _one(receptive), *map(field, receptive.others)])


def _one(receptive: ReceptiveField) -> str:
    mark = {"exact": "", "bounded": "<=", "unknown": "?", "data-dependent": "data"}
    local = f" ({sizes(receptive.local)})" if receptive.local and receptive.local.status != "whole-input" else ""
    if receptive.status == "whole-input":
        return f"all{local}"
    if receptive.status in ("unknown", "data-dependent"):
        return mark[receptive.status]
    return f"{mark[receptive.status]}{sizes(receptive)}{local}"


def sizes(receptive: ReceptiveField) -> str:
    """7x7; 7..9x7..9 /2 where outputs see 7 to 9 inputs in a pattern that repeats after 2 of them."""
    phases = receptive.phases or (None,) * len(receptive.size)
    spans = [
        str(size) if p is None or p.smallest == p.largest else f"{p.smallest}..{p.largest}"
        for p, size in zip(phases, receptive.size, strict=True)
    ]
    periods = [str(p.period or "-") if p else "1" for p in phases]
    if set(periods) <= {"1", "-"}:
        return "x".join(spans)
    return "x".join(spans) + " /" + (periods[0] if len(set(periods)) == 1 else "x".join(periods))


def phases(receptive: ReceptiveField) -> str:
    """Size and start of each phase, axis by axis: /2: 7@-3 9@-4 | -."""
    if not any(receptive.phases):
        return ""
    return " | ".join(_phase(p) if p else "-" for p in receptive.phases)


def _phase(p: Phases) -> str:
    listed = " ".join(f"{size}@{start}" if start is not None else "nothing" for size, start in p.fields)
    return f"/{p.period or '-'}: {listed or f'{p.smallest}..{p.largest}'}"

"""Numbers and names as people read them."""

from profiler.profile import Layer, ReceptiveField, Shape

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: int) -> str:
    """A count with a metric prefix and three or four digits: 4.089 G."""
    for step, prefix in _STEPS:
        if abs(number) >= step:
            return f"{number / step:.3f} {prefix}"
    return str(number)


def size_of(number: int) -> str:
    """Bytes with a binary prefix: 1.50 MiB."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    return f"{value:.2f} TiB"


def shape(sizes: Shape) -> str:
    """1x64x112x112."""
    return "x".join(map(str, sizes)) or "scalar"


def percent(part: int, whole: int) -> str:
    """A share, empty where it is zero."""
    return f"{100 * part / whole:.1f}%" if part and whole else ""


def field(receptive: ReceptiveField | None) -> str:
    """A receptive field: its size, a mark where it is no exact window, and the local field in brackets."""
    if receptive is None:
        return ""
    mark = {"exact": "", "bounded": "<=", "unknown": "?", "data-dependent": "data"}
    local = f" ({_sizes(receptive.local)})" if receptive.local and receptive.local.status != "whole-input" else ""
    if receptive.status == "whole-input":
        return f"all{local}"
    if receptive.status in ("unknown", "data-dependent"):
        return mark[receptive.status]
    return f"{mark[receptive.status]}{_sizes(receptive)}{local}"


def _sizes(receptive: ReceptiveField) -> str:
    return "x".join(map(str, receptive.size))


def kind(layer: Layer, *, alone: bool) -> str:
    """What a row is: the module's class, with the operation where the module has several."""
    return layer.type if alone else f"{layer.type}: {layer.op}"


def printable(text: str) -> str:
    """A name from a file, with control characters escaped so that it cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

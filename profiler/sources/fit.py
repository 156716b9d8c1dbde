"""Which part of a checkpoint is a network's: by names and sizes alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
_ANCHORS = 8  # names of the network that are looked for in the file
_MOST_PLACES = 32  # places in the file that are looked at closely
_MOST_NAMES = 3
_COPIES = ("ema", "avg", "swa", "optim", "grad", "moment", "teacher")
_LONGEST = 120  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class Fit:
    """How a part of a checkpoint fits a network.

    Attributes:
        prefix: what the part's names begin with in the file, "" for the file as a whole.
        names: of the part, without the prefix.
        lacks: names of the network that it has not.
        extra: names in it that the network has not.
        odd: names of both whose sizes differ, with both sizes.
    """

    prefix: str
    names: tuple[str, ...]
    lacks: tuple[str, ...]
    extra: tuple[str, ...]
    odd: tuple[str, ...]

    @property
    def place(self) -> str:
        """The part in the words of a message."""
        return f"'{self.prefix.rstrip('.')}'" if self.prefix else "it"

    @property
    def whole(self) -> bool:
        """Whether it is the network's and nothing else."""
        return not (self.lacks or self.extra or self.odd)

    def why_not(self) -> str:
        """What keeps it from fitting, in words; "" where nothing does."""
        wrong = (("lacks", self.lacks), ("has no place for", self.extra), ("differs in", self.odd))
        told = [f"{what} {some(names)}" for what, names in wrong if names]
        return f"{self.place} {' and '.join(told)}" if told else ""


def fits(network: Mapping[str, Shape | None], stored: Mapping[str, Shape]) -> list[Fit]:
    """Parts of a checkpoint that share names with a network, the best first.

    Args:
        network: sizes of the network's tensors by name, None where any will do.
        stored: sizes of the file's by their whole names.

    Returns:
        By the number of tensors that fit, then by the number that have no place, copies by name last, then in the
        file's order.
    """
    found = [_fit(prefix, network, stored) for prefix in _places(network, stored)]
    matched = {fit.prefix: len(network) - len(fit.lacks) - len(fit.odd) for fit in found}
    return sorted(found, key=lambda fit: (-matched[fit.prefix], len(fit.extra), _is_copy(fit.prefix)))


def _is_copy(prefix: str) -> bool:
    """Whether a part is called what holds a network's names, but not its own values."""
    return any(word in prefix.lower() for word in _COPIES)


def _places(network: Mapping[str, Shape | None], stored: Mapping[str, Shape]) -> list[str]:
    """Prefixes under which some of the network's names stand, in the file's order."""
    names = list(network)
    anchors = names[:: max(1, len(names) // _ANCHORS)]
    found: Counter[str] = Counter()
    for name, shape in stored.items():
        for anchor in anchors:
            if name == anchor or name.endswith(f".{anchor}"):
                # Many layers may have such a name; of the same size they are fewer.
                found[name.removesuffix(anchor)] += 100 if network[anchor] in (shape, None) else 1
    best = {prefix for prefix, _ in found.most_common(_MOST_PLACES)}
    return [prefix for prefix in found if prefix in best]


def _fit(prefix: str, network: Mapping[str, Shape | None], stored: Mapping[str, Shape]) -> Fit:
    part = {name.removeprefix(prefix): shape for name, shape in stored.items() if name.startswith(prefix)}
    odd = [
        f"{name} ({_size(part[name])}, the network's is {_size(shape)})"
        for name, shape in network.items()
        if name in part and shape is not None and part[name] != shape
    ]
    lacks = [name for name in network if name not in part]
    extra = [name for name in part if name not in network]
    return Fit(prefix, tuple(part), tuple(lacks), tuple(extra), tuple(odd))


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "one number"


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..." for name in names[:_MOST_NAMES]) + more

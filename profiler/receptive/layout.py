"""The factors that a tensor's axes are made of, and the views that a tensor has of the inputs' axes."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from operator import is_
from typing import TYPE_CHECKING, NamedTuple

from profiler.receptive.view import AxisView

if TYPE_CHECKING:
    from profiler.profile import ReceptiveField

_serial = count(1)


class Atom(NamedTuple):
    """A factor of a tensor axis. No two axes of a tensor share one; what follows from an axis may keep its name.

    Attributes:
        uid: its name; negative where it tells kinds of channels apart rather than positions.
        size: how many there are.
    """

    uid: int
    size: int


def new_atom(size: int, *, kinds: bool = False) -> Atom:
    """An atom that no other tensor has."""
    return Atom(-next(_serial) if kinds else next(_serial), size)


Layout = tuple[tuple[Atom, ...], ...]


class Extent(tuple[int, ...]):  # noqa: SLOT001  # a tuple's subclass can have none that are not empty
    """Sizes of the input axes that are followed, one input of the network after the other.

    Attributes:
        axes: how many axes of each input.
    """

    axes: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[Sequence[int]]) -> "Extent":
        """From the sizes of each input's axes."""
        extent = cls(n for axes in sizes for n in axes)
        extent.axes = tuple(map(len, sizes))
        return extent


class Views:
    """What a tensor's elements see, shared by all tensors that see the same.

    Attributes:
        true: one view per input axis that is followed.
        local: the same without the operations that join all positions.
        extent: size of each input axis that is followed.
        report: the numbers of a report, once they have been worked out.
        unions: what these and others see together, where that has been worked out, and the atoms along which only some
            of them see anything.
    """

    __slots__ = ("_gaps", "extent", "local", "report", "true", "unions")

    def __init__(self, true: tuple[AxisView, ...], local: tuple[AxisView, ...], extent: tuple[int, ...]) -> None:
        self.true = true
        self.local = local
        self.extent = extent
        self.report: ReceptiveField | None = None
        self.unions: dict[Views, tuple[Views, frozenset[int]]] = {}
        self._gaps: bool | None = None

    @property
    def gaps(self) -> bool:
        """Whether some elements are known to see nothing of an input."""
        if self._gaps is None:
            self._gaps = any([v.sight.gaps and not v.sight.blank for v in self.true])  # noqa: C419  # a list is faster than a generator
        return self._gaps

    def with_true(self, true: Sequence[AxisView]) -> "Views":
        """These with other true views; local ones that were the same stay the same."""
        if all(map(is_, true, self.true)):
            return self
        own = tuple(true)
        return Views(own, own if self.local is self.true else self.local, self.extent)

    def even(self) -> None:
        """Let it be known without looking that every element sees something."""
        self._gaps = False

    @property
    def still(self) -> bool:
        """Whether every element sees the same."""
        for view in self.true:
            if view.atoms:
                return False
        return self.local is self.true or not any(v.atoms for v in self.local)

    def moves_along(self, atoms: Iterable[Atom]) -> bool:
        """Whether any view moves along some of these."""
        every = self.true if self.local is self.true else self.true + self.local
        for atom in atoms:
            for view in every:
                if atom[0] in view.atoms:
                    return True
        return False

    def changed(self, change: Callable[[AxisView], AxisView], *, local: bool = True) -> "Views":
        """Every view changed; `local=False` leaves the local ones as they are."""
        true = tuple([change(v) for v in self.true])
        if all(map(is_, true, self.true)):
            true = self.true
        if not local:
            near = self.local
        elif self.local is self.true:
            near = true
        else:
            near = tuple([change(v) for v in self.local])
            if all(map(is_, near, self.local)):
                near = self.local
        return self if true is self.true and near is self.local else Views(true, near, self.extent)

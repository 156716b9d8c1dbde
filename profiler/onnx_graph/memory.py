"""Bytes of the tensors that are alive: each from the node that makes it to the last that reads it."""

from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Memory:
    """An account of allocations, each held by one or more names.

    Attributes:
        live: bytes held now.
        peak: most bytes held at once.
        total: bytes of all allocations.
    """

    live: int = 0
    peak: int = 0
    total: int = 0
    _held: dict[int, tuple[int, int]] = field(default_factory=dict)  # allocation -> (holders, bytes)
    _serial: "count[int]" = field(default_factory=lambda: count(1))

    def allocate(self, size: int) -> int:
        """A new allocation with one holder."""
        key = next(self._serial)
        self._held[key] = (1, size)
        self.live += size
        self.total += size
        self.peak = max(self.peak, self.live)
        return key

    def share(self, key: int) -> int:
        """One more holder of an allocation; 0 stands for none."""
        if key in self._held:
            holders, size = self._held[key]
            self._held[key] = (holders + 1, size)
            return key
        return 0

    def release(self, key: int) -> None:
        """One holder less; with the last one the bytes are free."""
        if key not in self._held:
            return
        holders, size = self._held.pop(key)
        if holders > 1:
            self._held[key] = (holders - 1, size)
        else:
            self.live -= size

    def copy(self) -> "Memory":
        """The same account, to try something out on."""
        return Memory(self.live, self.peak, self.total, dict(self._held), self._serial)

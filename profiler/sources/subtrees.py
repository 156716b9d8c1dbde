"""What the parts of a checkpoint are: its sub-trees and its tied tensors, in sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence

from profiler.sources.described import Described

_MOST_TREES, _MOST_TIES, _MOST_NAMES = 6, 3, 3


def notes_on(tensors: Sequence[Described], *, module: bool = False) -> tuple[str, ...]:
    """A note on the sub-trees of a nested checkpoint and one on tied tensors, where there are such.

    Args:
        tensors: what is stored.
        module: whether it is one module, whose parts are its layers.
    """
    return (*(() if module else _subtrees(tensors)), *_tied(tensors))


def _subtrees(tensors: Sequence[Described]) -> Iterable[str]:
    if any(len(tensor.path) > 1 for tensor in tensors):
        places = Counter(tensor.path[0] if len(tensor.path) > 1 else "" for tensor in tensors)
        told = [f"{place or 'at the top'} ({count:,})" for place, count in places.items()]
        yield f"tensors by sub-tree: {_some(told, _MOST_TREES)}"


def _tied(tensors: Sequence[Described]) -> Iterable[str]:
    by_storage: dict[str, list[str]] = {}
    for tensor in tensors:
        if tensor.layout.storage:
            by_storage.setdefault(tensor.layout.storage, []).append(tensor.name)
    shared = [_some(names, _MOST_NAMES) for names in by_storage.values() if len(names) > 1]
    if shared:
        yield f"tensors that share a storage: {_some(shared, _MOST_TIES, '; ')}"


def _some(names: Sequence[str], most: int, joint: str = ", ") -> str:
    return joint.join(names[:most]) + (f"{joint}and {len(names) - most:,} more" if len(names) > most else "")

"""How long work says how far it is: a callable that takes the stage and the part of it that is done."""

from collections.abc import Callable

Progress = Callable[[str, float], None]


def silent(_stage: str, _part: float) -> None:
    """Say nothing."""

"""What can go wrong, as a small tree of exceptions; each carries the exit code the command line ends with.

Messages are one or two lines for the person at the keyboard: what was wrong, in which file or layer, what to do next.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.sources.opened import OpenedModel


class NetgaugeError(Exception):
    """Base of every error netgauge raises on purpose."""

    exit_code = 4


class UsageError(NetgaugeError):
    """What was asked for makes no sense: a malformed option, or a combination that cannot be meant."""

    exit_code = 2


class RefusedError(NetgaugeError):
    """A file would have to run code to be read, and the user has not said `--trust`; or it asks for too much.

    Args:
        message: the reason.
        known: what can be said of the file without running it.
    """

    exit_code = 3

    def __init__(self, message: str, known: "OpenedModel | None" = None) -> None:
        super().__init__(message)
        self.known = known


class ModelError(NetgaugeError):
    """The model cannot be used: unreadable, incomplete, or it fails on the inputs given."""


class DataError(NetgaugeError):
    """The data cannot be used: unreadable, or it does not fit the model."""


class UnavailableError(NetgaugeError):
    """Something this machine lacks: a package, a library, a device."""


class FormulaError(NetgaugeError):
    """A documented formula and torch disagree on a shape. This is a defect of netgauge, never of the model."""

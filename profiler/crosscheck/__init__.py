"""Comparisons with other counters, each of which explains its differences.

A peer is a module with `check(profile, subject) -> Crosscheck`.
"""

from importlib import import_module

from profiler.crosscheck.result import Crosscheck, Row, Term
from profiler.errors import UsageError
from profiler.profile import Profile

PEERS = {"fvcore": "profiler.crosscheck.fvcore"}


def crosscheck(peer: str, profile: Profile) -> Crosscheck:
    """Compare a profile with a peer's figure.

    Raises:
        UsageError: no such peer, or the profile was not made by `analyze` in this process.
    """
    if peer not in PEERS:
        raise UsageError(f"no counter named {peer!r} to check against; there is: {', '.join(PEERS)}")
    if profile.subject is None:
        raise UsageError("this profile does not hold its model, so that no other counter can be run on it")
    result: Crosscheck = import_module(PEERS[peer]).check(profile, profile.subject)
    return result


__all__ = ["PEERS", "Crosscheck", "Row", "Term", "crosscheck"]

"""Comparisons with other counters, each of which explains its differences.

A peer is a module with `check(profile, subject) -> Crosscheck`. What each counts otherwise than we do, and why, is in
docs/crosscheck.md.
"""

from dataclasses import replace
from importlib import import_module

from profiler.compiled import as_written
from profiler.crosscheck.result import Crosscheck, Row, Term
from profiler.errors import NetgaugeError, UsageError
from profiler.profile import Profile

PEERS = {"fvcore": "profiler.crosscheck.fvcore", "torch": "profiler.crosscheck.torch_counter"}


def peers(name: str) -> tuple[str, ...]:
    """The peers that a word stands for: one's own name, "all" or "none".

    Raises:
        UsageError: it is none of these.
    """
    named = {"all": tuple(PEERS), "none": (), **{peer: (peer,) for peer in PEERS}}
    if name not in named:
        raise UsageError(f"no counter named {name!r} to check against; there is: {', '.join(PEERS)}")
    return named[name]


def crosscheck(peer: str, profile: Profile) -> Crosscheck:
    """Compare a profile with a peer's figure.

    Raises:
        UsageError: no such peer, or the profile was not made by `analyze` in this process.
    """
    if peer not in PEERS:
        raise UsageError(f"no counter named {peer!r} to check against; there is: {', '.join(PEERS)}")
    if profile.subject is None:
        raise UsageError("this profile does not hold its model, so that no other counter can be run on it")
    try:
        subject = replace(profile.subject, model=as_written(profile.subject.model))
        result: Crosscheck = import_module(PEERS[peer]).check(profile, subject)
    except NetgaugeError as error:  # the model was analyzed, but it fails when it is called once more
        return Crosscheck(peer, "failed", f"the walk for the prediction: {error}", profile.totals.macs)
    return result


__all__ = ["PEERS", "Crosscheck", "Row", "Term", "crosscheck", "peers"]

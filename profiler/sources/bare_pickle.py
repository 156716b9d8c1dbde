"""Bare pickles, as pickle.dump writes them: refused, with the tensors that they can be seen to hold."""

from pathlib import Path

from profiler.errors import NetgaugeError, RefusedError
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.opcodes import read_next
from profiler.sources.opened import OpenedModel
from profiler.sources.saved import known
from profiler.sources.stored import Stored


def refuse_pickle(path: Path, *, trust: bool = False, limits: Limits = DEFAULT) -> OpenedModel:  # noqa: ARG001  # an opener
    """Refuse a bare pickle, with what it holds.

    Raises:
        RefusedError: always; joblib's files mix arrays with opcodes, and then nothing is known.
    """
    reason = f"{path}: is a bare pickle; reading it would run code. Save a state_dict with torch.save or safetensors"
    try:
        with path.open("rb") as file:
            tree, names = read_next(file, str(path), limits)
        found = known(Stored(path, tree, names, {}, limits))
    except NetgaugeError:
        found = None
    raise RefusedError(reason, found)

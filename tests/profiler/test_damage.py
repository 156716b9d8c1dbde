"""Files with damage of any kind end in an error that says so: never in a traceback, never in running them."""

import random

import pytest
import torch
from torch import nn

from profiler import open_model
from profiler.errors import NetgaugeError


class Own(nn.Module):
    pass


def script(path):
    torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).save(path)


def module(path, *, zipped):
    torch.save(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), path, _use_new_zipfile_serialization=zipped)


def checkpoint(path, *, zipped):
    value = {"model": nn.Linear(2, 2).state_dict(), "epoch": 3, "sparse": torch.eye(2).to_sparse(), "own": Own}
    torch.save(value, path, _use_new_zipfile_serialization=zipped)


FILES = {
    "script": script,
    "module": lambda p: module(p, zipped=True),
    "legacy module": lambda p: module(p, zipped=False),
    "checkpoint": lambda p: checkpoint(p, zipped=True),
    "legacy checkpoint": lambda p: checkpoint(p, zipped=False),
}


def damaged(data, chance):
    """Some bytes changed, some taken out, or the end cut off."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(data))
        what = chance.randrange(4)
        if what < 2:
            data[at] = chance.choice((0, 1, 0x7F, 0xFF, ord("."), ord("("), ord("R"), chance.randrange(256)))
        elif what == 2:
            del data[at : at + chance.choice((1, 4, 100))]
        else:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4))))
    return data


def how_it_ends(target, weights):
    try:
        return open_model(target, weights=weights).kind
    except NetgaugeError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*source code of class")
@pytest.mark.parametrize("kind", FILES)
def test_damage_is_an_error_of_ours(kind, tmp_path, monkeypatch):
    FILES[kind](tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    monkeypatch.setattr(torch, "load", None)  # nothing may come to that
    chance = random.Random(kind)
    (tmp_path / "net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(2, 2)\n")
    for _ in range(120):
        path = tmp_path / "bad.pt"
        path.write_bytes(damaged(whole, chance))
        for target, weights in ((path, None), (f"{tmp_path}/net.py:net", path)):
            ended = how_it_ends(target, weights)
            assert ended in ("module", "weights") or str(path) in ended

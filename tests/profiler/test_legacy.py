"""Files of torch.save without a zip archive: what is read is what torch.load reads, and nothing in them runs."""

import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict

import pytest
import torch
from torch import nn

from profiler import open_model
from profiler.errors import ModelError, RefusedError
from profiler.sources import Limits
from profiler.sources.legacy import read_legacy
from profiler.sources.stored import Reader
from profiler.sources.torch_zip import read_zip

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
FORMATS = {"zip": (True, read_zip), "legacy": (False, read_legacy)}


def save(value, path, *, zipped=False, **options):
    torch.save(value, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 2)).eval()


class Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


STORED = {
    "dense": lambda: torch.arange(24.0).reshape(2, 3, 4),
    "transposed": lambda: torch.arange(12.0).reshape(3, 4).t(),
    "part": lambda: torch.arange(20)[3:9:2],
    "expanded": lambda: torch.ones(1).expand(3, 5),
    "empty": lambda: torch.zeros(0, 3),
    "scalar": lambda: torch.tensor(2.5, dtype=torch.float64),
    "half": lambda: torch.randn(5).half(),
    "bfloat16": lambda: torch.randn(5).bfloat16(),
    "bool": lambda: torch.tensor([True, False]),
    "complex": lambda: torch.randn(3, dtype=torch.complex64),
    "float8": lambda: torch.randn(4).to(torch.float8_e4m3fn),
    "uint16": lambda: torch.tensor([1, 65535], dtype=torch.uint16)[1:],
    "parameter": lambda: nn.Parameter(torch.randn(2)),
    "buffer": lambda: nn.Buffer(torch.randn(2)),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", STORED)
def test_every_tensor_is_read_as_it_was_saved(name, form, tmp_path):
    zipped, read = FORMATS[form]
    truth = STORED[name]()
    stored = read(save({"first": torch.zeros(3), "x": truth}, tmp_path / "t.pt", zipped=zipped))
    stored.check_storages()
    found = stored.tensors[-1]
    assert found.name == "x"
    mine = Reader(stored).read(found.layout)
    assert (mine.shape, mine.dtype) == (truth.shape, truth.dtype)
    assert not truth.numel() or mine.stride() == truth.stride()
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[truth.dtype.itemsize]  # some types lack ==
    assert torch.equal(mine.view(bits), truth.detach().view(bits))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "make",
    [
        network,
        lambda: nn.LSTM(4, 8, 2, bidirectional=True),
        lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"),
        lambda: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ParameterList([torch.zeros(2), torch.ones(1)])}),
    ],
)
def test_a_stock_module_is_built_as_torch_builds_it(make, form, tmp_path):
    path = save(make(), tmp_path / "m.pt", zipped=FORMATS[form][0])
    truth = torch.load(path, weights_only=False)  # our own file
    opened = open_model(path)
    assert opened.kind == "module"
    assert str(opened.module) == str(truth)
    assert {n: type(m) for n, m in opened.module.named_modules()} == {n: type(m) for n, m in truth.named_modules()}
    state = truth.state_dict()
    assert all(torch.equal(state[n], t) for n, t in opened.module.state_dict().items())
    grads = {n: p.requires_grad for n, p in truth.named_parameters()}
    assert {n: p.requires_grad for n, p in opened.module.named_parameters()} == grads


def test_shared_parameters_stay_shared(tmp_path):
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    for zipped in (False, True):
        module = open_model(save(tied, tmp_path / "m.pt", zipped=zipped)).module
        assert module[0].weight is module[1].weight


def test_its_tensors_are_listed(tmp_path):
    state = network().state_dict()
    opened = open_model(save(state, tmp_path / "w.pt"))
    assert opened.kind == "weights"
    assert {t.name: (t.shape, t.bytes) for t in opened.tensors} == {
        n: (tuple(t.shape), t.nbytes) for n, t in state.items()
    }


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_later_protocols_of_pickle_are_read(protocol, tmp_path):
    for zipped in (False, True):
        path = save({"w": torch.ones(3), "s": {1, 2}}, tmp_path / "w.pt", zipped=zipped, pickle_protocol=protocol)
        assert [t.shape for t in open_model(path).tensors] == [(3,)]


def test_what_would_run_is_refused_and_does_not_run(tmp_path, canary):
    path = save({"w": torch.ones(2, 3), "x": Runs(canary)}, tmp_path / "w.pt")
    with pytest.raises(RefusedError, match="open") as refused:
        open_model(path)
    assert [(t.name, t.shape) for t in refused.value.known.tensors] == [("w", (2, 3))]


def test_a_class_of_the_users_own_is_refused_with_its_tensors(tmp_path):
    for zipped in (False, True):
        with pytest.raises(RefusedError, match=r"Own, which is not stock torch\.nn, and for Linear") as refused:
            open_model(save(Own(), tmp_path / "m.pt", zipped=zipped))
        assert "--trust" in str(refused.value)
        assert "--weights" in str(refused.value)
        assert [t.name for t in refused.value.known.tensors] == ["layer.weight", "layer.bias"]


def test_with_trust_a_class_of_the_users_own_loads(tmp_path):
    assert isinstance(open_model(save(Own(), tmp_path / "m.pt"), trust=True).module, Own)


def test_with_trust_so_does_what_cannot_be_read_symbolically(tmp_path):
    odd = network()
    odd[0].note = 1 << 3000  # an opcode that is not read
    for zipped in (False, True):
        path = save(odd, tmp_path / "m.pt", zipped=zipped)
        with pytest.raises(RefusedError, match="LONG4"):
            open_model(path)
        assert open_model(path, trust=True).module[0].note == odd[0].note
        save({"w": odd[0].note}, path, zipped=zipped)
        with pytest.raises(ModelError, match="a dict with neither a network nor tensors"):
            open_model(path, trust=True)


def test_numbers_in_another_byte_order_are_not_taken(tmp_path):
    path = save(network(), tmp_path / "m.pt")
    data = path.read_bytes()
    order = b"little_endianq\x02\x88"
    assert order in data
    path.write_bytes(data.replace(order, order[:-1] + b"\x89"))
    with pytest.raises(ModelError, match="byte order"):
        open_model(path)


def test_smuggled_attributes_and_hooks_are_refused(tmp_path, canary):
    model = network()
    vars(model[0])["forward"] = nn.ReLU()
    with pytest.raises(RefusedError, match="carries forward"):
        open_model(save(model, tmp_path / "m.pt"))
    hooked = network()
    hooked[0].register_forward_hook(print)
    with pytest.raises(RefusedError):
        open_model(save(hooked, tmp_path / "m.pt"))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("_modules", {"a": 5}), ("_parameters", {"weight": "text"}), ("_buffers", [1]), ("_modules", None)],
)
def test_modules_with_odd_insides_are_refused(attribute, value, tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    vars(model[0])[attribute] = value
    for zipped in (False, True):
        with pytest.raises((RefusedError, ModelError), match=r"odd|make no module"):
            open_model(save(model, tmp_path / "m.pt", zipped=zipped))


def test_a_module_inside_itself_is_refused(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    model._modules["again"] = model
    with pytest.raises(ModelError, match="make no module"):
        open_model(save(model, tmp_path / "m.pt"))


def changed(tmp_path, change):
    path = save({"w": torch.ones(4), "v": torch.zeros(2)}, tmp_path / "w.pt")
    path.write_bytes(change(path.read_bytes()))
    return path


ONES = torch.ones(4).numpy().tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[:60], "damaged"),
        (lambda data: data[:20], "damaged"),
        (lambda data: data + b"more", "follow the last storage"),
        (lambda data: data.replace(struct.pack("<q", 4) + ONES, struct.pack("<q", 3) + ONES), "elements"),
        (lambda data: data.replace(struct.pack("<q", 4) + ONES, struct.pack("<q", -4) + ONES), "elements"),
        (lambda data: data[:15] + data[15:].replace(b"M\xe9\x03.", b"M\xe8\x03.", 1), "version"),
    ],
)
def test_damage_is_explained(change, words, tmp_path):
    with pytest.raises(ModelError, match=words):
        open_model(changed(tmp_path, change))


class _Reference:
    """Stands for a persistent id."""

    def __init__(self, key):
        self.key = key


def by_hand(path, build, keys, storages):
    """A file of that form with an object and storages of our choosing."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.key if isinstance(value, _Reference) else None

    with path.open("wb") as file:
        for value in (MAGIC, PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        buffer = io.BytesIO()
        Pickler(buffer, protocol=2).dump(build)
        file.write(buffer.getvalue())
        pickle.dump(keys, file, protocol=2)
        for data in storages:
            file.write(struct.pack("<q", len(data)) + torch.tensor(data).numpy().tobytes())
    return path


class Tensor:
    def __init__(self, key, *args):
        self.args = (_Reference(key), *args)

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (*self.args, False, OrderedDict())


def persistent(key="a", elements=6, view=None, kind=torch.FloatStorage):
    return "storage", kind, key, "cpu", elements, view


SIX = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_views_of_storages_are_followed(tmp_path):
    tensor = Tensor(persistent(view=("b", 2, 3)), 1, (2,), (1,))
    path = by_hand(tmp_path / "w.pt", {"w": tensor}, ["a"], [SIX])
    read = read_legacy(path)
    assert Reader(read).read(read.tensors[0].layout).tolist() == [3.0, 4.0]
    assert torch.load(path, weights_only=True)["w"].tolist() == [3.0, 4.0]


class Pairs:
    """An OrderedDict as Python 2 pickled it."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __reduce__(self):
        return OrderedDict, (self.pairs,)


def test_state_dicts_of_python_2_are_listed(tmp_path):
    tensor = Tensor(persistent(), 0, (2, 3), (3, 1))
    path = by_hand(tmp_path / "w.pt", Pairs([["layer.weight", tensor]]), ["a"], [SIX])
    assert [(t.name, t.shape) for t in open_model(path).tensors] == [("layer.weight", (2, 3))]


@pytest.mark.parametrize(
    ("make", "keys", "words"),
    [
        (lambda: Tensor(persistent(), 0, (7,), (1,)), ["a"], "beyond its storage"),
        (lambda: Tensor(persistent(), 3, (4,), (1,)), ["a"], "beyond its storage"),
        (lambda: Tensor(persistent(view=("b", 4, 2)), 0, (3,), (1,)), ["a"], "beyond its storage"),
        (lambda: Tensor(persistent(), -1, (2,), (1,)), ["a"], "never does"),
        (lambda: Tensor(persistent(), 0, (-2,), (1,)), ["a"], "never does"),
        (lambda: Tensor(persistent(), 0, (2, 2), (1,)), ["a"], "never does"),
        (lambda: Tensor(persistent(), 0, (1,) * 65, (1,) * 65), ["a"], "never does"),
        (lambda: Tensor(persistent(), 0, (1 << 80,), (0,)), ["a"], "never does"),
        (lambda: Tensor(persistent(view=("b", 4, 3)), 0, (1,), (1,)), ["a"], "never does"),
        (lambda: Tensor(persistent(elements=-6), 0, (), ()), ["a"], "never does"),
        (
            lambda: [Tensor(persistent(), 0, (1,), (1,)), Tensor(persistent(elements=5), 0, (1,), (1,))],
            ["a"],
            "two ways",
        ),
        (lambda: Tensor(persistent(), 0, (2,), (1,)), [], "other storages"),
        (lambda: Tensor(persistent(), 0, (2,), (1,)), ["a", "a"], "other storages"),
        (lambda: Tensor(persistent(), 0, (2,), (1,)), ["b"], "other storages"),
        (lambda: Tensor(persistent(kind=dict), 0, (2,), (1,)), ["a"], "never does"),
    ],
)
def test_tensors_that_do_not_lie_in_their_storages_are_refused(make, keys, words, tmp_path):
    path = by_hand(tmp_path / "w.pt", {"w": make()}, keys, [SIX])
    with pytest.raises((ModelError, RefusedError), match=words):
        open_model(path)


def test_the_limits_hold(tmp_path):
    path = save({"w": torch.ones(64), "deep": [[[[torch.ones(1)]]]]}, tmp_path / "w.pt")
    for limits in (
        {"opcodes": 50}, {"header_bytes": 100}, {"tensors": 1}, {"elements": 32}, {"nesting": 3}, {"name_bytes": 3},
        {"file_bytes": 100},
    ):  # fmt: skip
        with pytest.raises(RefusedError, match=rf"--limit {next(iter(limits))}="):
            open_model(path, limits=Limits(**limits))
    assert open_model(path).kind == "weights"


@pytest.mark.parametrize("place", [1, 2, 4], ids=["version", "machine", "keys"])
def test_code_around_the_object_is_refused(place, tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    path = save({"w": torch.zeros(2)}, tmp_path / "m.pt", zipped=False)
    with path.open("rb") as file:
        parts = [pickle.load(file) if n != 3 else _skipped(file) for n in range(5)]
        rest = file.read()
    parts[place] = Canary()
    path.write_bytes(b"".join(p if isinstance(p, bytes) else pickle.dumps(p, protocol=2) for p in parts) + rest)
    with pytest.raises(RefusedError, match="mkdir"):
        open_model(path)
    assert not (tmp_path / "canary").exists()


def _skipped(file):
    """The bytes of the object's pickle, which only torch can load."""
    start = file.tell()
    for _ in pickletools.genops(file):
        pass
    end = file.tell()
    file.seek(start)
    return file.read(end - start)

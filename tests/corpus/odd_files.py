"""What is no file, bare pickles, and inputs that unpickle."""

import io
import os
import pickle
from pathlib import Path

import numpy as np

from .assemble import blob, pickled, sequence, text, torch_zip
from .case import Case, Harmless, Scene
from .onnx_files import small
from .pickles import mkdir


def _fifo(scene: Scene) -> Path:
    path = scene.model / "model.pt"
    os.mkfifo(path)
    return path


def _link(target: str) -> object:
    def make(scene: Scene) -> Path:
        path = scene.model / "model.pt"
        path.symlink_to(target)
        return path

    return make


def _unreadable(scene: Scene) -> Path:
    path = scene.put("model.pt", torch_zip(b"}"))
    path.chmod(0)
    return path


def _folder(scene: Scene) -> Path:
    path = scene.model / "model.pt"
    path.mkdir()
    return path


def _joblib(scene: Scene) -> Path:
    """As joblib and scikit-learn write: a pickle with arrays between its opcodes."""
    return scene.put("model.joblib", pickled(sequence(text("sklearn"), mkdir(scene), blob(bytes(64)))))


def _compressed_pickle(scene: Scene) -> Path:
    import gzip

    return scene.put("model.pkl.gz", gzip.compress(pickled(mkdir(scene)), mtime=0))


def _numpy_objects(scene: Scene) -> Path:
    """An .npy of objects: its data is a pickle."""
    return scene.put("model.npy", _npy(scene))


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _npy(scene: Scene) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([_Runs(scene.canary)], dtype=object), allow_pickle=True)
    return file.getvalue()


def _legacy(scene: Scene) -> Path:
    """A file as torch 1.5 wrote it: magic number, protocol, system, then the pickle."""
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    system = pickle.dumps(
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2
    )
    return scene.put("model.pt", magic + protocol + system + pickled(mkdir(scene)) + pickled(b"]"))


def _legacy_system(scene: Scene) -> Path:
    """The same with the code in the third pickle, which looks like a header."""
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    return scene.put("model.pt", magic + protocol + pickled(mkdir(scene)) + pickled(b"}") + pickled(b"]"))


def _legacy_keys(scene: Scene) -> Path:
    """The same with the code in the list of storages behind the tensors."""
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    system = pickle.dumps(
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2
    )
    return scene.put("model.pt", magic + protocol + system + pickled(b"}") + pickled(mkdir(scene)))


def _npz(scene: Scene) -> tuple[Path, Path]:
    from .assemble import zipped

    return scene.put("model.onnx", small().SerializeToString()), scene.put("inputs.npz", zipped({"x.npy": _npy(scene)}))


def _bomb(scene: Scene) -> Path:
    """An .npz of 4 GiB in 4 MiB would take too long to make: the header says 2**40 elements."""
    from .assemble import zipped

    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    scene.put("inputs.npz", zipped({"x.npy": array}))
    return scene.put("model.onnx", small().SerializeToString())


_INPUTS = ("--inputs", "{model}/inputs.npz")
CASES: dict[str, Case] = {
    "bare pickle": Case(lambda s: s.put("model.pkl", pickled(mkdir(s))), "bare pickle", naive="pickle"),
    "bare pickle, protocol 0": Case(
        lambda s: s.put("model.pkl", f"cos\nmkdir\n(V{s.canary}\ntR.".encode()), "kind|pickle", (3, 4), naive="pickle"
    ),
    "bare pickle named .safetensors": Case(
        lambda s: s.put("model.safetensors", pickled(mkdir(s))), "bare pickle", naive="pickle"
    ),
    "bare pickle named .onnx": Case(lambda s: s.put("model.onnx", pickled(mkdir(s))), "bare pickle", naive="pickle"),
    "torch.save named .onnx": Case(lambda s: s.put("model.onnx", torch_zip(mkdir(s))), "run code", naive="torch.load"),
    "torch.save named .safetensors": Case(
        lambda s: s.put("model.safetensors", torch_zip(mkdir(s))), "run code", naive="zip in it"
    ),
    "joblib": Case(_joblib, "bare pickle", naive="pickle"),
    "compressed pickle": Case(_compressed_pickle, "kind", (4,)),
    "array of objects": Case(_numpy_objects, "kind", (3, 4), naive="numpy"),
    "inputs that are objects": Case(lambda s: _npz(s)[0], "inputs.npz", (3, 4), _INPUTS, naive="numpy inputs"),
    "inputs of 2**40 numbers": Case(_bomb, "inputs.npz", (3, 4), _INPUTS),
    "legacy torch.save": Case(_legacy, "run code|refused|os.mkdir|torch 1.5", naive="torch.load"),
    "named pipe": Case(_fifo, "no regular file", (4,)),
    "link to /dev/zero": Case(_link("/dev/zero"), "no regular file", (4,)),
    "link to /dev/urandom": Case(_link("/dev/urandom"), "no regular file", (4,)),
    "link to itself": Case(_link("model.pt"), "no such file|link", (4,)),
    "link to nothing": Case(_link("nothing"), "no such file", (4,)),
    "link to /proc/self/environ": Case(_link("/proc/self/environ"), ".", (3, 4)),
    "link to /proc/self/mem": Case(_link("/proc/self/mem"), ".", (3, 4)),
    "folder": Case(_folder, "folder", (4,)),
    "unreadable": Case(_unreadable, "cannot be read", (4,)),
    "empty": Case(lambda s: s.put("model.pt", b""), "empty", (4,)),
    "one byte": Case(lambda s: s.put("model.pt", b"P"), "kind", (4,)),
    "text": Case(
        lambda s: s.put("model.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        "git lfs pull",
        (4,),
    ),
    "HTML": Case(lambda s: s.put("model.pt", b"<!doctype html><title>404</title>"), "HTML", (4,)),
    "JSON": Case(lambda s: s.put("config.json", b'{"model_type": "bert"}'), ".", (3, 4)),
    "name with escapes": Case(lambda s: s.put("\x1b[2J\x07.pt", b"text"), "kind", (4,)),
    "name that is a flag": Case(lambda s: s.put("-.pt", b"text"), "kind", (4,)),
}
HARMLESS: dict[str, Harmless] = {
    "legacy torch.save, code in its header": Harmless(_legacy_system, ("",), codes=(3,), naive="torch.load"),
    "legacy torch.save, code behind": Harmless(_legacy_keys, ("",), codes=(3,), naive="torch.load"),
}

"""Which kind of file this is, by its content: names lie."""

import zipfile
from pathlib import Path

from profiler.errors import ModelError, RefusedError

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# The first byte of an ONNX file: the tag of one of ModelProto's leading fields.
_ONNX_TAGS = {0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42}


def kind_of(path: Path) -> str:
    """The kind of a model file: "torch zip", "safetensors" or "onnx".

    Raises:
        ModelError: missing, a folder, empty, or of no kind that is known.
        RefusedError: a kind that cannot be read without running it.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; name the model file in it")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise ModelError(f"{path}: is empty")
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head == _LEGACY[:16] or head.startswith(_LEGACY[:14]):
        raise ModelError(
            f"{path}: was written by torch 1.5 or older; load it where you trust it and save its state_dict again"
        )
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "safetensors"
    if head[0] in _ONNX_TAGS:
        return "onnx"
    if head[0] == 0x80:
        raise RefusedError(f"{path}: is a bare pickle; reading it would run code. Save a state_dict with torch.save")
    raise ModelError(f"{path}: is no model file of a kind that is known (torch.save, safetensors, ONNX)")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path}: is truncated or damaged ({error}); copy or download it again") from error
    leaves = {name.partition("/")[2] for name in names}
    if "constants.pkl" in leaves:
        raise RefusedError(f"{path}: is TorchScript, which runs code as it loads; export the model to ONNX instead")
    if "archive_format" in leaves or any(leaf.startswith("models/") for leaf in leaves):
        raise RefusedError(f"{path}: is a torch.export program, which unpickles as it loads; export to ONNX instead")
    if "data.pkl" in leaves:
        return "torch zip"
    raise ModelError(f"{path}: is a zip archive without a model in it; unpack it and name the model file")

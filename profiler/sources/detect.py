"""Which kind of file this is, by its content: names lie."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from profiler.errors import ModelError, RefusedError

# Torch's magic number as any protocol of pickle writes it, behind the protocol's number and the length of a frame.
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# The first byte of an ONNX file: the tag of one of ModelProto's leading fields.
_ONNX_TAGS = {0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42}
# No header is as long; the first eight characters of a text are, read as a number.
_LONG = 1 << 40
_KNOWN = "torch.save, TorchScript, torch.export, safetensors, ONNX"


def kind_of(path: Path) -> str:
    """The kind of a model file, a key of `profiler.sources.OPENERS`.

    Raises:
        ModelError: missing, a folder, empty, or of no kind that is known.
        RefusedError: of two kinds at once, or of one that cannot be read without running it.
    """
    if not path.exists():
        named = path.name == str(path) and not path.suffix
        hint = f"; a network by its name is timm:{path}, torchvision:{path} or hf:{path}" if named else ""
        raise ModelError(f"{path}: no such file{hint}")
    if path.is_dir():
        hub = (path / "config.json").is_file()
        raise ModelError(f"{path}: is a folder; " + (f"write hf:{path}" if hub else "name the model file in it"))
    if not path.is_file():
        raise ModelError(f"{path}: is no regular file")
    head = _head(path)
    if not head:
        raise ModelError(f"{path}: is empty")
    found = _by_head(head, path.stat().st_size)
    zipped = _zip_kind(path, found)
    if zipped and found and found != "zip":
        raise RefusedError(f"{path}: is a {found} file and a zip archive at once; no honest tool writes such a file")
    if zipped:
        return zipped
    if found == "zip":
        raise ModelError(f"{path}: is truncated or damaged; copy or download it again")
    if not found:
        mistaken = next((what for start, what in _MISTAKEN if head.lstrip().startswith(start)), "")
        raise ModelError(f"{path}: {mistaken or f'is no model file of a kind that is known ({_KNOWN})'}")
    if found in _REFUSED:
        raise RefusedError(f"{path}: {_REFUSED[found]}")
    return found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


# What a download often is instead of a model.
_MISTAKEN = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
    (b"<", "is a page of HTML or XML, not a model; the download went wrong"),
)
_REFUSED = {
    "tar": "is a tar archive, which is not unpacked; unpack it yourself and name the model file in it",
}


def _header_follows(head: bytes, size: int) -> bool:
    """Whether this is the length of a safetensors header and its beginning; of a file cut short, too."""
    length = int.from_bytes(head[:8], "little")
    return (head[8:10] == b'{"' and length < _LONG) or (head[8:9] == b"{" and 2 <= length <= size)


# By what the first bytes announce, the surest first: (kind, whether these are the first bytes of one of `size`).
_HEADS: tuple[tuple[str, Callable[[bytes, int], bool]], ...] = (
    ("zip", lambda head, _: head.startswith(b"PK\x03\x04")),
    ("legacy torch", lambda head, _: head[0] == 0x80 and _LEGACY in head[:32]),
    ("tar", lambda head, _: head[257:262] == b"ustar"),
    ("safetensors", _header_follows),
    ("pickle", lambda head, _: head[0] == 0x80),
    ("index", lambda head, _: head.lstrip()[:1] == b"{"),
    ("onnx", lambda head, _: head[0] in _ONNX_TAGS),
)


def _by_head(head: bytes, size: int) -> str:
    """The kind that the first bytes announce, "" where they announce none."""
    return next((kind for kind, announced in _HEADS if announced(head, size)), "")


def _zip_kind(path: Path, found: str) -> str:
    """The kind of model in a zip archive, "" where the file is none; `found` is what the file's head announces."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            start = min((info.header_offset for info in archive.infolist()), default=0)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return ""
    if start > 0 and found in ("", "zip"):  # readers disagree on where such an archive begins
        raise RefusedError(f"{path}: {start:,} bytes stand before its zip archive; no honest tool writes such a file")
    leaves = {name.partition("/")[2] for name in names}
    program = "archive_format" in leaves or any(leaf.startswith("models/") for leaf in leaves)
    program |= "serialized_exported_program.json" in names  # an older, flat archive
    script = "constants.pkl" in leaves
    if program and script:
        raise RefusedError(f"{path}: is TorchScript and a torch.export program at once; no honest tool writes this")
    if program:
        return "program"
    if script:
        return "torchscript"
    if "data.pkl" in leaves:
        return "torch zip"
    raise ModelError(f"{path}: is a zip archive without a model in it; unpack it and name the model file")

"""The header of a safetensors file, checked by the format's rules before any library sees the file.

Eight bytes hold the header's length; the header is a JSON object from names to {"dtype", "shape", "data_offsets"}, with
strings in an optional "__metadata__"; the rest of the file is the buffer. The tensors lie in the buffer one after the
other: none overlap, nothing is left over, and each is as long as its size and element type say.
"""

from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from profiler.errors import ModelError
from profiler.sources.checkpoint import TensorEntry
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.strict_json import parse_json

# By the format's name of an element type: torch's name, and the bits of one element.
DTYPES: dict[str, tuple[str, int]] = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F6_E3M2": ("float6_e3m2", 6),
    "F6_E2M3": ("float6_e2m3", 6),
    "F4": ("float4_e2m1fn", 4),
    "C64": ("complex64", 64),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
}
METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
_LENGTH_BYTES = 8
_MOST_AXES = 64  # torch's own limit


class _Stored(NamedTuple):
    begin: int
    end: int
    entry: TensorEntry


def read_header(path: Path, limits: Limits = DEFAULT) -> tuple[TensorEntry, ...]:
    """The tensors that a safetensors file declares, in the order of the header.

    Raises:
        ModelError: the file is cut short, or breaks a rule of the format.
        RefusedError: it asks for more than the limits allow, or has a name twice.
    """
    data, buffer = _header_bytes(path, limits)
    what = f"{path}, its safetensors header"
    # Before it is parsed, which takes a hundred times the header's memory.
    limits.check("tensors", data.count(b'"data_offsets"'), str(path))
    header = parse_json(data, what, limits)
    if not isinstance(header, dict):
        raise ModelError(f"{what}: is no JSON object")
    _check_metadata(header.pop(METADATA, {}), what)
    limits.check("tensors", len(header), str(path))
    stored = [_stored(name, described, what, limits) for name, described in header.items()]
    _check_layout(stored, buffer, path)
    return tuple(s.entry for s in stored)


def _header_bytes(path: Path, limits: Limits) -> tuple[bytes, int]:
    """The header, and how many bytes the buffer behind it has."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
                raise ModelError(
                    f"{path}: is no whole safetensors file: its header should have {length:,} bytes, and the file has "
                    f"{size:,}; copy or download it again"
                )
            limits.check("header_bytes", length, f"{path}, its safetensors header")
            data = file.read(length)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if not data.startswith(b"{"):
        raise ModelError(f"{path}: is no safetensors file: its header is no JSON object")
    return data, size - _LENGTH_BYTES - length


def _check_metadata(metadata: Any, what: str) -> None:  # noqa: ANN401  # any JSON value
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ModelError(f"{what}: {METADATA} holds something else than strings")


def _stored(name: str, described: Any, what: str, limits: Limits) -> _Stored:  # noqa: ANN401  # any JSON value
    """One tensor of the header."""
    try:
        limits.check("name_bytes", len(name.encode()), what)
    except UnicodeEncodeError as error:
        raise ModelError(f"{what}: a name is no text ({name[:80]!r})") from error
    said = f"{what}: the tensor {name[:80]!r}"
    if not isinstance(described, dict) or described.keys() != _FIELDS:
        raise ModelError(f"{said} is described by something else than {', '.join(sorted(_FIELDS))}")
    dtype, shape, offsets = (described[field] for field in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelError(f"{said} has the element type {str(dtype)[:40]!r}, which is not known")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES:
        raise ModelError(f"{said} has no shape of at most {_MOST_AXES} whole numbers")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ModelError(f"{said} has no pair of offsets")
    elements = prod(shape)
    limits.check("elements", elements, said)
    kind, bits = DTYPES[dtype]
    size = elements * bits // 8
    if elements * bits % 8 or offsets[1] - offsets[0] != size:
        raise ModelError(f"{said} should have {elements * bits / 8:,.10g} bytes, its offsets span {_span(offsets):,}")
    return _Stored(offsets[0], offsets[1], TensorEntry(name, tuple(shape), kind, size, name))


def _are_sizes(values: Any) -> bool:  # noqa: ANN401  # any JSON value
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _span(offsets: list[int]) -> int:
    return offsets[1] - offsets[0]


def _check_layout(stored: list[_Stored], buffer: int, path: Path) -> None:
    """The tensors must fill the buffer, one after the other."""
    end = 0
    for tensor in sorted(stored, key=lambda s: (s.begin, s.end)):
        if tensor.begin != end:
            wrong = "overlaps the one before it" if tensor.begin < end else "leaves a gap before it"
            raise ModelError(
                f"{path}: the tensor {tensor.entry.name[:80]!r} {wrong}; the file is damaged or tampered with"
            )
        end = tensor.end
    if end != buffer:
        more = "is cut short" if end > buffer else "has bytes that belong to no tensor"
        raise ModelError(
            f"{path}: is no whole safetensors file: it {more} ({end:,} bytes of tensors, {buffer:,} in the file); "
            "copy or download it again"
        )

"""Arguments of operators as a torch.export program writes them: from their JSON to Python values.

Each is an object of one key, which says what the value is: `{"as_ints": [1, 1]}`, `{"as_tensor": {"name": "x"}}`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


class Malformed(Exception):  # noqa: N818  # the reader turns it into an error that names the file
    """Something in the JSON is not what belongs there."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of a value that another operator, or an input, gives."""

    name: str


# Torch's numbers for element types; see torch/_export/serde/schema.py.
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16, 29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz, 33: torch.float8_e8m0fnu, 34: torch.uint32, 35: torch.uint64,
}  # fmt: skip
_LAYOUTS: dict[int, torch.layout] = {
    1: torch.sparse_coo, 2: torch.sparse_csr, 3: torch.sparse_csc, 4: torch.sparse_bsr, 5: torch.sparse_bsc,
    7: torch.strided,
}  # fmt: skip
_MEMORY_FORMATS: dict[int, torch.memory_format] = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
# JSON has no such numbers; torch writes them as words.
_NO_NUMBERS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
Read = Callable[[Any], Any]


def tagged(value: Any) -> tuple[str, Any]:  # noqa: ANN401  # any JSON
    """Key and value of an object that has one key."""
    if not isinstance(value, dict) or len(value) != 1:
        raise Malformed("an object of one key was expected")
    return next(iter(value.items()))


def as_list(value: Any) -> list[Any]:  # noqa: ANN401  # any JSON
    """A list."""
    if not isinstance(value, list):
        raise Malformed(f"a {type(value).__name__} is where a list belongs")
    return value


def as_text(value: Any) -> str:  # noqa: ANN401  # any JSON
    """A string without the zero character, which no name in Python has."""
    if not isinstance(value, str) or "\0" in value:
        raise Malformed(f"a {type(value).__name__} is where a string belongs")
    return value


def as_whole(value: Any) -> int:  # noqa: ANN401  # any JSON
    """A whole number."""
    if type(value) is not int:
        raise Malformed(f"a {type(value).__name__} is where a whole number belongs")
    return value


def _as_float(value: Any) -> float:  # noqa: ANN401  # any JSON
    number = _NO_NUMBERS.get(value, value) if isinstance(value, str) else value
    if type(number) not in (int, float):
        raise Malformed(f"a {type(value).__name__} is where a number belongs")
    return float(number)


def _as_bool(value: Any) -> bool:  # noqa: ANN401  # any JSON
    if type(value) is not bool:
        raise Malformed(f"a {type(value).__name__} is where true or false belongs")
    return value


def _named(value: Any) -> Ref:  # noqa: ANN401  # any JSON
    if not isinstance(value, dict) or "name" not in value:
        raise Malformed("a tensor without a name")
    return Ref(as_text(value["name"]))


def _complex(value: Any) -> complex:  # noqa: ANN401  # any JSON
    if not isinstance(value, dict) or value.keys() != {"real", "imag"}:
        raise Malformed("a complex number without its parts")
    return complex(_as_float(value["real"]), _as_float(value["imag"]))


def _one_of(table: dict[int, Any]) -> Read:
    def read(value: Any) -> Any:  # noqa: ANN401  # an entry of the table
        if as_whole(value) not in table:
            raise Malformed(f"{value} stands for nothing that is known")
        return table[value]

    return read


def _many(read: Read) -> Read:
    return lambda value: [read(v) for v in as_list(value)]


def _either(**kinds: Read) -> Read:
    """An object of one key, of a few."""

    def read(value: Any) -> Any:  # noqa: ANN401  # one of these
        kind, held = tagged(value)
        if kind not in kinds:
            raise Malformed(f"{kind!r} is not known here")
        return kinds[kind](held)

    return read


def _reference(value: Any) -> Ref:  # noqa: ANN401  # any JSON
    return Ref(as_text(value))


def _nothing(_value: Any) -> None:  # noqa: ANN401  # whatever stands there
    return None


def _processor(_value: Any) -> torch.device:  # noqa: ANN401  # any device
    """A program runs where its values are, whatever device it was exported on."""
    return torch.device("cpu")


_sym_int = _either(as_name=_reference, as_int=as_whole)
_sym_float = _either(as_name=_reference, as_float=_as_float)
_sym_bool = _either(as_name=_reference, as_bool=_as_bool)
_optional_tensor = _either(as_tensor=_named, as_none=_nothing)

ARGUMENTS: dict[str, Read] = {
    "as_none": _nothing,
    "as_tensor": _named,
    "as_tensors": _many(_named),
    "as_int": as_whole,
    "as_ints": _many(as_whole),
    "as_float": _as_float,
    "as_floats": _many(_as_float),
    "as_string": as_text,
    "as_strings": _many(as_text),
    "as_sym_int": _sym_int,
    "as_sym_ints": _many(_sym_int),
    "as_scalar_type": _one_of(DTYPES),
    "as_memory_format": _one_of(_MEMORY_FORMATS),
    "as_layout": _one_of(_LAYOUTS),
    "as_device": _processor,
    "as_bool": _as_bool,
    "as_bools": _many(_as_bool),
    "as_sym_bool": _sym_bool,
    "as_sym_bools": _many(_sym_bool),
    "as_optional_tensors": _many(_optional_tensor),
    "as_optional_tensor": _optional_tensor,
    "as_custom_obj": _named,
    "as_operator": as_text,
    "as_sym_float": _sym_float,
    "as_sym_floats": _many(_sym_float),
    "as_complex": _complex,
    "as_nested_tensors": _many(_many(_named)),
    "as_int_lists": _many(_many(as_whole)),
    "as_float_lists": _many(_many(_as_float)),
}

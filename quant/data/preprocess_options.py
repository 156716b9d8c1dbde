"""`--preprocess`: KEY=VALUE pairs and configuration files become one `Preprocessing`.

`resize=256` means the shorter side, `resize=longer:640` the longer one, `resize=224x320` height and width. Keys
override what a configuration says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.errors import UsageError
from quant.data.preprocess_configurations import from_configuration, from_timm
from quant.data.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = tuple(f.name for f in fields(Preprocessing) if f.name != "resize_by")
_SPELLINGS = {"color": "colour", "gray": "grey", "rgb": "RGB", "bgr": "BGR", "nchw": "NCHW", "nhwc": "NHWC"}
NEEDED = (
    "give --preprocess KEY=VALUE for each of resize, crop, mean, std and what else it needs (docs/data.md), "
    "or --preprocess FILE.json, timm:NAME or hf:FOLDER"
)


def as_preprocessing(value: Any) -> tuple[Preprocessing, str] | None:  # noqa: ANN401  # every form it comes in
    """What to do to pictures, and where that was found.

    Args:
        value: a `Preprocessing`, a mapping of keys, one text or several as `--preprocess` takes them; None for none.

    Raises:
        UsageError: an unknown key, or a value that cannot be read.
        DataError: a configuration that cannot be read or asks for what is not done here.
    """
    if value is None or (isinstance(value, list | tuple) and not value):
        return None
    if isinstance(value, Preprocessing):
        return value, "as given"
    if isinstance(value, Mapping):
        return _changed(Preprocessing(), value), "as given"
    texts = [value] if isinstance(value, str | Path) else list(value)
    pairs, bases = {}, []
    for text in map(str, texts):
        key, separator, given = text.partition("=")
        if separator and not Path(text).is_file():
            pairs[key.strip()] = given.strip()
        else:
            bases.append(text)
    if len(bases) > 1:
        raise UsageError(
            f"--preprocess: two configurations, {bases[0]} and {bases[1]}; give one, and KEY=VALUE to change it"
        )
    base = _configuration(bases[0]) if bases else Preprocessing()
    return _changed(base, pairs), f"by {bases[0]}" if bases else "as given"


def _configuration(text: str) -> Preprocessing:
    if text.startswith("timm:"):
        return from_timm(text)
    path = Path(text.removeprefix("hf:")).expanduser()
    if path.is_dir():
        path /= "preprocessor_config.json"
    if not path.is_file():
        raise UsageError(
            f"--preprocess {text}: neither KEY=VALUE nor a file; the keys are {', '.join(KEYS)}, and a file may be "
            "JSON of these, timm's config.json or transformers' preprocessor_config.json"
        )
    return from_configuration(path, lambda pairs: _changed(Preprocessing(), pairs, f"{path}: "))


def _changed(base: Preprocessing, pairs: Mapping[str, Any], where: str = "--preprocess ") -> Preprocessing:
    found: dict[str, Any] = {}
    for written_key, value in pairs.items():
        key = _SPELLINGS.get(written_key, written_key)
        if key not in _READERS:
            raise UsageError(f"{where}{written_key}: no such key; there is {', '.join(KEYS)}")
        try:
            found |= _READERS[key](key, value)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise UsageError(f"{where}{written_key}={value}: {error}") from error
    if "scale" not in found and found.get("dtype") in ("uint8", "int8"):
        found["scale"] = 1.0  # the pixels as they are
    return replace(base, **found)


def _resize(_key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401  # text, or a JSON value
    if isinstance(value, str) and ":" in value:
        by, _, side = value.partition(":")
        if by not in ("shorter", "longer"):
            raise ValueError("write SIDE, shorter:SIDE, longer:SIDE or HEIGHTxWIDTH")
        return {"resize": (int(side), int(side)), "resize_by": by}
    sides = _sides(value)
    exact = sides is not None and (isinstance(value, list | tuple) or "x" in str(value))
    return {"resize": sides, "resize_by": "exact" if exact else "shorter"}


def _sides(value: Any) -> tuple[int, int] | None:  # noqa: ANN401  # as above
    if value is None or value == "none":
        return None
    parts = value if isinstance(value, list | tuple) else str(value).split("x")
    if len(parts) not in (1, 2) or not all(str(part).isdecimal() for part in parts):
        raise ValueError("write a number of pixels, HEIGHTxWIDTH, or none")
    return int(parts[0]), int(parts[-1])


def _number(value: Any) -> float:  # noqa: ANN401  # as above
    return float(Fraction(value.strip())) if isinstance(value, str) else float(value)


def _numbers(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401  # as above
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return {key: tuple(map(_number, parts))}


def _word(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401  # as above
    return {key: _SPELLINGS.get(str(value), str(value))}


_READERS: Mapping[str, Callable[[str, Any], dict[str, Any]]] = {
    "resize": _resize,
    "crop": lambda key, value: {key: _sides(value)},
    "interpolation": _word,
    "scale": lambda key, value: {key: _number(value)},
    "mean": _numbers,
    "std": _numbers,
    "colour": _word,
    "layout": _word,
    "dtype": _word,
    "half_pixel": _word,
    "fill": lambda key, value: {key: int(value)},
    "exif": _word,
}


def written(preprocessing: Preprocessing, key: str) -> str:
    """A value as `--preprocess` takes it."""
    value = getattr(preprocessing, key)
    if value is None:
        return "none"
    if key == "resize" and preprocessing.resize_by != "exact":
        return f"{preprocessing.resize_by}:{value[0]}"
    if key in ("resize", "crop"):
        return "x".join(map(str, value))
    if key == "scale":
        fraction = Fraction(value).limit_denominator(1 << 16)
        return str(fraction) if float(fraction) == value else repr(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(f"{number:.6g}" for number in value)
    return str(value)

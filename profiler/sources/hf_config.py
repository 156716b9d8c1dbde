"""Configurations of transformers models, as data: nothing in one makes code run or a file be fetched.

A config.json may ask for more than sizes: Python files beside it (`auto_map`), compiled kernels from the hub
(`_attn_implementation`), weights under another name. What asks for such things is left out before transformers sees it.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from profiler.environment import version
from profiler.errors import ModelError, NetgaugeError, RefusedError, UsageError
from profiler.sources.limits import DEFAULT, Limits
from profiler.sources.named import importing, unknown
from profiler.sources.strict_json import read_json

# Keys that pick code, fetch something, or say where weights lie.
LEFT_OUT = frozenset(
    {
        *("auto_map", "custom_pipelines", "trust_remote_code", "transformers_weights", "quantization_config"),
        *(
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_internal",
            "attn_implementation_internal",
        ),
        *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
        *("kernel_config", "use_kernels", "_commit_hash", "_name_or_path", "name_or_path"),
    }
)
# How transformers writes a number that JSON has no word for.
_FLOAT, _FLOATS = "__float__", ("Infinity", "-Infinity", "NaN")
_NO_WEIGHTS = frozenset({"use_pretrained_backbone"})


def read_config(path: Path, target: str, limits: Limits = DEFAULT) -> dict[str, Any]:
    """The content of a config.json.

    Raises:
        ModelError: it is none, or belongs to another library.
        RefusedError: it is too long or too deep, has a key twice, or its architecture is code beside it.
    """
    values = read_json(path, limits, special_floats=True)
    if not isinstance(values, dict):
        raise ModelError(f"{path}: is no configuration: it holds no JSON object")
    if isinstance(values.get("model_type"), str):
        return values
    if isinstance(values.get("architecture"), str):
        raise ModelError(f"{target}: is a network of timm's; name it as timm:{values['architecture'][:80]}")
    if "auto_map" in values:
        raise RefusedError(_code(target))
    raise ModelError(f"{path}: is no configuration of a transformers model: it has no model_type")


def _code(target: str) -> str:
    return (
        f"{target}: its architecture is Python code that comes with it (auto_map), which is not run. If you trust its "
        "maker, write a FILE.py with a function that loads it and name FILE.py:function"
    )


def configuration(
    transformers: Any,  # noqa: ANN401  # the package
    target: str,
    model_type: str,
    values: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> Any:  # noqa: ANN401  # a configuration
    """A configuration of that type.

    Args:
        transformers: the package.
        target: what the user named, for messages.
        model_type: what transformers registers it under.
        values: of a config.json; none for the defaults.
        changes: what the user sets; dots lead into nested configurations.

    Raises:
        ModelError: no such type, or the values do not fit it.
        RefusedError: no such type, and its architecture is code that comes with it.
        UsageError: a change names nothing that the configuration has.
    """
    known = transformers.CONFIG_MAPPING
    if model_type not in known:
        if "auto_map" in values:
            raise RefusedError(_code(target))
        where = f"transformers {version('transformers') or ''}".strip()
        raise unknown(target, model_type, known.keys(), where)
    with importing(target, "transformers"):
        made = known[model_type]
    _check_changes(made, target, changes)
    merged = cleaned(values)
    other_names: Mapping[str, str] = getattr(made, "attribute_map", {})
    for name, value in changes.items():
        _put(merged, other_names.get(name, name).split("."), value)
    try:
        return made.from_dict(merged)
    except NetgaugeError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{target}: is no configuration that fits: {type(error).__name__}: {reason}") from error


def cleaned(values: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Without the keys that pick code or fetch something, however deep they lie; special floats as numbers."""
    if isinstance(values, Mapping) and values.keys() == {_FLOAT} and values[_FLOAT] in _FLOATS:
        return float(values[_FLOAT])
    if isinstance(values, Mapping):
        kept = {key: cleaned(value) for key, value in values.items() if key not in LEFT_OUT}
        return {key: False if key in _NO_WEIGHTS else value for key, value in kept.items()}
    if isinstance(values, list):
        return [cleaned(value) for value in values]
    return values


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:  # noqa: ANN401  # any JSON value
    for name in path[:-1]:
        below = values.get(name)
        values[name] = values = dict(below) if isinstance(below, Mapping) else {}
    values[path[-1]] = value


def _check_changes(made: Any, target: str, changes: Mapping[str, Any]) -> None:  # noqa: ANN401  # a configuration's class
    """Transformers takes any key and ignores those it does not know; a misspelt one is said here."""
    for name in changes:
        if name.rpartition(".")[2] in LEFT_OUT:
            raise UsageError(f"--set {name}: picks code or weights, which a configuration may not do here")
        try:
            below = made()
        except Exception:  # noqa: BLE001  # some have no defaults: then nothing can be checked
            return
        for part in name.split("."):
            if not hasattr(below, part):
                near = get_close_matches(part, _names(below), n=3)
                meant = f"; near it: {', '.join(near)}" if near else ""
                raise UsageError(f"--set {name}: {target} has no {part!r} in its configuration{meant}")
            below = getattr(below, part)
            if below is None:
                break  # a nested configuration that is made from its values only


def _names(config: Any) -> Iterable[str]:  # noqa: ANN401  # a configuration
    return [name for name in vars(config) if not name.startswith("_")]

"""temporary"""

import importlib.util

from profiler.errors import ModelError


def load_attribute(spec: str) -> object:
    file, _, name = spec.rpartition(":")
    try:
        s = importlib.util.spec_from_file_location("_ng_user", file)
        m = importlib.util.module_from_spec(s)
        s.loader.exec_module(m)
        return getattr(m, name)
    except Exception as e:
        raise ModelError(f"{spec}: {e}") from e

"""How much a file may ask for before it is refused. Each limit can be raised by name: `--limit members=200000`."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from profiler.environment import physical_memory
from profiler.errors import RefusedError, UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is taken from a file nobody vouches for. Far above what models in use need.

    Attributes:
        file_bytes: of the file itself.
        members: entries of an archive.
        ratio: bytes of an archive unpacked, over those of the file.
        header_bytes: a header, a pickle or a graph's JSON: what is parsed as a whole.
        opcodes: steps of a pickle.
        tensors: stored tensors.
        elements: declared elements of one tensor.
        nodes: operators of a graph, those of its subgraphs included.
        name_bytes: length of a name.
        nesting: containers, modules or graphs inside each other.
        shards: files that an index names.
        memory: bytes that the process of `--trust` may map beyond what Python and torch take; the machine's memory
            where nothing is said.
        seconds: of processor time that it may take, all threads together.
        written: bytes of the largest file that it may write.
    """

    file_bytes: int = 1 << 40
    members: int = 100_000
    ratio: int = 4
    header_bytes: int = 100_000_000
    opcodes: int = 2_000_000
    tensors: int = 1_000_000
    elements: int = 1 << 40
    nodes: int = 1_000_000
    name_bytes: int = 4096
    nesting: int = 200
    shards: int = 10_000
    memory: int = field(default_factory=lambda: physical_memory() or 1 << 40)
    seconds: int = 3600
    written: int = 8 << 30

    def check(self, name: str, value: int, what: str) -> None:
        """Refuse what goes beyond a limit.

        Args:
            name: of the limit.
            value: what the file asks for.
            what: the file, or the file and the part of it that asks.

        Raises:
            RefusedError: it asks for more.
        """
        most: int = getattr(self, name)
        if value > most:
            words = _WORDS.get(name, name)
            raise RefusedError(f"{what}: {value:,} {words}, more than {most:,}; --limit {name}={value} lets it pass")

    def raised(self, texts: Iterable[str]) -> "Limits":
        """With other limits, each written NAME=N.

        Raises:
            UsageError: no such limit, or no number.
        """
        names = [f.name for f in fields(self)]
        changed = {}
        for text in texts:
            name, _, number = text.partition("=")
            if name in names and not number.isdecimal():
                raise UsageError(f"--limit {text}: {number!r} is no whole number; write {name}={getattr(self, name)}")
            if name not in names:
                raise UsageError(f"--limit {text}: write NAME=N; the limits are {', '.join(names)}")
            changed[name] = int(number)
        return replace(self, **changed)


DEFAULT = Limits()
_WORDS = {
    "file_bytes": "bytes",
    "members": "members",
    "ratio": "times its size when unpacked",
    "header_bytes": "bytes to parse",
    "elements": "elements in one tensor",
    "name_bytes": "bytes in one name",
    "nesting": "levels of nesting",
}


def check_file(path: Path, limits: Limits) -> None:
    """Refuse a file that is too big to be looked at."""
    limits.check("file_bytes", path.stat().st_size, str(path))

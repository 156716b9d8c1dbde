"""Names cut to a width so that different names still look different."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.cells import cell_len

DOTS = "..."
# The branches of a tree before a name and the number of a call after it are never cut.
_PARTS = re.compile(r"^([│├└ ]*)(.*?)( #\d+)?$", re.DOTALL)


def shorten(names: Iterable[str], width: int) -> dict[str, str]:
    """What to show for each name in `width` characters.

    Of several ways to cut, the one that leaves most of the names different is taken for all; a name that looks like
    another even so is cut in the way that tells it from those before it, where there is one.

    Args:
        names: as they would be shown with room for all of them.
        width: characters, at least 4.
    """
    names = list(dict.fromkeys(names))
    long = [name for name in names if cell_len(name) > width]
    taken = {name for name in names if cell_len(name) <= width}
    shown = {name: name for name in taken}
    best = max(WAYS, key=lambda way: len({_cut(name, width, way) for name in long} - taken))
    for name in long:
        choices = [_cut(name, width, way) for way in (best, *WAYS)]
        shown[name] = next((text for text in choices if text not in taken), choices[0])
        taken.add(shown[name])
    return shown


Way = Callable[[str, int], str]


def _cut(name: str, width: int, way: Way) -> str:
    parts = _PARTS.match(name)
    before, path, after = parts.groups("") if parts else ("", name, "")
    room = width - cell_len(before) - cell_len(after)
    if cell_len(path) <= room:
        return name
    return before + way(path, room) + after if room > len(DOTS) else end(name, width)


def end(path: str, width: int) -> str:
    """The last characters: ...er1.0.conv1."""
    return DOTS + _last(path, width - len(DOTS)) if width > len(DOTS) else _last(path, width)


def initials(path: str, width: int) -> str:
    """Modules from the outermost on by their first letter and their number: l1.0.conv1."""
    parts = path.split(".")
    for n, part in enumerate(parts[:-1]):
        parts[n] = re.sub(r"^(\D)\D*?(\d*)$", r"\1\2", part)
        if cell_len(".".join(parts)) <= width:
            break
    text = ".".join(parts)
    return text if cell_len(text) <= width else end(text, width)


def _middle(tail: int) -> Way:
    """The first characters and the last `tail` quarters."""

    def cut(path: str, width: int) -> str:
        last = (width - len(DOTS)) * tail // 4
        return _first(path, width - len(DOTS) - last) + DOTS + _last(path, last)

    return cut


# In the order in which they are preferred.
WAYS: Sequence[Way] = (end, initials, _middle(3), _middle(2), _middle(1))


def _first(text: str, cells: int) -> str:
    return "".join(_within(text, cells))


def _last(text: str, cells: int) -> str:
    return "".join(_within(text[::-1], cells))[::-1]


def _within(text: Iterable[str], cells: int) -> Iterator[str]:
    """Characters as long as there is room for them; some take two places on a terminal."""
    for character in text:
        cells -= cell_len(character)
        if cells < 0:
            return
        yield character

"""Text that may come from a file, made harmless before it reaches a terminal, a page or a spreadsheet."""

# Of a longer line the beginning and the end are shown.
MOST_SHOWN = 1000
# A spreadsheet takes a cell that begins with one of these for a formula, and runs it.
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    """A name from a file, with control characters escaped so that it cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sentence(text: str) -> str:
    """A note with names from a file in it, on one line and of a length that can be read."""
    text = printable(text)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]} ... {text[-MOST_SHOWN // 2 :]}"


def message(text: str) -> str:
    """As `sentence`, for errors, which may have several lines."""
    return "\n".join(map(sentence, text.split("\n")))


def cell(value: object) -> object:
    """A value for a file of comma-separated ones: text that a spreadsheet would run gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

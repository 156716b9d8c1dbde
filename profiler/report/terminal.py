"""What the terminal can show: how wide it is, and whether it takes colour."""

import os
from shutil import get_terminal_size
from typing import TextIO


def width(stream: TextIO) -> int | None:
    """Characters in a line; None where the text goes to a file or another program and COLUMNS is not set."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return get_terminal_size().columns
    return None


def color(stream: TextIO) -> bool:
    """Whether colour codes may be written: to a terminal only, and never where NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def fitting(text: str, stream: TextIO) -> str:
    """Text with what the stream's encoding lacks replaced: branches of a tree by ASCII, letters by question marks."""
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(str.maketrans("│├└", "|+`")).encode(encoding, "replace").decode(encoding)
    return text

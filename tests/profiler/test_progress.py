"""Progress: nothing unless a person looks, and only when it takes long."""

import io
import time

from profiler.progress import shown, silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_terminal_no_progress(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with shown(after=0) as progress:
        assert progress is silent


def shown_after(seconds, monkeypatch, until):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with shown(after=seconds) as progress:
        progress("counting", None)
        progress("half of it", 0.5)
        end = time.monotonic() + 10
        while until and not stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    return stream.getvalue()


def test_a_terminal_sees_the_stage(monkeypatch):
    assert "half of it" in shown_after(0, monkeypatch, until=True)


def test_quick_work_shows_nothing(monkeypatch):
    assert "half of it" not in shown_after(1000, monkeypatch, until=False)

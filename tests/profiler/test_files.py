"""Results: whole or not at all, and never in the place of a device."""

import os
import sys
import threading
from pathlib import Path

import pytest

from profiler.errors import UsageError
from profiler.files import check_writable, write_whole

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="has neither named pipes nor links for everybody")


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_new_file_and_one_written_over(tmp_path):
    place = tmp_path / "report.json"
    assert write_whole(place, "one") == place
    write_whole(place, b"two")
    assert place.read_bytes() == b"two"
    assert names(tmp_path) == ["report.json"]


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    place = tmp_path / "report.json"
    write_whole(place, "before")

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        write_whole(place, "after")
    assert place.read_text() == "before"
    assert names(tmp_path) == ["report.json"]


@POSIX
def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    assert write_whole(pipe, "whole") == pipe
    reader.join(10)
    assert received == [b"whole"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@POSIX
def test_null_device_stays_one():
    write_whole(os.devnull, "nothing")
    assert Path(os.devnull).is_char_device()


@POSIX
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path, there):
    (tmp_path / "results").mkdir()
    file, link = tmp_path / "results" / "of_today.json", tmp_path / "latest.json"
    if there:
        file.write_text("before")
    link.symlink_to(file)
    assert write_whole(link, "after") == link
    assert link.is_symlink()
    assert file.read_text() == "after"
    assert names(file.parent) == ["of_today.json"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("folder", "is a folder"), ("none/file", "does not exist; create it first"), ("dangling", "does not exist")],
)
def test_what_cannot_be_written_is_said_before_work_starts(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    if name == "dangling":
        (tmp_path / name).symlink_to(tmp_path / "none" / "file")
    with pytest.raises(UsageError, match=words):
        check_writable(tmp_path / name)

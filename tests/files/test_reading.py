"""Only regular files are opened, so that reading never waits and always ends."""

import os
from pathlib import Path

import pytest

from setmatch.files.reading import open_regular, read_bytes, read_text, require_regular
from special_files import SPECIAL


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [open_regular, read_bytes, read_text, require_regular])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str, read):
    path = tmp_path / "a.json"
    SPECIAL[kind](path)
    with pytest.raises(OSError, match=r"regular file|directory") as caught:
        read(path)
    assert caught.value.filename == str(path)


@pytest.mark.timeout(20)
def test_a_fifo_that_takes_the_place_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between the first look and the opening; the second look is at the opened file."""
    path = tmp_path / "a.json"
    path.write_text("{}")
    regular = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr("os.stat", lambda path: regular)
    with pytest.raises(OSError, match="is a FIFO"):
        open_regular(path)


def test_files_are_read_as_they_are(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfa\r\n\x1ab")
    assert read_bytes(path) == path.read_bytes()
    assert read_text(path) == "\ufeffa\n\x1ab"
    assert read_text(path, "utf-8-sig") == "a\n\x1ab"


def test_a_file_larger_than_the_memory_is_an_error_of_the_file(tmp_path: Path):
    """It takes no space on the disk."""
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(OSError, match="Cannot allocate memory") as caught:
        read_bytes(path)
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-8-sig"])
def test_the_mark_of_utf_16_counts_more_than_what_is_expected(tmp_path: Path, encoding: str):
    """PowerShell writes lists and label files in it."""
    text = "images/é.png\nimages/b.png\n"
    (tmp_path / "list").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read_text(tmp_path / "list", "utf-8-sig") == text
    for size in (0, 1):  # shorter than any mark
        (tmp_path / "short").write_bytes(b"a" * size)
        assert read_text(tmp_path / "short") == "a" * size
    (tmp_path / "cut").write_bytes(b"\xff\xfea\0b")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "cut")

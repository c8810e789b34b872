"""Files appear whole or not at all."""

import errno
from pathlib import Path

import pytest

from setmatch.errors import ConfigError
from setmatch.files import require_file, require_folder, whole_file


def test_a_file_appears_when_it_is_complete(tmp_path: Path):
    """Until the end there is no file of that name; folders on the way are made."""
    path = tmp_path / "new/deep/file.txt"
    with whole_file(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    """What was there before is intact, and nothing half-written stays beside it."""
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as aside:
        aside.write_text(f"half{1 // 0}")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_after_bytes_leaves_nothing(tmp_path: Path):
    """Bytes that were written before the failure are removed with it."""
    path = tmp_path / "file.txt"
    with pytest.raises(TypeError), whole_file(path) as aside:
        aside.open("w").writelines(["half", 0])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The one that was asked for: the system names none, or the one that is written beside it."""
    path = tmp_path / "file.txt"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as raised, whole_file(path) as to:
        to.write_text("whole")
    assert raised.value.filename == str(path)
    monkeypatch.undo()
    path.mkdir()
    with pytest.raises(IsADirectoryError) as raised, whole_file(path) as to:
        to.write_text("whole")
    assert raised.value.filename == str(path)


def test_another_files_error_keeps_its_name(tmp_path: Path):
    """What cannot be read while writing is not what cannot be written."""
    with pytest.raises(FileNotFoundError) as raised, whole_file(tmp_path / "file.txt"):
        (tmp_path / "source.txt").read_text()
    assert raised.value.filename == str(tmp_path / "source.txt")


def test_what_cannot_be_written_is_named_before_the_work(tmp_path: Path):
    """A folder in a file's place, a file in a folder's; folders that are missing can be made."""
    (tmp_path / "file").write_text("here")
    require_file(tmp_path / "file")
    require_file(tmp_path / "new/deep/page.html")
    require_folder(tmp_path / "new/deep")
    require_folder(tmp_path)
    with pytest.raises(ConfigError, match="a folder; name the file to write"):
        require_file(tmp_path)
    for refused in (
        lambda: require_file(tmp_path / "file/page.html"),
        lambda: require_folder(tmp_path / "file"),
        lambda: require_folder(tmp_path / "file/deep"),
    ):
        with pytest.raises(ConfigError, match="/file is no folder"):
            refused()


def test_a_folder_that_is_not_ours_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where the system would refuse, it is said first."""
    monkeypatch.setattr("os.access", lambda path, how: False)
    with pytest.raises(ConfigError, match="cannot be written"):
        require_folder(tmp_path)

"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from setmatch.files import whole_file


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

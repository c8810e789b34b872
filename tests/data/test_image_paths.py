"""The pictures a user means: files, folders, patterns, each once; what is missing is named."""

from pathlib import Path

import pytest

from setmatch.data.image_paths import find_images
from setmatch.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty files: names are all that counts here."""
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "deep/er/c.webp", "none/x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(folder: Path, sources: list[str | Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_images(sources)]


def test_a_folder_is_searched_to_the_bottom(folder: Path):
    """All pictures below it, sorted; other files and hidden ones are passed over."""
    assert names(folder, [folder]) == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_a_file_named_outright_counts(folder: Path):
    """Whoever names a file means it, whatever its suffix."""
    assert names(folder, [folder / "notes.txt"]) == ["notes.txt"]


def test_a_pattern_means_the_pictures_it_matches(folder: Path):
    """Globs work where no shell has expanded them, ** included."""
    assert names(folder, [f"{folder}/*"]) == ["a.png", "b.JPG"]
    assert names(folder, [f"{folder}/**/*.webp"]) == ["deep/er/c.webp"]


def test_a_file_with_magic_characters_is_a_file(folder: Path):
    """A name that looks like a pattern but exists is taken by its word."""
    (folder / "d[1].png").touch()
    assert names(folder, [f"{folder}/d[1].png"]) == ["d[1].png"]


def test_each_picture_comes_once(folder: Path):
    """Overlapping sources do not double the work."""
    assert names(folder, [folder / "b.JPG", folder]) == ["b.JPG", "a.png", "deep/er/c.webp"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("none", "no image"),
        ("none/*.csv", "no image"),
        ("*.gif", "matches no file"),
        ("gone.jpg", "no such file or folder"),
    ],
)
def test_a_source_without_pictures_is_named(folder: Path, source: str, what: str):
    """Nothing found is said, not passed over, even when other sources hold pictures."""
    with pytest.raises(DataError, match=what) as error:
        find_images([folder / "a.png", folder / source])
    assert str(folder / source) in str(error.value)

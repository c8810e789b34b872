"""Image files are found by files, folders and patterns, each once."""

import os
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.images.image_paths import find_images
from setmatch.data.open import open_dataset
from setmatch.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty files: only names count here."""
    for name in ("a.png", "b.JPG", "notes.txt", ".hidden.png", "deep/er/c.webp", "none/x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(folder: Path, sources: list[str | Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_images(sources)]


def test_a_folder_is_searched_recursively(folder: Path):
    """Other files and hidden ones are ignored."""
    assert names(folder, [folder]) == ["a.png", "b.JPG", "deep/er/c.webp"]


def forbid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody list a folder, root neither."""
    scandir = os.scandir

    def refused(path: Path) -> object:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)


@pytest.mark.parametrize("inner", ["deep", "deep/er"])
def test_a_folder_that_nobody_may_list_is_named(folder: Path, monkeypatch, caplog, inner: str):
    """The others are used; one that is named itself is refused."""
    forbid(folder / inner, monkeypatch)
    assert names(folder, [folder]) == ["a.png", "b.JPG"]
    (message,) = caplog.messages
    assert message.startswith(f"{folder / inner}: cannot be listed (Permission denied), so that")
    with pytest.raises(DataError, match=r"cannot be listed \(Permission denied\); allow to read"):
        find_images([folder / inner])


def test_a_folder_of_a_data_set_that_nobody_may_list_is_named(tmp_path, monkeypatch, caplog):
    for place in ("images/open", "images/closed", "labels/open"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("open/a", "open/b", "closed/c"):
        Image.new("RGB", (60, 40)).save(tmp_path / f"images/{name}.png")
    for name in "ab":
        (tmp_path / f"labels/open/{name}.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
    forbid(tmp_path / "images/closed", monkeypatch)
    assert len(open_dataset(tmp_path, "train")) == 2
    named = [message for message in caplog.messages if "cannot be listed" in message]
    assert len(named) == 1
    assert str(tmp_path / "images/closed") in named[0]


SYSTEM_FOLDERS = (
    *(".ipynb_checkpoints", ".thumbnails", ".git", "@eaDir", "@eadir", "__MACOSX", "#recycle"),
    *("$RECYCLE.BIN", "System Volume Information"),
)


@pytest.mark.parametrize("place", ["", "deep", "deep/er"])
@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_what_systems_and_tools_leave_in_folders_is_no_image(folder: Path, name: str, place: str):
    """Neither in a folder nor by a pattern, however deep."""
    for left in (f"{place}/{name}/a.png", f"{place}/{name}/more/a.png", f"{place}/._a.png"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).touch()
    for source in (folder, folder / "**/*", folder / "**/*.[pP][nN][gG]", folder / "*/*/*"):
        assert {Path(each).name for each in names(folder, [source])} <= {
            *("a.png", "b.JPG", "c.webp")
        }
        assert not any(name in each or "._" in each for each in names(folder, [source]))


def test_a_system_folder_that_is_named_is_searched(tmp_path: Path):
    """A user who names a hidden folder means it."""
    (tmp_path / ".cache/photos").mkdir(parents=True)
    (tmp_path / ".cache/photos/a.png").touch()
    for source in (".cache", ".cache/photos", ".cache/*/*.png", ".cache/photos/a.png"):
        assert names(tmp_path, [tmp_path / source]) == [".cache/photos/a.png"]


def test_a_file_named_directly_counts_whatever_its_suffix(folder: Path):
    assert names(folder, [folder / "notes.txt"]) == ["notes.txt"]


def test_a_glob_pattern_finds_images(folder: Path):
    """** included."""
    assert names(folder, [f"{folder}/*"]) == ["a.png", "b.JPG"]
    assert names(folder, [f"{folder}/**/*.webp"]) == ["deep/er/c.webp"]


@pytest.mark.parametrize("name", ["photos [1]", "[raw]", "a*b", "[", "what?", "deep/[1]/x [2]"])
@pytest.mark.parametrize("pattern", ["*.png", "a[0-1].png", "**/*.png"])
def test_a_folder_with_glob_characters_begins_a_pattern(tmp_path: Path, name: str, pattern: str):
    (tmp_path / name).mkdir(parents=True)
    for number in range(2):
        (tmp_path / name / f"a{number}.png").touch()
    expected = [tmp_path / name / f"a{number}.png" for number in range(2)]
    assert find_images([str(tmp_path / name / pattern)]) == expected


def test_a_pattern_means_what_it_matches_before_it_means_a_folder(tmp_path: Path):
    for name in ("a1", "a[1]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.png").touch()
    assert find_images([str(tmp_path / "a[1]/*.png")]) == [tmp_path / "a1/b.png"]


def test_an_existing_file_with_glob_characters_is_a_file(folder: Path):
    (folder / "d[1].png").touch()
    assert names(folder, [f"{folder}/d[1].png"]) == ["d[1].png"]


def test_overlapping_sources_give_each_image_once(folder: Path):
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
def test_a_source_without_images_raises_an_error(folder: Path, source: str, what: str):
    """Even when other sources have images."""
    with pytest.raises(DataError, match=what) as error:
        find_images([folder / "a.png", folder / source])
    assert str(folder / source) in str(error.value)

"""If several YAML files lie beside the data, the one that describes it is read and named."""

from pathlib import Path

import pytest

from setmatch.cli import main
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from written_names import NAMES, write_images

GOOD = "names: [red, lime]\ntrain: images/train\nval: images/val\n"
SWAPPED = GOOD.replace("red, lime", "lime, red")
UNRELATED = {
    "a tag": "device: !!python/object:torch.device cpu\n",
    "a variable": "path: !ENV HOME\n",
    "broken": "names: [",
    "tabs": "a:\n\t- b\n",
    "names alone": "names: [some, thing]\n",
    "no mapping": "- a\n- b\n",
    "empty": "",
    "not text": "\udcff\udcfe",
    "a template": "{{ cookiecutter.name }}: {% raw %}\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "my set"
    for split in ("train", "val"):
        write_images(root / "images" / split)
        (root / "labels" / split).mkdir(parents=True)
        for name in NAMES:
            (root / "labels" / split / name).with_suffix(".txt").write_text("1 .5 .5 .5 .5\n")
    return root


def write(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.crossed
@pytest.mark.parametrize("name", ["args.yaml", "zz.yml", "mkdocs.yml", "hyp.data"])
@pytest.mark.parametrize("text", UNRELATED.values(), ids=UNRELATED)
def test_an_unrelated_file_does_not_matter(root: Path, name: str, text: str):
    write(root / "data.yaml", GOOD)
    write(root / name, text)
    for split in ("train", "val"):
        dataset = open_dataset(root, split)
        assert (len(dataset), dataset.categories.names) == (len(NAMES), ("red", "lime"))


@pytest.mark.parametrize("text", UNRELATED.values(), ids=UNRELATED)
def test_an_unrelated_file_does_not_hide_another_format(tmp_path: Path, text: str):
    from small_voc import DOG, xml

    write(tmp_path / "args.yaml", text)
    for name in ("a", "b"):
        (tmp_path / f"{name}.xml").write_text(xml(DOG, filename=f"{name}.png"))
    write_images(tmp_path)
    for old, new in zip(NAMES, ("a.png", "b.png")):
        (tmp_path / old).rename(tmp_path / new)
    assert open_dataset(tmp_path, "train").categories.names == ("dog",)


def test_a_broken_data_yaml_is_reported_although_an_old_one_can_be_read(root: Path):
    write(root / "data.yaml", "names: [")
    write(root / "a_old.yaml", GOOD)
    with pytest.raises(DataError, match=r"data\.yaml: cannot be read as YAML"):
        open_dataset(root, "train")


def test_a_broken_file_is_reported_where_class_names_would_be_lost(root: Path):
    write(root / "my.yaml", "names: [")
    with pytest.raises(DataError, match=r"my\.yaml: cannot be read as YAML"):
        open_dataset(root, "train")
    write(root / "classes.txt", "red\nlime\n")
    assert open_dataset(root, "train").categories.names == ("red", "lime")


@pytest.mark.parametrize("usual", ["data.yaml", "dataset.yaml", "Data.YAML", "data.yml"])
@pytest.mark.parametrize("other", ["a_old.yaml", "zz.yaml"])
def test_data_yaml_comes_first_and_is_named(root: Path, usual: str, other: str):
    write(root / usual, GOOD)
    write(root / other, SWAPPED)
    dataset = open_dataset(root, "train")
    assert dataset.categories.names == ("red", "lime")
    assert f"read from {usual}; {other} says otherwise and is not read" in dataset.notes


@pytest.mark.parametrize("names", [("a_old.yaml", "b.yaml"), ("b.yml", "a_old.yaml")])
def test_files_that_contradict_each_other_are_refused(root: Path, names: tuple[str, str]):
    """The command in the message chooses."""
    write(root / names[0], GOOD)
    write(root / names[1], SWAPPED)
    with pytest.raises(DataError, match="name different classes for the same data") as caught:
        open_dataset(root, "train")
    command = f"setmatch audit '{root / min(names)}'"
    assert command in str(caught.value)
    assert main(["audit", str(root / names[0])]) == 0
    assert open_dataset(root / names[0], "train").categories.names == ("red", "lime")


def test_files_that_say_the_same_are_one(root: Path):
    write(root / "a.yaml", GOOD)
    write(root / "b.yaml", GOOD.replace("[red, lime]", "{0: red, 1: 'lime '}") + "nc: 2\n")
    dataset = open_dataset(root, "train")
    assert dataset.categories.names == ("red", "lime")
    assert dataset.notes == ()


def test_the_file_whose_paths_lead_to_more_splits_is_read(root: Path):
    write(root / "a.yaml", SWAPPED.replace("images/", "elsewhere/nothing_"))
    write(root / "data.yaml", SWAPPED.replace("images/", "gone/never_"))
    write(root / "z.yaml", GOOD)
    dataset = open_dataset(root, "train")
    assert dataset.categories.names == ("red", "lime")
    assert "read from z.yaml; data.yaml says otherwise and is not read" in dataset.notes


@pytest.mark.parametrize("path", ["/{}", "../outside", "D:\\outside"])
def test_a_path_that_leads_out_is_followed_only_for_a_file_that_the_user_names(
    root: Path, path: str
):
    """A data.yaml may lie anywhere, if the user says so; one in a folder stays in the folder."""
    outside = root.parent / "outside"
    root.rename(outside)
    root.mkdir()
    text = GOOD + f"path: {path.format(str(outside)[1:])}\n"
    write(root / "data.yaml", text)
    with pytest.raises(DataError, match=r"leads out of .*setmatch audit|but none of"):
        open_dataset(root, "train")
    if "\\" not in path:
        dataset = open_dataset(root / "data.yaml", "train")
        assert len(dataset) == len(NAMES)
        assert dataset.path(0).resolve().is_relative_to(outside)


@pytest.mark.parametrize("place", [".", "labels", "labels/train"])
def test_a_list_of_classes_that_contradicts_the_yaml_file_is_reported(root: Path, place: str):
    write(root / "data.yaml", GOOD)
    write(root / place / "classes.txt", "lime\nred\n")
    dataset = open_dataset(root, "train")
    assert dataset.categories.names == ("red", "lime")
    assert "list of classes that contradicts the YAML file: not read" in dataset.fix_counts
    write(root / place / "classes.txt", "red\n")
    assert open_dataset(root, "train").fixes == ()

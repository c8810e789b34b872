"""YOLO: images, labels and class names are found, wherever the paths were written."""

from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.audit.audit import audit
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

BOX = "1 0.5 0.5 0.5 0.5\n"
NAMES = "names: [cat, dog]\n"


def write(root: Path, files: dict[str, str]) -> Path:
    """Write texts, and images for names that end in png."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (60, 40)).save(path)
        else:
            path.write_bytes(content.encode())
    return root


def pairs(*names: str, images: str = "{}/images", labels: str = "{}/labels") -> dict[str, str]:
    """Return an image and its labels for every name "split/stem"."""
    files = {}
    for split, stem in (name.split("/") for name in names):
        files[f"{images.format(split)}/{stem}.png"] = ""
        files[f"{labels.format(split)}/{stem}.txt"] = BOX
    return files


def check(root: Path) -> None:
    """Image a is for training, b for validation, each with its object."""
    for split, stem in (("train", "a"), ("val", "b")):
        dataset = open_dataset(root, split)
        assert [dataset.path(image).stem for image in range(len(dataset))] == [stem]
        assert dataset.categories.names == ("cat", "dog")
        assert dataset.class_indices.tolist() == [1]
        moved = "found by its last parts"
        assert [fix for fix in dataset.fixes if moved not in fix.description] == []


@pytest.mark.crossed
@pytest.mark.parametrize(
    "given",
    [
        "../{}/images",
        "../../{}/images",
        "/content/datasets/set/{}/images",
        r"D:\set\{}\images",
        r"..\{}\images",
        "set/{}/images/",
        "./{}/images",
    ],
)
@pytest.mark.parametrize("names", [NAMES, "names: {0: cat, 1: dog}\n", "names:\n- cat\n- dog\n"])
def test_paths_written_on_another_machine_are_found(tmp_path: Path, given: str, names: str):
    """Paths of Roboflow, notebooks and Windows lead to the folders beside the file."""
    config = f"nc: 2\n{names}train: {given.format('train')}\nval: {given.format('valid')}\n"
    check(write(tmp_path / "mine", pairs("train/a", "valid/b") | {"data.yaml": config}))


def test_two_splits_never_get_the_same_images(tmp_path: Path):
    """If the folders of splits are lost, no split takes the remaining images."""
    config = NAMES + "train: ../train/images\nval: ../valid/images\n"
    write(tmp_path, {"data.yaml": config, "images/a.png": "", "labels/a.txt": BOX})
    with pytest.raises(DataError, match=r"'train' is .*'val' is .*but both lead to .*images"):
        open_dataset(tmp_path, "train")


def test_a_lost_test_split_does_not_stop_training(tmp_path: Path):
    """Opening that split raises the error, and the audit notes it: Roboflow names it always."""
    config = NAMES + "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    check(write(tmp_path, pairs("train/a", "valid/b") | {"data.yaml": config}))
    with pytest.raises(DataError, match=r"'test' is '\.\./test/images', but none of"):
        open_dataset(tmp_path, "test")
    found = audit(tmp_path, has_gpu=False)
    assert found.error_count == 0
    (note,) = (each for each in found.findings if each.split == "test")
    assert note.kind == "no test split"
    assert "'test' is '../test/images', but none of" in note.value


def test_a_lost_validation_split_must_be_fixed(tmp_path: Path):
    config = NAMES + "train: ../train/images\nval: ../valid/images\n"
    write(tmp_path, pairs("train/a") | {"data.yaml": config})
    found = audit(tmp_path, has_gpu=False)
    assert [(each.kind, each.split) for each in found.findings if each.severity == "error"] == [
        ("split that cannot be read", "val")
    ]


DARKNET = "classes = 2\ntrain = data/train.txt\nvalid = data/val.txt\nnames = data/obj.names\n"


@pytest.mark.crossed
@pytest.mark.parametrize("folder", ["obj_train_data", "img"])
@pytest.mark.parametrize("before", ["data/", "/darknet/data/", "", "x64\\data\\"])
@pytest.mark.parametrize("named", [True, False])
def test_darknets_files_are_read(tmp_path: Path, folder: str, before: str, named: bool):
    """obj.data, or the lists alone, as Yolo_mark and CVAT write them."""
    files = pairs(f"{folder}/a", f"{folder}/b", images="{}", labels="{}")
    lists = {
        f"{split}.txt": f"{before}{folder}/{stem}.png\r\n"
        for split, stem in (("train", "a"), ("val", "b"))
    }
    write(tmp_path, files | lists | {"obj.names": "cat\ndog\n"})
    if named:
        write(tmp_path, {"obj.data": DARKNET})
    check(tmp_path)


def test_image_lists_divide_one_folder(tmp_path: Path):
    """A label of the other split is not reported as a label without an image."""
    files = pairs("x/a", "x/b", images="images", labels="labels")
    lists = {"train.txt": "images/a.png\n", "val.txt": "./images/b.png\n"}
    check(write(tmp_path, files | lists | {"classes.txt": "cat\ndog\n"}))
    # Another text file named after a split divides nothing.
    write(tmp_path, {"train.txt": "epoch 1\n", "val.txt": ""})
    assert sum(len(open_dataset(tmp_path, split)) for split in ("train", "val")) == 2


@pytest.mark.parametrize("name", ["{}_list", "list-{}", "autosplit_{}", "{}_images"])
def test_image_lists_may_have_longer_names(tmp_path: Path, name: str):
    """Before, the author's splits were lost in silence."""
    files = pairs("x/a", "x/b", images="images", labels="labels")
    lists = {
        f"{name.format(s)}.txt": f"images/{i}.png\n" for s, i in (("train", "a"), ("val", "b"))
    }
    check(write(tmp_path, files | lists | {"classes.txt": "cat\ndog\n"}))


def test_a_label_without_an_image_is_reported(tmp_path: Path):
    """Unless its image is reported already, or it is not a label file."""
    files = pairs("train/a", "valid/b") | {"train/labels/c.txt": BOX, "classes.txt": "cat\ndog\n"}
    write(tmp_path, files | {"train/labels/classes.txt": "cat\ndog\n"})
    (tmp_path / "train/images/d.png").write_bytes(b"")
    write(tmp_path, {"train/labels/d.txt": BOX})
    fixes = open_dataset(tmp_path, "train").fixes
    assert [(fix.file, fix.description.split(":")[0]) for fix in fixes] == [
        ("d.png", "image file that cannot be read"),
        ("c.txt", "without an image"),
    ]


def test_missing_images_are_reported_before_missing_labels(tmp_path: Path):
    labels = {"obj_train_data/a.txt": BOX, "train.txt": "data/obj_train_data/a.png\n"}
    write(tmp_path, labels | {"obj.data": DARKNET.replace("val.txt", "train.txt")})
    write(tmp_path, {"obj.names": "cat\ndog\n"})
    with pytest.raises(DataError, match=r"1 of 1 image files are missing: a\.png; add the files"):
        open_dataset(tmp_path, "train")
    found = audit(tmp_path, has_gpu=False)
    assert [each.kind for each in found.findings] == ["split that cannot be read"]


@pytest.mark.parametrize(
    "place", [".", "labels", "images", "train", "train/labels", "valid/labels"]
)
def test_classes_txt_is_found_wherever_tools_put_it(tmp_path: Path, place: str):
    """LabelImg and Label Studio put it with the labels, or above them."""
    check(write(tmp_path, pairs("train/a", "valid/b") | {f"{place}/classes.txt": "cat\ndog\n"}))


def test_lists_of_classes_that_contradict_are_refused(tmp_path: Path):
    """LabelImg numbers classes by folder: a longer list is fine, another order is not."""
    write(tmp_path, pairs("train/a", "valid/b") | {"train/labels/classes.txt": "cat\n"})
    check(write(tmp_path, {"valid/labels/classes.txt": "cat\ndog\n"}))
    write(tmp_path, {"train/labels/classes.txt": "dog\ncat\nant\n"})
    with pytest.raises(DataError, match=r"\['cat', 'dog'\].*\['dog', 'cat', 'ant'\].*alike"):
        open_dataset(tmp_path, "train")


def test_upper_case_suffixes_are_read(tmp_path: Path):
    write(tmp_path, pairs("train/a", "valid/b") | {"classes.txt": "cat\ndog\n"})
    for path in [*tmp_path.rglob("*.png"), *tmp_path.rglob("?.txt")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    check(tmp_path)


def folder_of(root: Path, images: str, labels: str, count: int) -> None:
    """Write a folder of images, and one of labels."""
    for number in range(count):
        for place in (images, labels):
            (root / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (number, count, 0)).save(root / images / f"{number}.png")
        (root / labels / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5")


@pytest.mark.parametrize(
    "layout", [("images/{}", "labels/{}"), ("{}/images", "{}/labels"), ("{}", "{}")]
)
@pytest.mark.parametrize(
    ("folders", "chosen"),
    [
        ({"train": 2, "training": 7}, "training"),
        ({"train": 7, "training": 2}, "train"),
        ({"train": 3, "train_old": 9}, "train"),
        ({"train_old": 3, "train_new": 9}, "train_new"),
    ],
)
def test_of_several_folders_of_a_split_the_fullest_is_read_and_said(
    tmp_path: Path, layout, folders: dict[str, int], chosen: str
):
    for name, count in folders.items():
        folder_of(tmp_path, *(place.format(name) for place in layout), count)
    folder_of(tmp_path, *(place.format("val") for place in layout), 1)
    dataset = open_dataset(tmp_path, "train")
    assert len(dataset) == folders[chosen]
    (note,) = (note for note in dataset.notes if "is read from" in note)
    (other,) = set(folders) - {chosen}
    assert f"read from {layout[0].format(chosen)}/, not from {layout[0].format(other)}/" in note


def test_labels_beside_images_that_differ_from_those_of_their_folder_are_said(tmp_path: Path):
    folder_of(tmp_path, "images/train", "labels/train", 3)
    for number, text in enumerate(["0 0.5 0.5 0.5 0.5", "0 0.1 0.1 0.1 0.1"]):
        (tmp_path / f"images/train/{number}.txt").write_text(text)
    (tmp_path / "images/train/classes.txt").write_text("cat")
    dataset = open_dataset(tmp_path, "train")
    (fix,) = (each for each in dataset.fixes if "beside the images" in each.description)
    assert fix.value.startswith("1 files in ")
    assert fix.value.endswith("1.txt")


OTHER = "0 0.1 0.1 0.1 0.1\n"  # a label of another data set


@pytest.mark.parametrize(
    "above", ["images", "images/ds", "x_images/ds", "Images/ds", "images/a/b", "images/images2/ds"]
)
@pytest.mark.parametrize("named", [False, True], ids=["labels beside", "data.yaml"])
def test_labels_are_never_read_from_above_the_data_set(tmp_path: Path, above: str, named: bool):
    """A folder above may be called images, too, and have labels of others beside it."""
    root = tmp_path / above / "set"
    files = pairs("train/a", "valid/b", images="{}", labels="{}")
    write(root, files | {"classes.txt": "cat\ndog\n"})
    if named:
        write(root, {"data.yaml": f"{NAMES}train: train\nval: valid\n"})
    elsewhere = above.replace("images", "labels").replace("Images", "Labels")
    for name in ("train/a.txt", "valid/b.txt"):
        write(tmp_path / elsewhere / "set", {name: OTHER})
    for split in ("train", "val"):
        dataset = open_dataset(root, split)
        assert dataset.xywh_px.tolist() == [[15, 10, 30, 20]]
        assert dataset.fixes == ()


def test_a_folder_of_images_may_be_named_with_labels_beside_it(tmp_path: Path):
    files = pairs("train/a", "valid/b", images="images/{}", labels="labels/{}")
    write(tmp_path, files)
    dataset = open_dataset(tmp_path / "images", "train")
    assert dataset.xywh_px.tolist() == [[15, 10, 30, 20]]


@pytest.mark.parametrize(
    "sources",
    [["a.txt", "a.txt"], ["a.txt", "both.txt"], ["twice.txt"], ["images", "a.txt"], ["images"] * 2],
    ids=str,
)
def test_an_image_of_several_lists_is_read_once(tmp_path: Path, sources: list[str]):
    """Read twice, it would count twice in AP."""
    write(tmp_path, pairs("x/a", "x/b", images="images", labels="labels"))
    one, both = "images/a.png\n", "images/a.png\nimages/b.png\n"
    write(tmp_path, {"a.txt": one, "both.txt": both, "twice.txt": one + "./" + one})
    write(tmp_path, {"data.yaml": f"{NAMES}train: {sources}\nval: images\n"})
    dataset = open_dataset(tmp_path, "train")
    stems = {"a"} | ({"b"} if {"images", "both.txt"} & set(sources) else set())
    assert sorted(Path(name).stem for name in dataset.file_names()) == sorted(stems)
    assert [fix.description for fix in dataset.fixes if "once" in fix.description] == [
        "image of several lists or lines: read once"
    ]


@pytest.mark.parametrize("outer", ["images", "img", "train", "labels", "data", "JPEGImages"])
@pytest.mark.parametrize(
    ("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels"), ("{}", "{}")]
)
def test_the_class_names_of_a_folder_below_are_not_lost(
    tmp_path: Path, outer: str, images: str, labels: str
):
    """A folder that is called like one of images may be a whole data set."""
    files = pairs("train/a", "val/b", images=images, labels=labels)
    paths = {split: images.format(split) for split in ("train", "val")}
    yaml = NAMES + "".join(f"{split}: {path}\n" for split, path in paths.items())
    write(tmp_path / outer, {**files, "data.yaml": yaml})
    check(tmp_path)


@pytest.mark.parametrize("file", ["data.yaml", "classes.yml"])
@pytest.mark.parametrize(
    "paths", ["", "train:\nval: ''\n", "path: .\nnc: 2\n", "anna: images/anna\n"]
)
def test_a_yaml_file_without_splits_names_the_classes(tmp_path: Path, file: str, paths: str):
    """Before, classes were named by their numbers."""
    check(write(tmp_path, pairs("train/a", "valid/b") | {file: NAMES + paths}))


def test_yaml_files_of_other_programs_name_no_classes(tmp_path: Path):
    files = {"tool.yaml": "names: 3\n", "people.yaml": "names: [[anna], {bob: 1}]\n"}
    write(tmp_path, pairs("train/a", "valid/b") | files)
    assert open_dataset(tmp_path, "train").categories.names == ("0", "1")


def test_class_names_of_a_yaml_file_that_change_are_read_again(tmp_path: Path):
    root = write(tmp_path, pairs("train/a", "valid/b") | {"data.yaml": NAMES})
    check(root)
    write(root, {"data.yaml": NAMES.replace("dog", "bird")})
    assert open_dataset(root, "train").categories.names == ("cat", "bird")

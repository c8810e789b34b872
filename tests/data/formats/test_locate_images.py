"""Images are found wherever their paths were written, and never outside the data set."""

import json
import os
import unicodedata
from pathlib import Path

import pytest

from setmatch.cli import main
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from small_voc import DOG, xml
from written_names import CONTENT, DRAWN, NAMES, WRITTEN, Written, write_images, write_previews

# Folder of the annotations, folder of the images, and whether that is a usual place.
COCO_LAYOUTS = {
    "images/": ("annotations.json", "images", True),
    "JPEGImages/": ("annotations.json", "JPEGImages", True),
    "beside": ("annotations.json", ".", True),
    "Annotations/": ("Annotations/train.json", "images", True),
    "labels/": ("labels/train.json", "images/train", True),
    "a split's folder": ("train/coco.json", "train", True),
    "a word in a folder's name": ("images_thermal_train/coco.json", "images_thermal_train", True),
    "capitals in a folder's name": ("trainImages/coco.json", "trainImages", True),
    "data/ in a split": ("train/labels.json", "train/data", True),
    "annotations in a split": ("train/labels/coco.json", "train/images", True),
    "a split in annotations": ("labels/train/coco.json", "images/train", True),
    "another folder of annotations": ("from ann/train.json", "images", True),
    "another folder of images": ("annotations/train.json", "my photos", False),
    "deep": ("annotations/train.json", "a/b/c", False),
}


def coco_tree(names: list[str]) -> dict:
    return {
        "images": [
            {"id": i, "file_name": name, "height": 40, "width": 60} for i, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 3, 20, 10 + i], "area": 1}
            | {"iscrowd": 0}
            for i in range(len(names))
        ],
    }


def write_coco(root: Path, place: str, names: list[str]) -> Path:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(coco_tree(names)))
    return root


def check(dataset: DetectionDataset, root: Path) -> None:
    """Each image has its own file, inside the data set, and its own object."""
    for image in range(len(dataset)):
        path = dataset.path(image)
        name = unicodedata.normalize("NFC", path.name)
        assert path.resolve().is_relative_to(root.resolve())
        assert path.read_bytes() == CONTENT[name]
        assert len(dataset.rows(image)) == 1
    assert dataset.xywh_px[:, 3].tolist() == [10 + NAMES.index(n) for n in base_names(dataset)]


def base_names(dataset: DetectionDataset) -> list[str]:
    paths = map(dataset.path, range(len(dataset)))
    return [unicodedata.normalize("NFC", path.name) for path in paths]


def found_by(dataset: DetectionDataset) -> list[str]:
    """Return how images were found, and check that each way has its count and an example."""
    fixes = [fix for fix in dataset.fixes if fix.description.startswith("image")]
    assert all(fix.value.startswith(f"{len(NAMES)} of {len(NAMES)} images, the") for fix in fixes)
    return [fix.description for fix in fixes]


def opened(root: Path) -> DetectionDataset:
    """Open all images of a data set, those held out too."""
    from setmatch.data.cache.cache import cached
    from setmatch.data.discovery import discover_splits

    (source,) = discover_splits(root).values()
    return cached(source)


@pytest.mark.crossed
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize(("place", "folder", "usual"), COCO_LAYOUTS.values(), ids=COCO_LAYOUTS)
def test_coco_images_are_found(
    tmp_path: Path, place: str, folder: str, usual: bool, written: Written
):
    """Files outside the data set that have the same names are not opened."""
    for outside in ("", "images", "other", "media/upload/4", "train"):
        write_previews(tmp_path / outside)
    root = tmp_path / "home" / "my set"
    write_images(root / folder)
    write_coco(root, place, [written(folder, name) for name in NAMES])
    dataset = opened(root)
    check(dataset, root)
    assert len(dataset) == len(NAMES)
    as_written = written in (WRITTEN["bare"], WRITTEN["below the root"])
    if as_written and usual:
        assert found_by(dataset) == []
    elif written is not WRITTEN["below the root"]:
        assert found_by(dataset)


VOC_LAYOUTS = {
    "JPEGImages/": ("Annotations", "JPEGImages"),
    "images/": ("annotations/xmls", "images"),
    "data/": ("labels", "data"),
    "beside": ("train", "train"),
    "another folder": ("xmls", "my photos/a"),
}


@pytest.mark.crossed
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize(("place", "folder"), VOC_LAYOUTS.values(), ids=VOC_LAYOUTS)
@pytest.mark.parametrize("same_stem", [True, False])
def test_voc_images_are_found(
    tmp_path: Path, place: str, folder: str, written: Written, same_stem: bool
):
    """By the XML file's own name, or else by its <filename>."""
    write_previews(tmp_path)
    root = tmp_path / "home" / "my set"
    write_images(root / folder)
    (root / place).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        stem = Path(name).stem if same_stem else f"annotation {number}"
        text = xml(DOG.replace("24", f"{14 + number}"), filename=written(folder, name))
        (root / place / f"{stem}.xml").write_text(text.replace("&", "&amp;"))
    dataset = opened(root)
    assert sorted(base_names(dataset)) == sorted(NAMES)
    check(dataset, root)


@pytest.mark.crossed
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("place", ["train.txt", "lists/train.txt"])
@pytest.mark.parametrize("folder", ["images/train", "img", "."])
def test_images_that_a_yolo_list_names_are_found(
    tmp_path: Path, place: str, folder: str, written: Written
):
    for outside in ("", "images", "other"):
        write_previews(tmp_path / outside)
    root = tmp_path / "home" / "set"
    write_images(root / folder)
    labels = root / folder.replace("images", "labels")
    labels.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        line = f"0 0.5 0.5 0.5 {(10 + number) / 40}\n"
        (labels / name).with_suffix(".txt").write_text(line)
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("".join(f"{written(folder, name)}\n" for name in NAMES))
    (root / "data.yaml").write_text(f"names: [cat]\ntrain: {place}\n")
    dataset = opened(root)
    check(dataset, root)
    assert len(dataset) == len(NAMES)


@pytest.mark.crossed
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val"),
        ("training", "validation"),
        ("images_train", "images_val"),
        ("train2017", "val2017"),
        ("rgb-train", "rgb-valid"),
        ("TrainImages", "ValImages"),
    ],
)
@pytest.mark.parametrize("above", ["", "images/", "photos/"])
def test_images_of_the_other_split_are_never_taken(
    tmp_path: Path, folders: tuple[str, str], above: str, split: str
):
    """Both splits number their images alike, and the annotations do not name the folder."""
    mine, other = folders if split == "train" else folders[::-1]
    write_images(tmp_path / above / mine)
    write_previews(tmp_path / above / other)
    write_coco(tmp_path, f"annotations/{split}.json", list(NAMES))
    check(opened(tmp_path), tmp_path)
    (tmp_path / above / mine / NAMES[1]).unlink()
    dataset = opened(tmp_path)
    assert base_names(dataset) == [NAMES[0], NAMES[2]]
    check(dataset, tmp_path)


def test_the_error_names_the_folder_of_another_split_that_has_the_files(tmp_path: Path):
    write_images(tmp_path / "val2017")
    write_coco(tmp_path, "annotations/train.json", list(NAMES))
    with pytest.raises(DataError, match=r"are in val2017/, for another split than 'train'"):
        opened(tmp_path)
    command = ["convert-data", str(tmp_path), str(tmp_path / "out"), "--to", "coco"]
    assert main([*command, "--images", str(tmp_path / "val2017")]) == 0


@pytest.mark.crossed
@pytest.mark.parametrize("preview", ["preview", "a", "zz/drawn", "vis"])
@pytest.mark.parametrize("raw", ["raw", "my photos", "b/c"])
def test_folders_with_different_files_of_the_same_names_are_refused(
    tmp_path: Path, raw: str, preview: str
):
    """A model would learn the boxes that are drawn on previews. The command chooses."""
    root = tmp_path / "my set"
    write_images(root / raw)
    write_previews(root / preview)
    write_coco(root, "annotations.json", list(NAMES))
    with pytest.raises(DataError, match="3 of 3 image files lie in several folders") as caught:
        opened(root)
    assert f"{raw}/" in str(caught.value)
    assert f"{preview}/" in str(caught.value)
    assert f"setmatch convert-data '{root}' '{root}_chosen' --to coco --images" in str(caught.value)
    out = tmp_path / "chosen"
    command = ["convert-data", str(root), str(out), "--to", "coco", "--images", str(root / raw)]
    assert main(command) == 0
    check(opened(out), out)


def test_equal_files_of_the_same_names_may_be_taken_from_either_folder(tmp_path: Path):
    for folder in ("one", "two"):
        write_images(tmp_path / folder)
    dataset = opened(write_coco(tmp_path, "annotations.json", list(NAMES)))
    check(dataset, tmp_path)
    assert "images are read from one/ (3 of 3); files of the same names are in two/ (3)" in (
        dataset.notes
    )


@pytest.mark.parametrize("usual", ["images", "JPEGImages", "train", "images/train"])
@pytest.mark.parametrize("preview", ["a", "zz", "images/vis"])
def test_a_usual_folder_comes_before_another_one(tmp_path: Path, usual: str, preview: str):
    """Even where a name must be repaired, so that every folder is searched."""
    write_images(tmp_path / usual)
    write_previews(tmp_path / preview)
    names = [name.upper() for name in NAMES]
    dataset = opened(write_coco(tmp_path, "annotations/train.json", names))
    check(dataset, tmp_path)
    assert any(f"images are read from {usual}/ (3 of 3)" in note for note in dataset.notes)


@pytest.mark.parametrize("leftover", ["train", "images", "images/train", "annotations", "a", "zz"])
def test_the_folder_with_most_names_wins_over_a_leftover(tmp_path: Path, leftover: str):
    """Though the leftover lies at a usual place."""
    write_images(tmp_path / "pictures")
    write_previews(tmp_path / leftover, NAMES[1:2])
    dataset = opened(write_coco(tmp_path, "annotations/train.json", list(NAMES)))
    check(dataset, tmp_path)
    (note,) = dataset.notes
    assert "images are read from pictures/ (3 of 3)" in note
    assert f"{leftover}/ (1)" in note


def test_images_spread_over_folders_are_found_by_their_only_file(tmp_path: Path):
    write_images(tmp_path / "images/cam0", NAMES[:2])
    write_images(tmp_path / "images/cam1", NAMES[2:])
    dataset = opened(write_coco(tmp_path, "annotations.json", list(NAMES)))
    check(dataset, tmp_path)
    assert len(dataset) == 3
    write_previews(tmp_path / "images/cam1", NAMES[:1])  # which of the two is not clear
    dataset = opened(tmp_path)
    check(dataset, tmp_path)
    assert base_names(dataset) == list(NAMES[1:])
    assert "in several folders" in " ".join(fix.description for fix in dataset.fixes)


def test_the_longest_common_path_decides_between_equal_names(tmp_path: Path):
    write_images(tmp_path / "images/cam0")
    write_previews(tmp_path / "images/cam1")
    names = [f"D:\\rec\\cam0\\{name}" for name in NAMES]
    check(opened(write_coco(tmp_path, "annotations.json", names)), tmp_path)


def test_a_file_is_never_taken_for_two_images(tmp_path: Path):
    """Folders were flattened, and one image replaced the other: whose boxes are right?"""
    write_images(tmp_path / "images", NAMES[:1])
    names = [f"cam0/{NAMES[0]}", f"cam1/{NAMES[0]}"]
    with pytest.raises(DataError, match=r"2 of 2 image names mean the same file .* restore"):
        opened(write_coco(tmp_path, "annotations.json", names))


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (" a b.png ", "another spelling of blanks or signs"),
        ("a%20b.png", "another spelling of blanks or signs"),
        ("A B.PNG", "other capitals"),
        ("a b.png", None),
    ],
)
def test_the_audit_says_in_what_a_name_differs(tmp_path: Path, written: str, kind: str | None):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a b.png").write_bytes(DRAWN)
    fixes = opened(write_coco(tmp_path, "annotations.json", [written])).fixes
    assert [fix.description.startswith(f"image name in {kind}") for fix in fixes] == (
        [True] if kind else []
    )


GARBLED = {
    "Windows reads a zip": lambda name: name.encode().decode("cp437"),
    "Western Windows reads a zip": lambda name: name.encode().decode("cp850"),
    "read as Latin-1": lambda name: name.encode().decode("latin-1"),
    "unzip escapes": lambda name: name.replace("ö", "#U00f6").replace("ß", "#U00df"),
}
DISGUISED: dict[str, tuple[str, str]] = {  # what is written, and what the file is called
    **{each: ("größe 7.png", garble("größe 7.png")) for each, garble in GARBLED.items()},
    "garbled in the annotations": ("größe 7.png".encode().decode("cp437"), "größe 7.png"),
    "blanks as plus": ("a+b+7.png", "a b 7.png"),
    "a time": ("12:30:07.png", "12_30_07.png"),
    "a question": ("what?.png", "what-.png"),
    "quoted": ('"a".png', "_a_.png"),
}


@pytest.mark.parametrize("folder", ["", "images/", "D:\\set\\images\\"])
@pytest.mark.parametrize(("written", "file"), DISGUISED.values(), ids=DISGUISED)
def test_names_that_systems_and_archives_change_are_found(
    tmp_path: Path, written: str, file: str, folder: str
):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / file).write_bytes(DRAWN)
    (tmp_path / "images/other.png").write_bytes(CONTENT[NAMES[0]])
    names = [folder + written, folder + "other.png"]
    dataset = opened(write_coco(tmp_path, "annotations.json", names))
    assert [dataset.path(image).name for image in range(2)] == [file, "other.png"]
    assert any("another spelling" in fix.description for fix in dataset.fixes)


def test_a_name_as_written_comes_before_what_systems_make_of_it(tmp_path: Path):
    (tmp_path / "images").mkdir()
    for file in ("12:30.png", "12_30.png"):
        (tmp_path / "images" / file).write_bytes(CONTENT[NAMES[0]])
    dataset = opened(write_coco(tmp_path, "annotations.json", ["12_30.png", "12:30.png"]))
    assert [dataset.path(image).name for image in range(2)] == ["12_30.png", "12:30.png"]


def test_names_that_differ_in_case_alone_are_two_images(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/A.png").write_bytes(DRAWN)
    (tmp_path / "images/a.png").write_bytes(CONTENT[NAMES[0]])
    dataset = opened(write_coco(tmp_path, "annotations.json", ["a.png", "A.png"]))
    assert [dataset.name(image) for image in range(2)] == ["a.png", "A.png"]
    assert dataset.fixes == ()
    with pytest.raises(DataError, match="1 of 1 image files are missing"):
        opened(write_coco(tmp_path, "annotations.json", ["a.PNG"]))


@pytest.mark.parametrize("written", ["{}", "link/{}", "images/../../secret/{}", "../secret/{}"])
def test_a_link_that_leads_out_is_not_followed(tmp_path: Path, written: str):
    """Neither by a path that names it nor by the search."""
    write_previews(tmp_path / "secret")
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "circle").symlink_to(root)
    write_coco(root, "annotations.json", [written.format(name) for name in NAMES])
    with pytest.raises(DataError, match="3 of 3 image files are missing"):
        opened(root)


@pytest.mark.parametrize("link", ["images", "train", "data"])
def test_a_link_to_a_folder_of_images_on_another_disk_is_followed(tmp_path: Path, link: str):
    write_images(tmp_path / "disk")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / link).symlink_to(tmp_path / "disk")
    dataset = opened(write_coco(tmp_path / "set", "train.json", list(NAMES)))
    assert base_names(dataset) == list(NAMES)


@pytest.mark.parametrize("key", ["coco_url", "filename", "path", "flickr_url", "url"])
@pytest.mark.parametrize("before", ["https://images.host/train2017/", "/x/", "C:\\x\\", ""])
def test_another_key_gives_the_name_where_file_name_is_missing(
    tmp_path: Path, key: str, before: str
):
    write_images(tmp_path / "images")
    tree = coco_tree(list(NAMES))
    for each in tree["images"]:
        each[key] = before + each.pop("file_name")
    (tmp_path / "annotations.json").write_text(json.dumps(tree))
    dataset = opened(tmp_path)
    check(dataset, tmp_path)
    assert f"absent: read from {key!r}" in dataset.fix_counts


def test_a_path_relative_to_the_annotations_is_no_repair_of_another(tmp_path: Path):
    """../images/a.png of labels/train.json is images/a.png, whatever else is called so."""
    write_images(tmp_path / "images")
    write_previews(tmp_path / "labels/images")
    write_previews(tmp_path / "x/images")
    names = [f"../images/{name}" for name in NAMES]
    check(opened(write_coco(tmp_path, "labels/train.json", names)), tmp_path)


def test_the_audit_reports_how_images_were_found_and_fixes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The fixed copy has nothing left to repair."""
    root = tmp_path / "set"
    write_images(root / "images")
    write_coco(root, "annotations.json", [f"D:\\old\\{name}" for name in NAMES])
    main(["audit", str(root), "--fix", str(tmp_path / "fixed")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "image path of another place" in shown
    assert "3 of 3 images, the first" in shown
    os.replace(tmp_path / "fixed/annotations.json", root / "annotations.json")
    assert opened(root).fixes == ()
    check(opened(root), root)


def test_the_same_image_in_two_splits_is_noticed_however_it_was_found(tmp_path: Path, capsys):
    write_images(tmp_path / "pictures/a", NAMES[:2])
    write_images(tmp_path / "pictures/b", NAMES[2:])
    write_coco(tmp_path, "annotations/train.json", list(NAMES))
    write_coco(tmp_path, "annotations/val.json", [f"C:\\x\\{NAMES[2]}"])
    assert main(["audit", str(tmp_path)]) == 1
    assert "the same image file in two splits" in " ".join(capsys.readouterr().out.split())


def test_train_and_val_of_folders_with_split_words_are_opened(tmp_path: Path):
    """As in FLIR's images_train/coco.json and images_val/coco.json."""
    for split in ("train", "val"):
        write_images(tmp_path / f"images_{split}")
        write_coco(tmp_path, f"images_{split}/coco.json", [f"images_{split}/{n}" for n in NAMES])
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        check(dataset, tmp_path)
        assert {dataset.path(image).parent.name for image in range(3)} == {f"images_{split}"}


@pytest.mark.parametrize("words", [("images_{}", "labels_{}"), ("{}_images", "{}_labels")])
@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_labels_in_folders_with_split_words_are_paired(
    tmp_path: Path, words: tuple[str, str], kind: str
):
    for split in ("train", "val"):
        images, labels = (tmp_path / word.format(split) for word in words)
        write_images(images)
        labels.mkdir()
        for number, name in enumerate(NAMES):
            if kind == "yolo":
                line = f"0 0.5 0.5 0.5 {(10 + number) / 40}\n"
                (labels / name).with_suffix(".txt").write_text(line)
            else:
                text = xml(DOG.replace("24", f"{14 + number}"), filename=name)
                (labels / name).with_suffix(".xml").write_text(text)
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        check(dataset, tmp_path)
        assert dataset.images.name == words[0].format(split)


def test_links_in_folders_of_yolo_images_do_not_lead_out(tmp_path: Path):
    write_previews(tmp_path / "secret")
    root = tmp_path / "set"
    write_images(root / "images")
    (root / "images/more").symlink_to(tmp_path / "secret")
    (root / "images/again").symlink_to(root)
    (root / "labels").mkdir()
    for number, name in enumerate(NAMES):
        line = f"0 0.5 0.5 0.5 {(10 + number) / 40}\n"
        (root / "labels" / name).with_suffix(".txt").write_text(line)
    dataset = opened(root)
    check(dataset, root)
    assert len(dataset) == len(NAMES)


def test_the_folder_with_most_xml_files_is_read_and_ties_that_differ_are_refused(tmp_path: Path):
    write_images(tmp_path / "images")
    for folder, names in (("annots", NAMES[:1]), ("xmls", NAMES)):
        (tmp_path / folder).mkdir()
        for name in names:
            text = xml(DOG.replace("24", f"{14 + NAMES.index(name)}"), filename=name)
            (tmp_path / folder / name).with_suffix(".xml").write_text(text)
    dataset = opened(tmp_path)
    check(dataset, tmp_path)
    assert len(dataset) == len(NAMES)
    for name in NAMES[1:]:
        path = (tmp_path / "annots" / name).with_suffix(".xml")
        path.write_text(xml(DOG, filename=name))
    with pytest.raises(DataError, match=r"annots and .*xmls hold different XML files; move one"):
        opened(tmp_path)


def test_an_image_that_appears_later_is_found_although_the_set_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("setmatch.data.cache.cache._MIN_SECONDS", 0.0)
    write_images(tmp_path / "images/a", NAMES[:2])
    (tmp_path / "images/b/c").mkdir(parents=True)
    write_coco(tmp_path, "annotations.json", list(NAMES))
    assert base_names(opened(tmp_path)) == list(NAMES[:2])
    write_images(tmp_path / "images/b/c", NAMES[2:])
    assert base_names(opened(tmp_path)) == list(NAMES)

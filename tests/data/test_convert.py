"""Conversions keep what both formats can hold, in any direction."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from setmatch.cli import main
from setmatch.data.convert import convert_dataset
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.registry import writable_formats
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError, DataError

TRIANGLE = [3.25, 2.0, 30.1, 2.5, 10.0, 20.75]


def write_coco(root: Path, splits: dict[str, list[dict]], classes=("cat", "dog")) -> Path:
    """Write images of 60 × 40, three a split, with the given annotations."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for split, annotations in splits.items():
        names = [f"{split} {number}.png" for number in range(3)]
        for name in names:
            Image.new("RGB", (60, 40)).save(root / "images" / name)
        tree = {
            "images": [
                {"id": 7 * i, "file_name": name, "height": 40, "width": 60}
                for i, name in enumerate(names)
            ],
            "categories": [{"id": 5 * i, "name": name} for i, name in enumerate(classes)],
            "annotations": annotations,
        }
        (root / "annotations" / f"{split}.json").write_text(json.dumps(tree))
    return root


def annotation(id_: int, image: int, class_index: int, bbox: list[float], **more) -> dict:
    plain = {"id": id_, "image_id": 7 * image, "category_id": 5 * class_index, "bbox": bbox}
    return plain | {"area": bbox[2] * bbox[3], "iscrowd": 0} | more


def content(dataset: DetectionDataset) -> list[tuple]:
    """Return what all formats hold: sizes, and each image's objects in order."""
    rows = []
    for image in range(len(dataset)):
        own = slice(dataset.offsets[image], dataset.offsets[image + 1])
        names = [
            dataset.categories.name(class_index)
            for class_index in dataset.class_indices[own].tolist()
        ]
        rows.append(
            (dataset.size_px(image), names, dataset.crowd[own].tolist(), dataset.xywh_px[own])
        )
    return rows


def assert_same(one: DetectionDataset, other: DetectionDataset, within_px: float) -> None:
    assert len(one) == len(other)
    for (size, names, crowd, xywh), (size2, names2, crowd2, xywh2) in zip(
        content(one), content(other)
    ):
        assert (size, names, crowd) == (size2, names2, crowd2)
        np.testing.assert_allclose(xywh2, xywh, rtol=0, atol=within_px)


SIDES = st.floats(0.01, 60) | st.integers(1, 60).map(float)
BOXES = st.tuples(st.floats(0, 59), st.floats(0, 39), SIDES, SIDES).map(list)
OBJECTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), BOXES), max_size=6)


@settings(max_examples=10)
@given(OBJECTS, st.permutations(["coco", "voc", "yolo"]))
def test_boxes_survive_any_chain_of_conversions(tmp_path_factory, objects, way):
    """Exactly until YOLO, and within a millionth of a pixel after it."""
    root = tmp_path_factory.mktemp("way")
    rows = [annotation(i, *each) for i, each in enumerate(objects)]
    here = write_coco(root / "start", {"train": rows, "val": []})
    first, within_px = open_dataset(here, "train"), 0.0
    if not objects:
        return
    for to in way:
        within_px = 1e-6 if to == "yolo" else within_px
        convert_dataset(here, root / to, to)
        here = root / to
        assert_same(first, open_dataset(here, "train"), within_px)
        assert len(open_dataset(here, "val")) == 3
        assert open_dataset(here, "val").categories.names == first.categories.names


def rich(root: Path) -> Path:
    runs = {"counts": "0T1", "size": [40, 60]}
    hull = [3.25, 2.0, 26.85, 18.75]
    return write_coco(
        root,
        {
            "train": [
                annotation(1, 0, 1, hull, segmentation=[TRIANGLE]),
                annotation(2, 0, 0, [1, 1, 50, 30], segmentation=[TRIANGLE]),
                annotation(3, 1, 0, [0, 0, 9, 9], iscrowd=1, segmentation=runs),
                annotation(4, 2, 0, hull, segmentation=[TRIANGLE, TRIANGLE]),
            ],
            "test": [],
        },
    )


def test_coco_keeps_everything(tmp_path: Path):
    """Ids, areas, crowds, polygons and run lengths come back to the last bit."""
    convert_dataset(rich(tmp_path / "a"), tmp_path / "b", "coco")
    one, other = (json.loads((tmp_path / f / "annotations/train.json").read_text()) for f in "ab")
    assert other["annotations"] == one["annotations"]
    assert other["categories"] == one["categories"]
    assert other["images"] == one["images"]


def test_voc_keeps_polygons_and_crowds(tmp_path: Path):
    """Crowds are VOC's difficult objects; losses are reported."""
    done = convert_dataset(rich(tmp_path / "a"), tmp_path / "b", "voc", splits=["train"])
    assert done.notes == ("1 segmentations as run lengths: left out, VOC has polygons only",)
    both = [open_dataset(tmp_path / "b", split, "voc") for split in ("train", "val")]
    assert sum(len(part) for part in both) == 3
    rings = [
        i.segmentations.rings(row)
        for i in both
        for row in range(len(i.class_indices))
        if i.segmentations
    ]
    assert sorted(map(len, rings)) == [0, 1, 1, 2]
    for ring in (ring for own in rings for ring in own):
        assert ring.ravel().tolist() == np.float32(TRIANGLE).tolist()
    assert sum(int(part.crowd.sum()) for part in both) == 1


def test_yolo_keeps_polygons_whose_bounding_box_is_the_box(tmp_path: Path):
    """Other objects become boxes, and crowds are left out: both are reported."""
    done = convert_dataset(rich(tmp_path / "a"), tmp_path / "b", "yolo", splits=["train"])
    assert done.notes == (
        "1 crowds: left out, YOLO has none",
        "1 objects: written as boxes: their segmentation has another bounding box, or is not a "
        "polygon",
    )
    lines = (tmp_path / "b/labels/train/train 0.txt").read_text().splitlines()
    assert sorted(len(line.split()) for line in lines) == [5, 7]
    # Two rings as one: there, round, back; six points of two triangles, two to close, one back.
    assert len((tmp_path / "b/labels/train/train 2.txt").read_text().split()) == 1 + 2 * 9


def test_paths_in_data_yaml_are_relative_to_the_file(tmp_path: Path):
    """With a "path", some tools would start from the working directory."""
    source = write_coco(tmp_path / "coco", {"train": [], "val": []})
    convert_dataset(source, tmp_path / "yolo", "yolo")
    lines = (tmp_path / "yolo" / "data.yaml").read_text().splitlines()
    assert lines[:2] == ["train: images/train", "val: images/val"]


def test_yolo_gets_the_validation_split_that_training_would_hold_out(tmp_path: Path):
    """YOLO tools refuse a data.yaml without one."""
    source = tmp_path / "scenes"
    write_scenes(source, 24, 1, 64, 0, workers=0)
    (source / "annotations" / "val.json").unlink()
    made = convert_dataset(source, tmp_path / "yolo", "yolo")
    assert any("held out" in note for note in made.notes)
    for split in ("train", "val"):
        ours, theirs = (open_dataset(place, split) for place in (source, tmp_path / "yolo"))
        assert_same(ours, theirs, within_px=1e-6)
    assert convert_dataset(source, tmp_path / "coco", "coco").images == {"train": 24}
    whole = convert_dataset(source / "annotations" / "train.json", tmp_path / "whole", "yolo")
    assert whole.images == {"train": 24}  # a single file is one split


def test_the_images_held_out_are_from_the_folder_that_was_chosen(tmp_path: Path):
    """The other folder has previews of the same names, with boxes drawn on them."""
    source = tmp_path / "scenes"
    write_scenes(source, 24, 1, 64, 0, workers=0)
    (source / "annotations" / "val.json").unlink()
    (source / "images").rename(source / "raw")
    for path in (source / "raw").rglob("*.*"):
        preview = source / "drawn" / path.relative_to(source / "raw")
        preview.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(preview)
    with pytest.raises(DataError, match="lie in several folders"):
        convert_dataset(source, tmp_path / "yolo", "yolo")
    made = convert_dataset(source, tmp_path / "yolo", "yolo", images=source / "raw")
    assert sum(made.images.values()) == 24
    assert made.images["val"]
    chosen = {path.read_bytes() for path in (source / "raw").rglob("*.*")}
    written = [path.read_bytes() for path in (tmp_path / "yolo/images").rglob("*.*")]
    assert set(written) <= chosen


def test_what_was_found_where_is_said(tmp_path: Path):
    """As `audit` and `train` say it."""
    write_scenes(tmp_path / "outer/inner", 4, 1, 64, 0, workers=0)
    made = convert_dataset(tmp_path / "outer", tmp_path / "coco", "coco")
    assert any("read from inner/" in note for note in made.notes)


def test_images_that_would_share_a_label_file_are_renamed(tmp_path: Path):
    """a.png and a.jpg, or x/a.png and y/a.png."""
    root = write_coco(tmp_path / "a", {"train": [annotation(1, 0, 0, [1, 2, 3, 4])]})
    tree = json.loads((root / "annotations/train.json").read_text())
    for row, name in zip(tree["images"], ("a.png", "a.jpg", "x/a.png")):
        row["file_name"] = name
        (root / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40)).save(root / "images" / name)
    (root / "annotations/train.json").write_text(json.dumps(tree))
    for to in ("yolo", "voc"):
        convert_dataset(root, tmp_path / to, to)
        parts = [open_dataset(tmp_path / to, split) for split in ("train", "val")]
        assert sum(map(len, parts)) == 3
        assert sum(len(part.class_indices) for part in parts) == 1


def test_link_links_to_the_images_instead_of_copying(tmp_path: Path):
    convert_dataset(rich(tmp_path / "a"), tmp_path / "b", "yolo", link=True)
    image = tmp_path / "b/images/train/train 0.png"
    assert image.is_symlink()
    assert image.resolve() == tmp_path / "a/images/train 0.png"


@pytest.mark.parametrize("to", writable_formats())
def test_a_failed_conversion_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
):
    root = rich(tmp_path / "a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DataError, match="No space left"):
        convert_dataset(root, tmp_path / "b" / "c", to)
    assert list((tmp_path / "b").iterdir()) == [] if (tmp_path / "b").exists() else True


def test_a_folder_that_is_not_empty_is_never_overwritten(tmp_path: Path):
    root = rich(tmp_path / "a")
    (tmp_path / "b").mkdir()
    convert_dataset(root, tmp_path / "b", "coco")
    with pytest.raises(ConfigError, match="exists already"):
        convert_dataset(root, tmp_path / "b", "coco")
    with pytest.raises(ConfigError, match="unknown format"):
        convert_dataset(root, tmp_path / "c", "tfrecord")
    with pytest.raises(DataError, match=r"no split 'val'; found test, train"):
        convert_dataset(root, tmp_path / "c", "coco", splits=["val"])


def test_classes_that_a_format_cannot_hold_are_refused(tmp_path: Path):
    """A line break in a name would make two classes."""
    root = write_coco(tmp_path / "a", {"train": []}, classes=("cat", "d\nog"))
    with pytest.raises(DataError, match="rename the class"):
        convert_dataset(root, tmp_path / "b", "voc")
    names = ("cat & <dog>", "no", "7", "ü: {x}")
    root = write_coco(
        tmp_path / "c",
        {"train": [annotation(i, 0, i, [i, 1, 2, 3]) for i in range(4)], "val": []},
        classes=names,
    )
    for to in ("voc", "yolo"):
        convert_dataset(root, tmp_path / to, to)
        dataset = open_dataset(tmp_path / to, "train")
        assert dataset.categories.names == names
        assert dataset.class_indices.tolist() == [0, 1, 2, 3]


def test_the_command_line_converts(tmp_path: Path, capsys):
    """A user's mistake is one line and exit code 2."""
    root = rich(tmp_path / "a")
    assert main(["convert-data", str(root), str(tmp_path / "b"), "--to", "yolo"]) == 0
    out = capsys.readouterr().out
    assert "train: 2 images, 3 annotations\ntest: 3 images, 0 annotations\nval: 1 image" in out
    assert "held out" in out
    assert "1 crowds: left out, YOLO has none" in out
    assert main(["convert-data", str(root), str(tmp_path / "b"), "--to", "voc"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_splits_that_are_not_converted_are_named(tmp_path: Path):
    """Only train, val and test are converted if no split is named."""
    splits = {name: [annotation(1, 0, 0, [1, 2, 9, 9])] for name in ("train", "val", "holdout")}
    write_coco(tmp_path / "data", splits)
    notes = convert_dataset(tmp_path / "data", tmp_path / "out", "voc").notes
    assert "not converted: 'holdout'; name a split with --split" in notes
    chosen = convert_dataset(tmp_path / "data", tmp_path / "own", "voc", splits=["holdout"])
    assert not any("not converted" in note for note in chosen.notes)

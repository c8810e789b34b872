"""Annotations in formats that are not read are named, with what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from setmatch.data.formats.text_formats import describe_text
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

SHAPE = {"label": "cat", "points": [[1, 2], [9, 8]], "shape_type": "rectangle"}
REGION = {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}}
OF_IMAGE = {"filename": "a.jpg", "size": 1, "regions": [REGION], "file_attributes": {}}
BOX = {"label": "cat", "coordinates": {"x": 1, "y": 2, "width": 3, "height": 4}}
TABLE = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,60,40,cat,1,2,9,8\n"
OPEN_IMAGES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,/m/1,1,.1,.2,.1,.2\n"
FORMATS: dict[str, tuple[str, Any, str]] = {  # file, content, its name in the error
    "labelme": ("a.json", {"shapes": [SHAPE], "imagePath": "a.jpg", "imageData": None}, "labelme"),
    "VIA": ("via.json", {"a.jpg1": OF_IMAGE}, "VIA"),
    "a VIA project": ("project.json", {"_via_settings": {}, "_via_img_metadata": {}}, "VIA"),
    "VIA's table": ("via.csv", "filename,region_count,region_shape_attributes\n", "table of boxes"),
    "Supervisely": (
        "a.jpg.json",
        {"size": {"height": 4}, "objects": [], "tags": []},
        "Supervisely",
    ),
    "CreateML": ("notes.json", [{"image": "a.jpg", "annotations": [BOX]}], "CreateML"),
    "Datumaro": ("train.json", {"info": {}, "categories": {}, "items": []}, "Datumaro"),
    "FiftyOne": ("samples.json", {"samples": [{"filepath": "a.jpg"}]}, "FiftyOne"),
    "GeoJSON": ("a.geojson", {"type": "FeatureCollection", "features": []}, "GeoJSON"),
    "GeoJSON in JSON": ("a.json", {"type": "FeatureCollection", "features": []}, "GeoJSON"),
    "BDD100K": ("bdd.json", [{"name": "a.jpg", "labels": [{"box2d": {"x1": 1}}]}], "BDD100K"),
    "Label Studio's short JSON": (
        "min.json",
        [{"id": 1, "image": "a.jpg", "label": [{"original_width": 60}]}],
        "Label Studio",
    ),
    "objects a line": ("boxes.jsonl", '{"image": "a.jpg", "boxes": []}\n{}\n', "object a line"),
    "Label Studio": ("project.json", [{"data": {"image": "a"}, "annotations": []}], "Label Studio"),
    "a table": ("labels.csv", TABLE, "table of boxes"),
    "a table of Open Images": ("boxes.csv", OPEN_IMAGES, "table of boxes"),
    "TFRecord": ("train.tfrecord", "\0\1", "TFRecord"),
    "records": ("pets.record", "\0\1", "TFRecord"),
    **{
        f"packed as {suffix}": (f"train{suffix}", "PK", "unpack it where it lies")
        for suffix in (".json.gz", ".ZIP", ".tar.gz", ".7z", ".json.xz", ".rar")
    },
    "Darknet": ("obj.names", "cat\n", "Darknet"),
    "VoTT": ("x-export.json", {"name": "x", "securityToken": "y", "assets": {}}, "VoTT"),
    "an asset of VoTT": ("1-asset.json", {"asset": {"name": "a.jpg"}, "regions": []}, "VoTT"),
    "Detectron2": ("a.json", [{"file_name": "a.jpg", "annotations": []}], "Detectron2"),
    "a backup of CVAT": ("annotations.json", [{"version": 0, "shapes": [], "tracks": []}], "CVAT"),
    "Parquet": ("train-0.parquet", "PAR1", "Parquet"),
    "Ultralytics": ("set.ndjson", '{"type": "dataset", "class_names": {}}\n', "object a line"),
    "CrowdHuman": ("train.odgt", '{"ID": "a", "gtboxes": []}\n', "object a line"),
    **{
        name: (f"{name[:3]}.txt", text, name)
        for name, text in {
            "KITTI": "Car 0.00 0 -1.57 614.2 181.8 727.3 284.8 1.6 1.7 4.2 1.0 1.7 13.2 -1.59\n",
            "DOTA": "imagesource:GoogleEarth\ngsd:0.1\n5 5 9 5 9 8 5 8 small-vehicle 0\n",
            "VisDrone": "684,8,273,116,0,0,0,0\n406,119,265,70,1,4,0,1\n",
            "MOTChallenge": "1,1,912,484,97,109,1,1,1\n2,1,912,484,97,109,0,7,1\n",
            "WIDER FACE": "0--Parade/a.jpg\n1\n449 330 122 149 0 0 0 0 0 0\n",
            "a list of images with their boxes": "a.jpg 1,2,9,8,0 3,4,9,8,1\nb.jpg\n",
        }.items()
    },
}


def write(root: Path, folder: str, file: str, content: Any) -> Path:
    Image.new("RGB", (60, 40)).save(root / "a.jpg")
    (root / folder).mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / folder / file).write_text(text)
    return root / folder / file


NAMED_ALONE: dict[str, tuple[str, Any, str]] = {
    "CVAT": ("annotations.xml", '<?xml version="1.0"?>\n<annotations>\n</annotations>', "CVAT"),
    "captions": (
        "a.json",
        {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]},
        "captions, which have no boxes; name the file of instances",
    ),
    "detections": (
        "a.json",
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "no annotations; name the file of annotations",
    ),
    "a pointer of Git LFS": (
        "a.json",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "fetch it with `git lfs pull`",
    ),
    "a page": ("a.json", "<!DOCTYPE html>\n<html></html>", "download the file again"),
}


@pytest.mark.parametrize("folder", [".", "ann", "some folder", "some folder/ann"])
@pytest.mark.parametrize(("file", "content", "name"), FORMATS.values(), ids=FORMATS)
def test_the_error_names_the_format_and_what_to_do(
    tmp_path: Path, folder: str, file: str, content: Any, name: str
):
    path = write(tmp_path, folder, file, content)
    with pytest.raises(DataError, match="no annotations found") as caught:
        open_dataset(tmp_path, "train")
    message = str(caught.value)
    assert f"{path} looks like " in message
    assert name in message.partition("looks like")[2]
    assert any(word in message for word in ("export", "convert", "write a data.yaml", "unpack"))


OTHERS = {
    "shapes alone": ("notes.json", {"shapes": 3}),
    "a broken file": ("broken.json", '{"shapes": ['),
    "a deep file": ("deep.json", "[" * 100_000),
    "prices": ("prices.csv", "name,price\napple,3\n"),
    "nothing": ("empty.csv", ""),
    **{f"{tree}": ("a.json", tree) for tree in ([], [1], {}, [{}], "x", {"a": [1]}, [[[]]])},
}


@pytest.mark.parametrize(("file", "content"), OTHERS.values(), ids=OTHERS)
def test_other_files_are_not_named(tmp_path: Path, file: str, content: Any):
    write(tmp_path, ".", file, content)
    with pytest.raises(DataError, match="no annotations found") as caught:
        open_dataset(tmp_path, "train")
    assert "looks like" not in str(caught.value)


@pytest.mark.parametrize("format", [None, "coco"])
@pytest.mark.parametrize(
    ("file", "content", "name"), (FORMATS | NAMED_ALONE).values(), ids=FORMATS | NAMED_ALONE
)
def test_a_file_that_is_given_by_name_is_named_alone(
    tmp_path: Path, file: str, content: Any, name: str, format: str | None
):
    """Not by what it lacks to be COCO's."""
    path = write(tmp_path, ".", file, content)
    with pytest.raises(DataError) as caught:
        open_dataset(path, "train", format)
    assert str(caught.value).startswith(f"{path} looks like ")
    assert name in str(caught.value)


def test_a_split_that_is_a_pointer_of_git_lfs_is_named(tmp_path: Path):
    path = write(
        tmp_path, "annotations", "instances_train2017.json", NAMED_ALONE["a pointer of Git LFS"][1]
    )
    with pytest.raises(DataError, match=f"{path}: looks like a pointer of Git LFS"):
        open_dataset(tmp_path, "train")


def test_a_folder_of_cvats_own_xml_is_named(tmp_path: Path):
    file, content, _ = NAMED_ALONE["CVAT"]
    write(tmp_path, ".", file, content)
    with pytest.raises(DataError, match="CVAT's own XML is not read: export as COCO there"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "", "\0\0"])
def test_any_other_json_that_is_given_by_name_says_what_it_lacks(tmp_path: Path, content: str):
    path = write(tmp_path, ".", "a.json", content)
    with pytest.raises(DataError, match=f"{path}: "):
        open_dataset(path, "train")


@pytest.mark.parametrize("name", ["KITTI", "DOTA", "VisDrone"])
def test_label_files_of_other_formats_are_named(tmp_path: Path, name: str):
    """They lie where YOLO's labels would, and were called numbers that are wrong."""
    write(tmp_path, "labels", "a.txt", FORMATS[name][1])
    (tmp_path / "images").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match=rf"a\.txt: looks like {name}, which is not read; convert"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    "row",
    [
        *("0 0.5 0.5 0.1 0.1", "1,0.5,0.5,0.1,0.1", "1 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2"),
        *("1,0.1,0.1,0.2,0.1,0.2,0.2,0.1,0.2", "1,1,0,1,1,0,1,0,0", "1,9,5,9,8,5,8,5,5", "", "# a"),
    ],
)
def test_labels_of_yolo_are_no_other_format(row: str):
    assert describe_text(f"{row}\n{row}\n") == ""

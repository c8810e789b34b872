"""Annotations in formats that are not read are named, with what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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
    "Label Studio": ("project.json", [{"data": {"image": "a"}, "annotations": []}], "Label Studio"),
    "a table": ("labels.csv", TABLE, "table of boxes"),
    "a table of Open Images": ("boxes.csv", OPEN_IMAGES, "table of boxes"),
    "TFRecord": ("train.tfrecord", "\0\1", "TFRecord"),
    "records": ("pets.record", "\0\1", "TFRecord"),
    "Darknet": ("obj.names", "cat\n", "Darknet"),
}


def write(root: Path, folder: str, file: str, content: Any) -> Path:
    Image.new("RGB", (60, 40)).save(root / "a.jpg")
    (root / folder).mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / folder / file).write_text(text)
    return root / folder / file


@pytest.mark.parametrize("folder", [".", "ann", "some folder"])
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
    assert any(word in message for word in ("export", "convert", "write a data.yaml"))


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


def test_a_table_that_is_given_by_name_is_named(tmp_path: Path):
    path = write(tmp_path, ".", "labels.csv", TABLE)
    with pytest.raises(DataError, match=r"neither COCO JSON.*labels\.csv looks like a table"):
        open_dataset(path, "train")

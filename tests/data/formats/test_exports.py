"""What annotation tools export, folder by folder: every box and every class is read as it was made.

Layouts and habits after the tools' documentation; no file is a tool's own.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from setmatch.data.open import open_splits

CLASSES = ("cat", "dog", "bird")
Box = tuple[int, int, int, int]  # corners


@dataclass(frozen=True)
class Made:
    """An image and its objects as they were drawn."""

    name: str
    width: int
    height: int
    objects: list[tuple[str, Box]]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]


def _made(seed: int, count: int) -> list[Made]:
    """Images of several shapes, one of them without objects."""
    numbers = random.Random(seed)
    images = []
    for i in range(count):
        width, height = numbers.choice([(96, 72), (64, 80), (120, 60)])
        objects = []
        for j in range(i % 4):
            w, h = numbers.randint(9, width // 2), numbers.randint(9, height // 2)
            x, y = numbers.randint(0, width - w), numbers.randint(0, height - h)
            objects.append((CLASSES[(i + j) % 3], (x, y, x + w, y + h)))
        images.append(Made(f"shot {i}.v{seed}.jpg", width, height, objects))
    return images


def _save(folder: Path, images: list[Made]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in images:
        Image.new("RGB", (each.width, each.height)).save(folder / each.name)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


def _coco(images: list[Made], first: int = 1, before: str = "", **more: Any) -> dict[str, Any]:
    """A COCO tree whose ids count from `first`; `more` is in every annotation."""
    listed = [
        {"id": i, "file_name": before + each.name, "width": each.width, "height": each.height}
        for i, each in enumerate(images, start=first)
    ]
    found = [
        (image, name, box)
        for image, each in enumerate(images, start=first)
        for name, box in each.objects
    ]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": CLASSES.index(name) + first,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "segmentation": [],
            "iscrowd": 0,
            **more,
        }
        for number, (image, name, (x0, y0, x1, y1)) in enumerate(found, start=first)
    ]
    categories = [
        {"id": i, "name": name, "supercategory": ""} for i, name in enumerate(CLASSES, start=first)
    ]
    return {
        "info": {"year": 2026},
        "licenses": [],
        "images": listed,
        "annotations": annotations,
        "categories": categories,
    }


def _line(each: Made, name: str, box: Box) -> str:
    x0, y0, x1, y1 = box
    center = (x0 + x1) / 2 / each.width, (y0 + y1) / 2 / each.height
    size = (x1 - x0) / each.width, (y1 - y0) / each.height
    return " ".join([str(CLASSES.index(name)), *(f"{value:.6f}" for value in (*center, *size))])


def _yolo(labels: Path, images: list[Made], end: str = "\n") -> None:
    for each in images:
        lines = [_line(each, name, box) for name, box in each.objects]
        _write(labels / f"{each.stem}.txt", "".join(line + end for line in lines))


def _voc(folder: Path, images: list[Made], more: str = "", box_more: str = "") -> None:
    for each in images:
        objects = "".join(
            f"<object><name>{name}</name>{more}<occluded>0</occluded><bndbox>"
            f"<xmin>{x0}{box_more}</xmin><xmax>{x1}{box_more}</xmax><ymin>{y0}{box_more}</ymin>"
            f"<ymax>{y1}{box_more}</ymax></bndbox></object>\n"
            for name, (x0, y0, x1, y1) in each.objects
        )
        size = f"<width>{each.width}</width><height>{each.height}</height><depth>3</depth>"
        _write(
            folder / f"{each.stem}.xml",
            f"<annotation>\n<folder></folder><filename>{each.name}</filename>"
            f"<path>{each.name}</path><source><database>x</database></source>"
            f"<size>{size}</size><segmented>0</segmented>\n{objects}</annotation>\n",
        )


def _parts(images: list[Made], *names: str) -> list[tuple[str, list[Made]]]:
    count = len(images) // len(names)
    return [(name, images[i * count :][:count]) for i, name in enumerate(names)]


def roboflow_coco(root: Path, images: list[Made]) -> None:
    """The parent of all classes is category 0, and has no object."""
    for split, part in _parts(images, "train", "valid", "test"):
        _save(root / split, part)
        tree = _coco(part)
        tree["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        _write(root / split / "_annotations.coco.json", json.dumps(tree))
    _write(root / "README.roboflow.txt", "x")


def roboflow_yolo(root: Path, images: list[Made]) -> None:
    for split, part in _parts(images, "train", "valid"):
        _save(root / split / "images", part)
        _yolo(root / split / "labels", part)
    names = ", ".join(f"'{name}'" for name in CLASSES)
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../valid/images\n"
    _write(root / "data.yaml", f"{paths}\nnc: 3\nnames: [{names}]\n\nroboflow:\n  version: 1\n")


def roboflow_voc(root: Path, images: list[Made]) -> None:
    for split, part in _parts(images, "train", "valid"):
        _save(root / split, part)
        _voc(root / split, part, "<pose>Unspecified</pose><difficult>0</difficult>")


def cvat_coco(root: Path, images: list[Made]) -> None:
    for split, part in _parts(images, "Train", "Validation"):
        _save(root / "images" / split, part)
        tree = _coco(part, attributes={"occluded": False, "rotation": 0.0})
        _write(root / f"annotations/instances_{split}.json", json.dumps(tree))


def cvat_coco_of_one_job(root: Path, images: list[Made]) -> None:
    _save(root / "images/default", images)
    _write(root / "annotations/instances_default.json", json.dumps(_coco(images)))


def cvat_yolo(root: Path, images: list[Made]) -> None:
    _save(root / "obj_train_data", images)
    _yolo(root / "obj_train_data", images)
    _write(root / "obj.names", "\n".join(CLASSES))
    _write(root / "obj.data", "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\n")
    _write(root / "train.txt", "".join(f"data/obj_train_data/{each.name}\n" for each in images))


def cvat_voc(root: Path, images: list[Made]) -> None:
    _save(root / "JPEGImages", images)
    attribute = "<attribute><name>rotation</name><value>0.0</value></attribute>"
    _voc(root / "Annotations", images, f"<attributes>{attribute}</attributes>", ".0")
    _write(root / "ImageSets/Main/default.txt", "\n".join(each.stem for each in images))


def label_studio_coco(root: Path, images: list[Made]) -> None:
    """On Windows; all ids count from 0."""
    _save(root / "images", images)
    tree = _coco(images, 0, "images\\", ignore=0)
    _write(root / "result.json", json.dumps(tree, indent=2))


def label_studio_yolo(root: Path, images: list[Made]) -> None:
    _save(root / "images", images)
    _yolo(root / "labels", images)
    _write(root / "classes.txt", "\n".join(CLASSES))
    _write(root / "notes.json", json.dumps({"categories": [{"id": 0, "name": "cat"}], "info": {}}))


def fiftyone_coco(root: Path, images: list[Made]) -> None:
    _save(root / "data", images)
    _write(root / "labels.json", json.dumps(_coco(images, score=1.0)))


def fiftyone_yolo(root: Path, images: list[Made]) -> None:
    for split, part in _parts(images, "train", "val"):
        _save(root / "images" / split, part)
        _yolo(root / "labels" / split, part)
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    paths = "train: ./images/train/\nval: ./images/val/\n"
    _write(root / "dataset.yaml", f"names:\n{names}path: /content/exports/pets\n{paths}")


def a_script_on_windows(root: Path, images: list[Made]) -> None:
    _save(root / "images", images)
    _yolo(root / "labels", images, "  \t\r\n")
    _write(root / "classes.txt", "".join(f"{name} \r\n" for name in CLASSES))


def a_script_with_commas(root: Path, images: list[Made]) -> None:
    label_studio_yolo(root, images)
    for path in (root / "labels").iterdir():
        path.write_text(path.read_text().replace(" ", ", "), encoding="utf-8-sig")


def powershell(root: Path, images: list[Made]) -> None:
    fiftyone_yolo(root, images)
    for path in [*root.rglob("*.txt"), root / "dataset.yaml"]:
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode("utf-16"))


def a_database(root: Path, images: list[Made]) -> None:
    """All values are texts, and ids those of rows."""
    _save(root / "images", images)
    tree = _coco(images)
    for each in tree["images"]:
        each["id"] = f"row-{each['id']}"
    for each in tree["annotations"]:
        each |= {"image_id": f"row-{each['image_id']}", "bbox": [*map(str, each["bbox"])]}
        each |= {key: str(each[key]) for key in ("id", "category_id", "area", "iscrowd")}
    _write(root / "pets.json", json.dumps(tree))


def converted_images(root: Path, images: list[Made]) -> None:
    """Annotated as PNG, shared as JPEG."""
    _save(root / "images", images)
    _write(root / "pets.json", json.dumps(_coco(images)).replace(".jpg", ".png"))


EXPORTS: list[Callable[[Path, list[Made]], None]] = [
    *(roboflow_coco, roboflow_yolo, roboflow_voc, cvat_coco, cvat_coco_of_one_job, cvat_yolo),
    *(cvat_voc, label_studio_coco, label_studio_yolo, fiftyone_coco, fiftyone_yolo),
    *(a_script_on_windows, a_script_with_commas, powershell, a_database, converted_images),
]


@pytest.mark.crossed
@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_box_of_an_export_is_read_as_it_was_made(tmp_path: Path, export, seed: int):
    images = _made(seed, 12)
    export(tmp_path, images)
    opened = open_splits(tmp_path)
    assert not opened.errors
    found = {}
    for dataset in opened.datasets.values():
        assert dataset.convention_doubt is None
        assert not dataset.crowd.any()
        for image in range(len(dataset)):
            rows = dataset.rows(image)
            names = [dataset.categories.name(dataset.class_indices[row]) for row in rows]
            boxes = dataset.xywh_px[rows.start : rows.stop]
            corners = [(x, y, x + w, y + h) for x, y, w, h in boxes.round(3).tolist()]
            rounded = [tuple(map(round, each)) for each in corners]
            found[dataset.path(image).name] = sorted(zip(names, rounded, strict=True))
            assert all(
                abs(value - whole) < 0.01
                for each, near in zip(corners, rounded, strict=True)
                for value, whole in zip(each, near, strict=True)
            )
    assert found == {each.name: sorted(each.objects) for each in images}

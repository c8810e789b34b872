"""A few damaged annotation files cost their images; many are an error that names the first."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.convert import convert_dataset
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.missing_images import DAMAGED
from setmatch.data.open import open_dataset
from setmatch.errors import DataError

IMAGES = 25  # of which two may be left out
BOX = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
OBJECT = f"<object><name>cat</name>{BOX}</object>"
XML = f"<annotation><size><width>40</width><height>30</height></size>{OBJECT}</annotation>"
LABEL = "0 0.5 0.5 0.5 0.5\n"

Damage = Callable[[Path], object]


def text(content: str) -> Damage:
    return lambda path: path.write_text(content)


def data(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, dict[str, Damage]] = {
    "yolo": {
        "cut short": text(LABEL + "0 0.5 0.5"),
        "words": text("cat 0.5 0.5 0.5 0.5\n"),
        "negative class": text("-1 0.5 0.5 0.5 0.5\n"),
        "no whole class": text("0.5 0.5 0.5 0.5 0.5\n"),
        "bytes": data(b"\xff\xfe\x00\x01" * 9),
        "page of an error": text("<html>404</html>"),
        "folder": folder,
    },
    "voc": {
        "cut short": text(XML[:70]),
        "empty": text(""),
        "another root": text("<html>404</html>"),
        "DOCTYPE": text('<!DOCTYPE a [<!ENTITY b "c">]>' + XML),
        "no name": text(XML.replace("<name>cat</name>", "")),
        "no box": text(XML.replace(BOX, "")),
        "half a box": text(XML.replace("<xmax>30</xmax>", "")),
        "words": text(XML.replace(">30<", ">thirty<", 1).replace(">3<", ">x<")),
        "two boxes": text(XML.replace(BOX, BOX + BOX)),
        "bytes": data(b"\xff\xfe\x00\x01" * 9),
        "too deep": text("<annotation>" + "<a>" * 200 + "</a>" * 200 + "</annotation>"),
    },
}
CASES = [(format, kind) for format, kinds in DAMAGES.items() for kind in kinds]


def dataset(root: Path, format: str, damaged: int, kind: str) -> Path:
    """Return a data set of IMAGES images, each with one box; the first files are damaged."""
    images, labels, suffix = {
        "yolo": ("images/train", "labels/train", ".txt"),
        "voc": ("JPEGImages", "Annotations", ".xml"),
    }[format]
    (root / images).mkdir(parents=True)
    (root / labels).mkdir(parents=True)
    if format == "yolo":
        (root / "data.yaml").write_text("names: [cat]\ntrain: images/train\nval: images/train\n")
    else:
        (root / "ImageSets" / "Main").mkdir(parents=True)
        names = "".join(f"{image:02}\n" for image in range(IMAGES))
        for split in ("train", "val"):
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    for image in range(IMAGES):
        Image.new("RGB", (40, 30), (image, 0, 0)).save(root / images / f"{image:02}.png")
        path = root / labels / f"{image:02}{suffix}"
        path.write_text(LABEL if format == "yolo" else XML)
        if image < damaged:
            DAMAGES[format][kind](path)
    return root


def opened(root: Path, format: str) -> DetectionDataset:
    return open_dataset(root, "train", format)


@pytest.mark.parametrize(("format", "kind"), CASES)
def test_a_few_are_left_out_with_their_images_and_named(tmp_path: Path, format: str, kind: str):
    """An image whose objects are unknown is not one without objects."""
    read = opened(dataset(tmp_path, format, 2, kind), format)
    assert len(read) == len(read.xywh_px) == IMAGES - 2
    assert sorted(read.file_names())[0].endswith("02.png")
    left_out = [fix for fix in read.fixes if fix.description == DAMAGED]
    assert [Path(fix.file).stem for fix in left_out] == ["00", "01"]
    assert all(fix.value and str(tmp_path) not in fix.value for fix in left_out)
    assert any("2 of 25 images are left out" in note for note in read.notes)


@pytest.mark.parametrize(("format", "kind"), CASES)
def test_many_are_refused_with_the_first(tmp_path: Path, format: str, kind: str):
    with pytest.raises(DataError, match=r"00\.(txt|xml)"):
        opened(dataset(tmp_path, format, 3, kind), format)


@pytest.mark.parametrize("format", DAMAGES)
def test_the_audit_names_them_and_a_conversion_leaves_them_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
):
    root = dataset(tmp_path / "data", format, 1, "cut short")
    main(["audit", str(root)])
    shown = "".join(capsys.readouterr().out.split())
    assert "00.txt" in shown or "00.xml" in shown
    convert_dataset(root, tmp_path / "coco", "coco", splits=["train"])
    converted = open_dataset(tmp_path / "coco" / "annotations" / "train.json", "train")
    assert len(converted) == IMAGES - 1

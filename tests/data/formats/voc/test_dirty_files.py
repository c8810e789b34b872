"""A VOC folder with every usual flaw at once: each is reported, and none stops training.

Public VOC sets had these flaws, such as BCCD in its first version.
"""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.open import open_dataset

SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"


def box(*corners: float, name: str = "RBC") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners)
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>\n"


SOUND = box(6, 4, 36, 24)
# Image file: its XML file, the content of that, and the reported flaw.
DIRTY = {
    "plain.jpg": ("plain.xml", SIZE, SOUND, ""),
    "upper.JPG": ("upper.xml", SIZE, SOUND, ""),
    "mixed.Jpeg": ("mixed.XML", SIZE, SOUND, ""),
    "swapped.jpg": ("swapped.xml", SIZE, box(36, 24, 6, 4), "corners swapped"),
    "flat.jpg": ("flat.xml", SIZE, SOUND + box(9, 4, 9, 24), "without area"),
    "nothing.jpg": ("nothing.xml", SIZE, SOUND + box(0, 0, 0, 0), "without area"),
    "outside.jpg": ("outside.xml", SIZE, SOUND + box(90, 4, 99, 24), "outside the image"),
    "over.jpg": ("over.xml", SIZE, box(30, 4, 75, 44), "crosses the image's edge"),
    "sizeless.jpg": ("sizeless.xml", "", SOUND, "size read from the image"),
    "zerosize.jpg": ("zerosize.xml", SIZE.replace("60", "0"), SOUND, "size read from the image"),
    "otherwise.jpg": ("otherwise.xml", SIZE, SOUND, "<filename> of another image"),
    "empty.jpg": ("empty.xml", SIZE, "", ""),
}


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    for number, (image, (xml, size, objects, _)) in enumerate(DIRTY.items()):
        colors = (20 * number, 255 - 20 * number, 7 * number)
        Image.new("RGB", (60, 40), colors).save(tmp_path / "JPEGImages" / image, "JPEG")
        name = "D:\\cells\\BloodImage_00001.jpg" if image == "otherwise.jpg" else image
        text = f"<annotation><filename>{name}</filename>\n{size}\n{objects}</annotation>"
        (tmp_path / "Annotations" / xml).write_text(text)
    return tmp_path


def both(root: Path):
    return [open_dataset(root, split) for split in ("train", "val")]


def test_every_flaw_is_reported_and_every_image_is_used(dirty: Path):
    datasets = both(dirty)
    names = sorted(dataset.name(image) for dataset in datasets for image in range(len(dataset)))
    assert names == sorted(DIRTY)
    fixes = {(fix.file, fix.description) for dataset in datasets for fix in dataset.fixes}
    for xml, _, _, done in DIRTY.values():
        assert any(file == xml and done in text for file, text in fixes) == bool(done)
    for dataset in datasets:
        for image in range(len(dataset)):
            cxcywh = dataset.target(image).cxcywh
            assert ((cxcywh >= 0) & (cxcywh <= 1)).all()
            assert len(cxcywh) == (dataset.name(image) != "empty.jpg")


def test_the_audit_reports_the_flaws_and_passes(dirty: Path, capsys: pytest.CaptureFixture[str]):
    """The fixed copy needs no fix."""
    assert main(["audit", str(dirty), "--fix", str(dirty / "fixed")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for _, _, _, done in DIRTY.values():
        assert done in shown
    shutil.copytree(dirty / "fixed", dirty, dirs_exist_ok=True)
    for split in ("train", "val"):
        assert open_dataset(dirty, split, "coco").fixes == ()


def test_a_file_that_is_not_xml_is_left_out_and_reported_by_the_audit(
    dirty: Path, capsys: pytest.CaptureFixture[str]
):
    images = sum(map(len, both(dirty)))
    (dirty / "Annotations" / "torn.xml").write_text(f"<annotation>{SIZE}{SOUND}"[:70])
    Image.new("RGB", (60, 40)).save(dirty / "JPEGImages" / "torn.jpg")
    assert sum(map(len, both(dirty))) == images
    main(["audit", str(dirty)])
    assert "torn.xml" in "".join(capsys.readouterr().out.split())

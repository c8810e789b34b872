"""Files of images that cannot be read: every command counts the same and names them alike."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from html import unescape
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, features

from setmatch.cli import main
from setmatch.data.convert import convert_dataset
from setmatch.data.images.heif import register_heif
from setmatch.data.images.unreadable import UnreadableFile, unreadable_line
from setmatch.data.open import open_dataset

IMAGES = 100  # of which formats without sizes leave out up to one in 20


def encoded(form: str) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(buffer, form)
    return buffer.getvalue()


def avif_of_garbage(path: Path) -> None:
    """Write the head of an AVIF, whose decoder raises RuntimeError, and noise."""
    head = encoded("AVIF")[:300] if features.check("avif") else b"\0\0\0\x20ftypavif"
    path.write_bytes(head + bytes(range(256)) * 8)


# Name of the file, what makes it, and the reason that all commands give.
DAMAGED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "truncated": ("a.jpg", lambda p: p.write_bytes(encoded("JPEG")[:-90]), "truncated"),
    "garbage": ("b.avif", avif_of_garbage, ""),
    "empty": ("c.png", lambda p: p.write_bytes(b""), "cannot identify image file"),
    "FIFO": ("d.png", os.mkfifo, "is a FIFO, not a regular file"),
    "undecoded": ("e.heic", lambda p: p.write_bytes(b"\0\0\0\x18ftypheic"), "nothing here decodes"),
    "text": ("f.png", lambda p: p.write_text("not an image"), "cannot identify image file"),
}


@pytest.fixture(autouse=True)
def tolerant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without HEIC, and for a small data set: as with one damaged file in a hundred."""
    for room in ("images.corrupt_files", "audit.checks.image_checks"):
        monkeypatch.setattr(f"setmatch.data.{room}.UNREADABLE_AT_MOST", 0.3)
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    register_heif.cache_clear()
    yield
    register_heif.cache_clear()


def coco(root: Path, damaged: list[str], images: int = IMAGES) -> Path:
    """Write a data set in which some files are damaged, as a single COCO file."""
    (root / "images").mkdir(parents=True)
    content = encoded("PNG")
    names = [f"sound {number}.png" for number in range(images - len(damaged))]
    for name in names:
        (root / "images" / name).write_bytes(content)
    for kind in damaged:
        name, make, _ = DAMAGED[kind]
        make(root / "images" / name)
        names.append(name)
    tree = {
        "images": [
            {"id": number, "file_name": name, "width": 64, "height": 64}
            for number, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "circle"}],
        "annotations": [
            {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [9, 9, 20, 20]}
            | {"area": 400, "iscrowd": 0}
            for number in range(images)
        ],
    }
    (root / "annotations.json").write_text(json.dumps(tree))
    return root / "annotations.json"


def yolo(root: Path, damaged: list[str], images: int = IMAGES) -> Path:
    """Write the same as YOLO labels, where training and validation are one folder."""
    coco(root, damaged, images)
    (root / "annotations.json").unlink()
    (root / "labels").mkdir()
    for path in (root / "images").iterdir():
        (root / f"labels/{path.stem}.txt").write_text("0 0.3 0.3 0.3 0.3\n")
    (root / "data.yaml").write_text("train: images\nnames: [circle]\n")
    return root / "data.yaml"


def voc(root: Path, damaged: list[str], images: int = IMAGES) -> Path:
    """Write the same as VOC, without the sizes of images."""
    coco(root, damaged, images)
    (root / "annotations.json").unlink()
    (root / "Annotations").mkdir()
    for path in (root / "images").iterdir():
        (root / f"Annotations/{path.stem}.xml").write_text(
            f"<annotation><filename>{path.name}</filename><object><name>circle</name><bndbox>"
            "<xmin>9</xmin><ymin>9</ymin><xmax>29</xmax><ymax>29</ymax></bndbox></object>"
            "</annotation>"
        )
    return root


WRITE = {"coco": coco, "yolo": yolo, "voc": voc}


def counts_in(text: str) -> set[str]:
    return set(re.findall(r"\d+ of \d+ images [a-z ]*cannot be read: ", text))


@pytest.mark.parametrize(
    ("format", "images"),
    [("coco", 22), pytest.param("yolo", IMAGES, marks=pytest.mark.thorough)],
)
def test_every_command_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, images: int
):
    """Audit, train, evaluate, its page, predict, and convert-data, on one and the same folder."""
    damaged = [*DAMAGED]
    data, root = WRITE[format](tmp_path / "data", damaged, images), tmp_path / "data"
    folder, page, html = root / "images", tmp_path / "report.html", tmp_path / "audit.html"
    small = ["--set", "data.short_side_px=64", "--set", "data.long_side_px=64"]
    small += ["--set", f"train.batch_size={images}", "--set", f"train.micro_batch={images}"]
    small += ["--set", "data.workers=0", "--epochs", "1"]
    weights = ["--model", "setmatch_n", "--weights", "scenes_n", "--device", "cpu"]
    evaluated = ["--report", str(page), "--workers", "0", "--device", "cpu"]
    evaluated += [] if format == "coco" else ["--split", "train"]
    audited = ["--html", str(html), "--json", str(tmp_path / "audit.json")]
    commands = {
        "audit": [str(data), *audited],
        "train": [str(data), "--out", str(tmp_path / "run"), *weights, *small],
        "evaluate": ["scenes_n", str(data), *evaluated],
        "predict": ["scenes_n", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"],
        "convert-data": [str(data), str(tmp_path / "voc"), "--to", "voc"],
    }
    said = {}
    for verb, arguments in commands.items():
        code = main([verb, *arguments])
        assert code == 0 or (verb, code) == ("audit", 1), (verb, capsys.readouterr().err)
        said[verb] = " ".join(capsys.readouterr())
    said |= {"page": unescape(page.read_text()), "page of the audit": unescape(html.read_text())}
    said = {place: " ".join(text.split()) for place, text in said.items()}
    if format == "yolo":  # the images held out for validation are no part of this split
        for place in ("evaluate", "page"):
            (count,) = counts_in(said.pop(place))
            assert not count.startswith(f"{len(damaged)} of {images} ")
    line = json.loads((tmp_path / "audit.json").read_text())["unreadable"]
    assert line.startswith(f"{len(damaged)} of {images} images cannot be read: a.jpg (")
    for name, _, reason in list(map(DAMAGED.__getitem__, damaged))[:5]:
        assert re.search(rf"{name} \(.*{reason}", line), line
    for place, text in said.items():
        assert line in text, place
        assert len(counts_in(text)) == 1, place


@pytest.mark.parametrize("format", WRITE)
def test_files_that_a_data_set_is_opened_without_count_too(tmp_path: Path, format: str):
    """Formats without the sizes of images leave such an image out; each is held by one split."""
    data = WRITE[format](tmp_path / "data", ["empty", "FIFO", "undecoded", "text", "truncated"])
    result = open_dataset(tmp_path / "data", "train")
    unread = {Path(file.path).name for file in result.unread}
    assert unread <= {"c.png", "d.png", "e.heic", "f.png"}
    held_out = open_dataset(tmp_path / "data", "val").unread
    assert not {*held_out} & {*result.unread}
    assert len(held_out) + len(unread) == (0 if format == "coco" else 4)
    again = open_dataset(tmp_path / "data", "train")
    assert again.unread == result.unread
    conversion = convert_dataset(data, tmp_path / "to", "coco")
    (line,) = (note for note in conversion.notes if "cannot be read:" in note)
    assert line.startswith(f"5 of {IMAGES} images cannot be read: a.jpg (")


def test_unread_files_survive_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("setmatch.data.cache.cache._MIN_SECONDS", 0.0)
    yolo(tmp_path / "data", ["empty", "text"])
    first = [open_dataset(tmp_path / "data", split).unread for split in ("train", "val")]
    assert sum(map(len, first)) == 2
    assert [open_dataset(tmp_path / "data", split).unread for split in ("train", "val")] == first
    shutil.copy(tmp_path / "data/images/sound 0.png", tmp_path / "data/images/c.png")
    assert sum(len(open_dataset(tmp_path / "data", s).unread) for s in ("train", "val")) == 1


@pytest.mark.parametrize("count", [0, 1, 5, 6, 40])
def test_the_line_counts_all_and_names_the_first(count: int):
    paths = [f"/data/{number:02d}.jpg" for number in range(count)]
    files = [UnreadableFile(path, "no (good) reason") for path in paths]
    line = unreadable_line([*reversed(files), *files], 300)
    if not count:
        assert line == ""
        return
    assert line.startswith(f"{count} of 300 images cannot be read: 00.jpg (no (good) reason)")
    assert line.endswith(f" and {count - 5} more") == (count > 5)
    assert line.count(".jpg") == min(count, 5)
    assert "300 images that were looked at cannot" in unreadable_line(files, 300, are_all=False)


def test_a_long_reason_is_cut_in_the_line_and_whole_in_the_sentence():
    file = UnreadableFile("/data/a.jpg", "x" * 5000)
    assert len(unreadable_line([file], 1)) < 200
    assert len(str(file)) > 5000

"""Every annotation parser reads the neighborhood of its grammar, or refuses it with a DataError.

The usual run takes seconds; `.ci/run` fuzzes for longer, with `--hypothesis-profile fuzz`.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neighborhood import ODD, neighbors
from sample_datasets import index_of
from setmatch.data.audit.checks.checks import check_annotations
from setmatch.data.audit.fix import fix_coco
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.open import open_dataset, open_splits
from setmatch.data.ragged import pack
from setmatch.errors import DataError
from setmatch.evaluation.saved_detections import read_detections
from setmatch.structures.metadata import Preprocessing
from small_coco import sound, write_images

pytestmark = pytest.mark.promise(20)

EXAMPLES = max(10, settings.default.max_examples // 3)  # of each parser; 66 and 200 in .ci/run
POLYGON, RUNS = [[1, 2, 9, 2, 9, 8]], {"counts": [0, 9, 2391], "size": [40, 60]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("fuzz"))


def write_json(path: Path, tree: Any) -> bool:
    """Write a document; return False where JSON cannot nest so deeply."""
    try:
        path.write_text(json.dumps(tree))
    except RecursionError:
        return False
    return True


def require_one_line(error: DataError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 8000


def opened(read: Callable[[], DetectionDataset]) -> DetectionDataset | None:
    """Read a data set and use it; return None where it is refused in one short sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = read()
    except DataError as error:
        require_one_line(error)
        return None
    for image in range(len(dataset)):
        cxcywh = dataset.target(image).cxcywh
        assert ((cxcywh >= 0) & (cxcywh <= 1)).all()
    assert np.isfinite(dataset.xywh_px).all()
    assert list(check_annotations({"train": dataset}, 10, Preprocessing())) is not None
    return dataset


def coco() -> dict[str, Any]:
    tree = sound()
    more = ({"segmentation": POLYGON}, {"segmentation": RUNS}, {"attributes": {"rotation": 30.0}})
    for record, extra in zip(tree["annotations"], more):
        record |= extra
    return tree | {"info": {"year": 2026}, "licenses": []}


def odd_coco() -> dict[str, Any]:
    """In the notations of other tools: ids as texts, boxes that name their sides."""
    tree = coco()
    sides = {"xmin": "6", "ymin": 4, "xmax": 36.0, "ymax": 24}
    for record, box in zip(tree["annotations"], (sides, "[0, 0, 60, 40]", [["0", 0, 30, 20]])):
        record |= {"bbox": box, "image_id": f"im{record['image_id']}", "iscrowd": "0"}
    for record in tree["images"]:
        record["id"] = f"im{record['id']}"
    return tree


@settings(max_examples=EXAMPLES)
@given(neighbors(coco()) | neighbors(odd_coco()))
def test_coco(folder: Path, tree: Any):
    """What is read can be fixed, too, and the fixed copy is read."""
    path = folder / "set.json"
    if not write_json(path, tree):
        return
    dataset = opened(lambda: read_coco(path))
    if dataset is not None:
        fixed, changes = fix_coco(json.loads(path.read_text()), dataset)
        json.dumps([fixed, changes])


def panoptic() -> dict[str, Any]:
    segment = {"id": 1, "category_id": 3, "bbox": [0, 0, 60, 40], "area": 2400, "iscrowd": 0}
    records = [
        {"image_id": 10 * number, "file_name": f"of_{name}.png", "segments_info": [segment]}
        for number, name in enumerate("abc", start=1)
    ]
    categories = [each | {"isthing": 1} for each in sound()["categories"]]
    return sound() | {"annotations": records, "categories": categories}


@settings(max_examples=EXAMPLES)
@given(neighbors(panoptic()))
def test_panoptic(folder: Path, tree: Any):
    masks = folder / "panoptic"
    if not masks.exists():
        masks.mkdir()
        for name in "abc":
            Image.new("RGB", (60, 40), (1, 0, 0)).save(masks / f"of_{name}.png")
    if write_json(folder / "panoptic.json", tree):
        opened(lambda: read_panoptic(folder / "panoptic.json"))


@settings(max_examples=EXAMPLES)
@given(neighbors([{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2))
def test_results(folder: Path, tree: Any):
    dataset = index_of([5, 6], [3, 9], [0, 1], [0, 1], [[10, 10, 50, 50]] * 2)
    names, offsets = pack(["a/one.jpg", "two.jpg"])
    vars(dataset).update(names=names, name_offsets=offsets)
    if not write_json(folder / "found.json", tree):
        return
    try:
        assert np.isfinite(read_detections(folder / "found.json", dataset).xywh_px).all()
    except DataError as error:
        require_one_line(error)


NUMBERS = st.sampled_from(
    ["0", "1", "2", ".5", "0.25", "0.75", "1e-9", "-1", "30", "1e400", "nan", "inf", "x", "", "1_0"]
) | st.sampled_from([str(value)[:6000] for value in ODD if isinstance(value, str | float)])
ROW = st.integers(4, 14).flatmap(
    lambda size: st.lists(st.floats(0, 1).map(repr), min_size=size, max_size=size)
)


@st.composite
def label_files(draw: st.DrawFn) -> str:
    """Lines of one length or several, with a few words that are no fractions."""
    rows = draw(st.lists(ROW, max_size=5)) or [["0.5"] * 4]
    if draw(st.booleans()):
        rows = [draw(ROW)] * len(rows)
    lines = [["0", *row] for row in rows]
    for _ in range(draw(st.integers(0, 3))):
        line = draw(st.sampled_from(lines))
        if line:
            line[draw(st.integers(0, len(line) - 1))] = draw(NUMBERS)
    return "\n".join(" ".join(line) for line in lines) * draw(st.sampled_from([1, 1, 40]))


CONFIG = {"path": ".", "names": ["cat", "dog"], "nc": 2, "train": "images/train", "val": ["images"]}


@settings(max_examples=EXAMPLES)
@given(label_files(), neighbors(CONFIG | {"kpt_shape": [5, 2]}) | st.just(CONFIG))
def test_yolo(folder: Path, text: str, config: Any):
    root = folder / "yolo"
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True, exist_ok=True)
    if not (root / "images/train/a.png").exists():
        Image.new("RGB", (60, 40)).save(root / "images/train/a.png")
    (root / "labels/train/a.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        written = yaml.safe_dump(config).encode("utf-8", "surrogatepass")
    except RecursionError:
        return
    (root / "data.yaml").write_bytes(written)
    opened(lambda: open_dataset(root, "train"))


def as_xml(tree: Any) -> str:
    """Return a tree as elements; a list repeats the element of its key."""
    if isinstance(tree, dict):
        parts = (
            "".join(f"<{key}>{as_xml(each)}</{key}>" for each in value)
            if isinstance(value, list)
            else f"<{key}>{as_xml(value)}</{key}>"
            for key, value in tree.items()
        )
        return "".join(parts)
    if isinstance(tree, list):
        return "".join(map(as_xml, tree))
    return escape(str(tree)[:10_000])


def voc() -> dict[str, Any]:
    thing = {
        "name": "dog",
        "difficult": 0,
        "bndbox": {"xmin": 6, "ymin": 4, "xmax": 36, "ymax": 24},
        "attributes": {"attribute": [{"name": "rotation", "value": 30.0}]},
        "polygon": [{"x1": 1, "y1": 2, "x2": 9, "y2": 2, "x3": 9, "y3": 8}],
    }
    size = {"width": 60, "height": 40, "depth": 3}
    tree = {"folder": "x", "filename": "a.png", "source": {"annotation": "x"}, "size": size}
    return {"annotation": tree | {"object": [thing, thing | {"name": "cat"}]}}


@settings(max_examples=EXAMPLES)
@given(neighbors(voc()))
def test_voc(folder: Path, tree: Any):
    root = folder / "voc"
    root.mkdir(exist_ok=True)
    if not (root / "a.png").exists():
        Image.new("RGB", (60, 40)).save(root / "a.png")
    try:
        text = as_xml(tree)
    except (RecursionError, ValueError):  # no element is so deep, and no number so long
        return
    (root / "a.xml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        opened_splits = open_splits(root)
    except DataError as error:
        require_one_line(error)
        return
    for dataset in opened_splits.datasets.values():
        opened(lambda dataset=dataset: dataset)

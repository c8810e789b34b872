"""COCO JSON: detection and instance segmentation, and COCO panoptic segmentation."""

from pathlib import Path

from setmatch.data.annotations.box_convention import XYWH_PX
from setmatch.data.formats.base import DatasetFormat
from setmatch.data.formats.coco.find import find_coco, find_panoptic, kind_of
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.formats.coco.write import write_coco


def _recognizes(file: Path) -> bool:
    kind = kind_of(file)
    return kind == "coco" or (kind is None and file.suffix.lower() == ".json")


FORMAT = DatasetFormat(
    name="coco",
    looks_for="COCO JSON (such as annotations/train.json or train/_annotations.coco.json)",
    find=find_coco,
    read=lambda split: read_coco(split.source, split.images, split.root, split.split, split.boxes),
    takes_images=True,
    write=write_coco,
    recognizes=_recognizes,
    family="coco",
    boxes=XYWH_PX,
)
PANOPTIC_FORMAT = DatasetFormat(
    name="panoptic",
    looks_for="COCO panoptic JSON",
    find=find_panoptic,
    read=lambda split: read_panoptic(
        split.source, split.images, split.root, split.split, split.boxes
    ),
    takes_images=True,
    recognizes=lambda file: kind_of(file) == "panoptic",
    family="coco",
    boxes=XYWH_PX,
)

"""COCO JSON: detection and instance segmentation, and COCO panoptic segmentation."""

from pathlib import Path

from setmatch.data.annotations.box_convention import XYWH_PX
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.base import DatasetFormat, SplitSource
from setmatch.data.formats.coco.find import find_coco, find_panoptic, kind_of
from setmatch.data.formats.coco.merge import read_merged
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.formats.coco.write import write_coco


def _read(split: SplitSource) -> DetectionDataset:
    if split.details:
        return read_merged(split)
    return read_coco(split.source, split.images, split.root, split.split, split.boxes)


def _recognizes(file: Path) -> bool:
    kind = kind_of(file)
    return kind == "coco" or (kind is None and file.suffix.lower() == ".json")


FORMAT = DatasetFormat(
    name="coco",
    looks_for="COCO JSON (such as annotations/train.json or train/_annotations.coco.json)",
    find=find_coco,
    read=_read,
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

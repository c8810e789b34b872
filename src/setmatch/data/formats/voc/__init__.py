"""Pascal VOC: an XML file for each image."""

from setmatch.data.annotations.box_convention import XYXY_PX
from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.base import DatasetFormat, SplitSource
from setmatch.data.formats.locate_images import SearchArea
from setmatch.data.formats.voc.find import find_voc
from setmatch.data.formats.voc.read import read_voc
from setmatch.data.formats.voc.write import write_voc


def _read(split: SplitSource) -> DetectionDataset:
    here, others = split.details
    usual = here.images if split.images is None else (split.images,)
    root = split.root or split.source
    area = SearchArea(root if split.images is None else split.images, usual, root, split.split)
    return read_voc(here, split.source, area, others, split.boxes)


FORMAT = DatasetFormat(
    name="voc",
    looks_for="Pascal VOC (Annotations/*.xml, or XML files beside images)",
    find=find_voc,
    read=_read,
    takes_images=True,
    write=write_voc,
    boxes=XYXY_PX,
)

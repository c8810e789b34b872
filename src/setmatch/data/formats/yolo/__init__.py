"""YOLO: a text file of boxes or polygons for each image."""

from setmatch.data.annotations.box_convention import CXCYWH_RELATIVE
from setmatch.data.formats.base import DatasetFormat
from setmatch.data.formats.yolo.find import find_yolo, read_split
from setmatch.data.formats.yolo.write import write_yolo

FORMAT = DatasetFormat(
    name="yolo",
    looks_for="YOLO (data.yaml, or images/ beside labels/)",
    find=find_yolo,
    read=read_split,
    write=write_yolo,
    recognizes=lambda file: file.suffix.lower() in (".yaml", ".yml", ".data"),
    needs_val_split=True,
    boxes=CXCYWH_RELATIVE,
    has_longer_rows=True,
)

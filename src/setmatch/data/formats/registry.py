"""The data formats that setmatch knows.

To add one of your own:

    from setmatch.data.formats.base import DatasetFormat
    from setmatch.data.formats.registry import FORMATS

    FORMATS.append(DatasetFormat("csv", "CSV (train.csv, val.csv)", find, read, write))
"""

from setmatch.data.formats.base import DatasetFormat
from setmatch.data.formats.coco import FORMAT as COCO
from setmatch.data.formats.coco import PANOPTIC_FORMAT as COCO_PANOPTIC
from setmatch.data.formats.voc import FORMAT as VOC
from setmatch.data.formats.yolo import FORMAT as YOLO
from setmatch.errors import DataError

# A folder is searched for them in this order.
FORMATS: list[DatasetFormat] = [COCO, COCO_PANOPTIC, YOLO, VOC]


def format_names() -> list[str]:
    """Return the names of all formats, those added later too."""
    return [each.name for each in FORMATS]


def writable_formats() -> list[str]:
    """Return the names of the formats that can be written."""
    return [each.name for each in FORMATS if each.write is not None]


def format_named(name: str) -> DatasetFormat:
    """Return the format called `name`; raises DataError that lists the known ones."""
    known = next((each for each in FORMATS if each.name == name), None)
    if known is None:
        raise DataError(f"unknown format {name!r}; known formats: {', '.join(format_names())}")
    return known

"""VOC pixel origin: the challenge's own files count pixels from 1, other tools' from 0."""

from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset

BOX = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
CORNERS = ((6, 4, 36, 24), (1, 1, 60, 40))
EDGES = [[6, 4, 30, 20], [1, 1, 59, 39]]
PIXELS = [[5, 3, 31, 21], [0, 0, 60, 40]]
SOURCES = {
    "nothing": ("", EDGES),
    "labelImg": ("<database>Unknown</database>", EDGES),
    "Roboflow": ("<database>roboflow.ai</database>", EDGES),
    "VOC2007": (
        "<database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation>",
        PIXELS,
    ),
}


def opened(root: Path, source: str) -> DetectionDataset:
    """An image of 60 × 40 with two objects; the second fills it, in the challenge's convention."""
    (root / "Annotations").mkdir()
    (root / "images").mkdir()
    Image.new("RGB", (60, 40)).save(root / "images" / "a.png")
    objects = "".join(
        f"<object><name>dog</name><bndbox>{BOX.format(*each)}</bndbox></object>" for each in CORNERS
    )
    (root / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.png</filename><source>{source}</source>"
        f"<size><width>60</width><height>40</height></size>{objects}</annotation>"
    )
    return open_dataset(root, "train")


@pytest.mark.parametrize(("source", "expected"), SOURCES.values(), ids=SOURCES)
def test_only_the_challenges_own_files_count_pixels_from_one(tmp_path: Path, source, expected):
    """The file's <source> decides, not its numbers, and the data set reports it."""
    dataset = opened(tmp_path, source)
    assert dataset.xywh_px.tolist() == expected
    reported = [done for done in dataset.fix_counts if "pixels counted from 1" in done]
    assert len(reported) == (expected == PIXELS)

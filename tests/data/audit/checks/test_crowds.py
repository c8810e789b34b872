"""Objects that are marked as crowds are found, since they would never be learned."""

from pathlib import Path
from typing import Any

import pytest

from setmatch.data.audit.audit import audit
from setmatch.data.audit.checks.crowds import check_crowds
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from small_coco import annotation, read, sound, write_images
from small_voc import box, write, xml

RUNS = {"size": [40, 60], "counts": [40, 5, 35, 5, 2315]}


def dataset_of(folder: Path, crowds: int, objects: int, mask: Any) -> DetectionDataset:
    """Return objects of which the first are crowds with a mask."""
    write_images(folder)
    tree = sound()
    tree["annotations"] = [
        annotation(i, 10, 3, [1, 0, 2, 5], iscrowd=int(i < crowds))
        | ({"segmentation": mask} if i < crowds else {})
        for i in range(objects)
    ]
    return read(folder, tree)


@pytest.mark.parametrize(
    ("crowds", "objects", "mask", "severities"),
    [
        (5, 6, RUNS, ["error"]),
        (6, 6, RUNS, ["error"]),
        (5, 49, RUNS, ["error"]),
        (5, 51, RUNS, []),
        (4, 6, RUNS, []),
        (5, 6, [], ["note"]),
    ],
    ids=["most", "all", "a tenth", "less than a tenth", "few", "regions to ignore"],
)
def test_painted_masks_that_are_marked_as_crowds_are_found(
    tmp_path: Path, crowds: int, objects: int, mask: Any, severities: list[str]
):
    """CVAT marks each so. Without masks they may be regions to ignore."""
    found = list(check_crowds("train", dataset_of(tmp_path, crowds, objects, mask)))
    assert [each.severity for each in found] == severities
    for each in found:
        assert each.value == f"{crowds} of {objects} annotations have iscrowd 1"


def test_difficult_objects_of_voc_are_usual(tmp_path: Path):
    difficult = [box(1, 2, 20 + i, 22, more="<difficult>1</difficult>") for i in range(8)]
    write(tmp_path, {"Annotations/a.xml": xml(*difficult), "images/a.png": ""})
    dataset = open_dataset(tmp_path, "train")
    assert dataset.crowd.all()
    assert list(check_crowds("train", dataset)) == []


def test_the_audit_says_so(tmp_path: Path):
    dataset_of(tmp_path, 8, 12, RUNS)
    found = audit(tmp_path / "set.json", has_gpu=False)
    kinds = [each.kind for each in found.findings if each.severity == "error"]
    assert "crowd regions among the objects" in kinds

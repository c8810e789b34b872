"""COCO panoptic: images and segments are paired by image id, and masks stay readable."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.formats.coco.read_panoptic import read_panoptic
from setmatch.data.open import open_dataset
from setmatch.errors import DataError


def segment(id_: int, category: int, bbox: list[int], crowd: int = 0) -> dict:
    return {"id": id_, "category_id": category, "bbox": bbox, "area": 9, "iscrowd": crowd}


def sound() -> dict:
    """Return two images whose annotations are in the other order and share segment ids."""
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 9, "file_name": "b.png", "height": 40, "width": 60},
        ],
        "annotations": [
            {
                "image_id": 9,
                "file_name": "b seg.png",
                "segments_info": [segment(7, 1, [0, 0, 9, 9])],
            },
            {
                "image_id": 5,
                "file_name": "a seg.png",
                "segments_info": [
                    segment(7, 184, [0, 0, 60, 40]),
                    segment(70000, 1, [5, 5, 10, 10], crowd=1),
                ],
            },
        ],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 184, "name": "tree", "isthing": 0},
        ],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "val2017/a.png",
        "val2017/b.png",
        "annotations/panoptic_val2017/a seg.png",
        "annotations/panoptic_val2017/b seg.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    save(tmp_path, sound())
    return tmp_path


def save(root: Path, tree: object) -> Path:
    path = root / "annotations/panoptic_val2017.json"
    path.write_text(json.dumps(tree))
    return path


def test_images_and_segments_are_paired_by_image_id(root: Path):
    """The published reader pairs them by order, which gives images the segments of others."""
    dataset = open_dataset(root, "val")
    assert [dataset.name(i) for i in range(2)] == ["a.png", "b.png"]
    assert [dataset.panoptic.path(i).name for i in range(2)] == ["a seg.png", "b seg.png"]
    assert all(dataset.panoptic.path(i).is_file() for i in range(2))
    assert dataset.xywh_px.tolist() == [[0, 0, 60, 40], [5, 5, 10, 10], [0, 0, 9, 9]]
    assert dataset.panoptic.segment_ids.tolist() == [7, 70000, 7]
    assert len(set(dataset.annotation_ids.tolist())) == 3
    assert dataset.crowd.tolist() == [False, True, False]
    assert dataset.categories.names == ("person", "tree")
    assert dataset.categories.stuff == {1}
    assert dataset.fixes == ()


def test_chosen_images_keep_their_segments(root: Path):
    import numpy as np

    chosen = open_dataset(root, "val").choose(np.array([1]))
    assert chosen.panoptic.path(0).name == "b seg.png"
    assert chosen.panoptic.segment_ids.tolist() == [7]


def test_instances_are_preferred_unless_panoptic_is_requested(root: Path):
    """COCO's own folder has both."""
    tree = sound() | {"annotations": []}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(tree))
    assert open_dataset(root, "val").panoptic is None
    assert open_dataset(root, "val", "panoptic").panoptic is not None


def test_a_dropped_segment_leaves_the_other_segment_ids_with_their_boxes(root: Path):
    tree = sound()
    tree["annotations"][1]["segments_info"].insert(0, segment(3, 1, [0, 0, -1, 5]))
    dataset = read_panoptic(save(root, tree))
    assert dataset.panoptic.segment_ids.tolist() == [7, 70000, 7]
    assert [fix.file for fix in dataset.fixes] == ["a.png"]


@pytest.mark.parametrize("written", ["D:\\x\\{}", "../../old/{}", "https://host/pngs/{}?x=1"])
def test_a_png_is_found_by_the_last_parts_of_its_path(root: Path, written: str):
    tree = sound()
    names = [each["file_name"] for each in tree["annotations"]]
    for each in tree["annotations"]:
        each["file_name"] = written.format(each["file_name"])
    dataset = read_panoptic(save(root, tree))
    found = [dataset.panoptic.path(image).name for image in range(len(dataset))]
    assert sorted(found) == sorted(names)
    assert [fix.value[:6] for fix in dataset.fixes] == ["2 of 2"]


REFUSED = {
    "no such PNG": (
        lambda t: [each.update(file_name="z.png") for each in t["annotations"]],
        r"panoptic_val2017: 2 of 2 PNG files of segments are missing: z\.png of a\.png",
    ),
    "a PNG elsewhere": (
        lambda t: [each.update(file_name="../../z.png") for each in t["annotations"]],
        r"2 of 2 PNG files of segments are missing: \.\./\.\./z\.png of a\.png",
    ),
    "two PNG files": (lambda t: t["annotations"][0].update(image_id=5), "too; keep one"),
    "listed twice": (
        lambda t: t["annotations"].append(t["annotations"][0]),
        r"annotations\[2\].*image 9 is listed twice; keep one",
    ),
    "no segments": (
        lambda t: t["annotations"][1].pop("segments_info"),
        r"annotations\[1\]: 'segments_info' is None",
    ),
    "no category": (
        lambda t: t["annotations"][1]["segments_info"][1].update(category_id=2),
        r"annotations\[1\]\.segments_info\[1\] \(id 70000\): category_id 2",
    ),
    "no id": (
        lambda t: t["annotations"][1]["segments_info"][0].pop("id"),
        r"annotations\[1\]\.segments_info\[0\]: has no 'id'",
    ),
    "no box": (
        lambda t: t["annotations"][0]["segments_info"][0].pop("bbox"),
        r"annotations\[0\]\.segments_info\[0\] \(id 7\): has no 'bbox'",
    ),
    "the id of nothing": (
        lambda t: t["annotations"][0]["segments_info"][0].update(id=0),
        r"annotations\[0\]\.segments_info\[0\].*not a color",
    ),
    "an id twice": (
        lambda t: t["annotations"][1]["segments_info"][1].update(id=7),
        r"annotations\[1\]\.segments_info\[1\] \(id 7\): has the 'id' of another segment",
    ),
    "neither thing nor stuff": (
        lambda t: t["categories"][1].update(isthing="no"),
        r"categories\[1\] \(id 184\): 'isthing' is 'no'; it should be 0 or 1",
    ),
    "thing and stuff": (
        lambda t: t["categories"].append(t["categories"][1] | {"isthing": 1}),
        r"categories\[2\] \(id 184\): is listed both as thing and as stuff; keep one",
    ),
    "other images": (
        lambda t: [a.update(image_id=i) for i, a in enumerate(t["annotations"])],
        "no annotation belongs to any.*image_id is 0, the first image's id 5",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_ambiguous_files_raise_an_error_with_the_place(root: Path, change, message: str):
    """The error names the file, the annotation, the segment, its id and what to do."""
    tree = sound()
    change(tree)
    with pytest.raises(DataError, match=message) as caught:
        read_panoptic(save(root, tree))
    assert str(root) in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_without_listed_segments_is_left_out_and_reported(root: Path):
    tree = sound()
    del tree["annotations"][0]
    dataset = read_panoptic(save(root, tree))
    assert [(r.file, r.description) for r in dataset.fixes] == [
        ("b.png", "no segments listed: image left out")
    ]
    assert len(dataset) == 1


def test_categories_without_isthing_are_things_and_reported(root: Path):
    tree = sound()
    del tree["categories"][1]["isthing"]
    dataset = read_panoptic(save(root, tree))
    assert dataset.categories.stuff == frozenset()
    assert [(r.value, r.description) for r in dataset.fixes] == [
        ("isthing of 1 categories, the first categories[1] (id 184)", "absent: read as things")
    ]


def test_stuff_is_stuff_in_the_cached_data_set_too(root: Path):
    first, second = (open_dataset(root, "val") for _ in range(2))
    assert first.categories == second.categories
    assert second.categories.stuff == {1}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a.png"])
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.just("id"), SCALARS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_opens_or_raises_a_data_error(root: Path, data: st.DataObject):
    tree = sound()
    for _ in range(data.draw(st.integers(1, 3))):
        rows = tree[data.draw(st.sampled_from(["images", "annotations", "categories"]))]
        row = data.draw(st.sampled_from(rows))
        segments = row.get("segments_info")
        if isinstance(segments, list) and segments and isinstance(segments[0], dict):
            row = data.draw(st.sampled_from([row, segments[0]]))
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(VALUES)
    try:
        dataset = read_panoptic(save(root, tree))
    except DataError:
        return
    assert len(dataset.panoptic.segment_ids) == len(dataset.class_indices)


@pytest.mark.promise(11, cases=10_000)
@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_of_ten_thousand_jsons_opens_or_raises_a_data_error(root: Path, data: st.DataObject):
    test_any_json_opens_or_raises_a_data_error.hypothesis.inner_test(root, data)

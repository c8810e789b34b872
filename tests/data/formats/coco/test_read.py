"""COCO JSON becomes a data set with targets, and bad input raises only DataError."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from setmatch.data.formats.coco.read import read_coco
from setmatch.errors import DataError
from small_coco import IMAGE_NAMES, annotation, category, edited, read, sound, write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def test_classes_come_from_the_file_in_order_of_their_ids(folder: Path):
    """rf-detr #85: ids with gaps become contiguous class indices with the right names."""
    dataset = read(folder, sound())
    assert dataset.categories.ids == (3, 18)
    assert dataset.categories.names == ("car", "dog")
    assert dataset.target(0).classes.tolist() == [1, 0]
    assert dataset.fixes == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(-5, 2**40), min_size=1, max_size=5, unique=True), data=st.data())
def test_class_indices_stay_within_the_number_of_classes(
    folder: Path, ids: list[int], data: st.DataObject
):
    """D-FINE #125: whatever the ids, class indices count from 0; unlisted categories are refused.

    A model takes its number of classes from the same place, so that the two always agree.
    """
    tree = sound() | {"categories": [{"id": id_, "name": f"class {id_}"} for id_ in ids]}
    given_ids = data.draw(st.lists(st.sampled_from(ids), min_size=3, max_size=3))
    for row, id_ in zip(tree["annotations"], given_ids):
        row["category_id"] = id_
    dataset = read(folder, tree)
    assert [sorted(ids)[class_index] for class_index in dataset.class_indices] == given_ids
    assert dataset.categories.ids == tuple(sorted(ids))
    tree["annotations"][1]["category_id"] = max(ids) + 1
    with pytest.raises(DataError, match=r"annotations\[1\] \(id 2\): category_id .* is none of"):
        read(folder, tree)


def test_targets_are_normalized_and_leave_out_crowds(folder: Path):
    dataset = read(folder, sound())
    np.testing.assert_allclose(
        dataset.target(0).cxcywh, [[0.35, 0.35, 0.5, 0.5], [0.5, 0.5, 1, 1]], atol=1e-6
    )
    assert len(dataset.target(1)) == 0
    assert len(dataset.target(2)) == 0
    assert dataset.crowd.tolist() == [False, False, True]
    assert dataset.annotation_ids.tolist() == [1, 2, 3]


def test_rows_are_grouped_by_image_in_any_file_order(folder: Path):
    tree = sound()
    tree["annotations"].reverse()
    dataset = read(folder, tree)
    assert dataset.offsets.tolist() == [0, 2, 3, 3]
    assert dataset.annotation_ids.tolist() == [2, 1, 3]
    assert [dataset.name(i) for i in range(3)] == list(IMAGE_NAMES)
    assert dataset.path(1) == folder / "b.png"


def test_a_box_half_a_pixel_beyond_the_edge_is_not_reported(folder: Path):
    tree = sound()
    tree["annotations"].append(annotation(77, 30, 3, [-0.4, 0, 60.6, 40.2]))
    dataset = read(folder, tree)
    assert dataset.fixes == ()
    assert dataset.target(2).cxcywh.tolist() == [[0.5, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(folder: Path, encoding: str):
    """Windows tools write them."""
    (folder / "set.json").write_text(json.dumps(sound()), encoding=encoding)
    assert len(read_coco(folder / "set.json")) == 3


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 10, 20, 3, 18, 2**53, 2**63, "10", "a.png", "", "../a.png", [], {}])
    | st.text(max_size=4)
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5), max_leaves=8)
KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_opens_or_raises_a_data_error(folder: Path, data: st.DataObject):
    """Files that open have targets inside their images."""
    tree = sound()
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(["images", "categories", "annotations"]))
        if not isinstance(tree.get(key), list) or not tree[key]:
            continue
        row = data.draw(st.integers(0, len(tree[key]) - 1))
        if not isinstance(tree[key][row], dict):
            continue
        names = ("file_name", "name", "height", "width", *KEYS)
        name = data.draw(st.sampled_from(names))
        box = st.lists(st.floats() | st.integers() | st.none(), min_size=4, max_size=4)
        tree[key][row] = tree[key][row] | {name: data.draw(JSON | box)}
    try:
        dataset = read(folder, tree)
    except DataError:
        return
    for image in range(len(dataset)):
        cxcywh = dataset.target(image).cxcywh
        assert ((cxcywh >= 0) & (cxcywh <= 1)).all()
    assert len(np.unique(dataset.annotation_ids)) == len(dataset.annotation_ids)
    assert ((dataset.class_indices >= 0) & (dataset.class_indices < len(dataset.categories))).all()


@pytest.mark.promise(11, cases=10_000)
@pytest.mark.campaign
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_of_ten_thousand_jsons_opens_or_raises_a_data_error(folder: Path, data: st.DataObject):
    test_any_json_opens_or_raises_a_data_error.hypothesis.inner_test(folder, data)


def test_each_category_is_compared_with_few_others(folder: Path):
    """100,000 categories took two minutes, as each was looked for in the list of all."""
    tree = sound()
    tree["categories"] += [{"id": number, "name": f"c{number}"} for number in range(100, 40_100)]
    tree["categories"].append(tree["categories"][0])
    dataset = read(folder, tree)
    assert len(dataset.categories) == 40_002
    assert dataset.fix_counts["listed twice: read once"] == 1


@pytest.mark.parametrize("name", [7, 0, -1])
def test_a_class_name_may_be_a_number(tmp_path: Path, name: int):
    """As in data sets of digits."""
    write_images(tmp_path)
    assert read(tmp_path, edited(category(0, name=name))).categories.names == ("car", str(name))

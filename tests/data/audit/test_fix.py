"""A fixed copy of annotations keeps valid entries, and leaves nothing to fix."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.audit.fix import fix_coco, write_fixed
from setmatch.data.discovery import discover_dataset
from setmatch.data.formats.coco.read import read_coco
from setmatch.data.open import open_dataset
from setmatch.errors import DataError


def annotation(id_: Any, box: list[Any], **more: Any) -> dict[str, Any]:
    plain = {"id": id_, "image_id": 1, "category_id": 3, "bbox": box, "iscrowd": 0, "area": 5.5}
    return plain | more


def tree_of(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {"year": 2026},
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60, "license": 4}],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}],
        "annotations": annotations,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    return folder


def fix(folder: Path, tree: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    (folder / "set.json").write_text(json.dumps(tree))
    return fix_coco(json.loads(json.dumps(tree)), read_coco(folder / "set.json"))


def test_valid_entries_stay_exactly_the_same(folder: Path):
    """So do unknown keys, segmentations and every digit."""
    tree = tree_of(
        [
            annotation(0, [1, 2.125, 30, 0.1 + 0.2], note="x", segmentation=[[1, 2, 3, 4, 5, 6]]),
            annotation(2**60, [-0.4, 0, 60.6, 40.2]),
            annotation(7, [5, 5, 9, 9], segmentation={"counts": "abc", "size": [40, 60]}),
            annotation(8, [5, 5, 9, 9], iscrowd=1),
        ]
    )
    assert fix(folder, tree) == (tree, [])


def test_each_change_is_listed(folder: Path):
    """With its place, id, key, and both values."""
    tree = tree_of(
        [
            annotation(1, [5, 5, 0, 9]),
            annotation(2, [50, 30, 20, 20], area=400),
            annotation(2, [1, 1, 5, 5], area=None),
            annotation("4", [1, 1, 7, 7], segmentation=[[1, 2], [1, 2, 3, 4, 5, 6]]),
            annotation(5, [9, 9, -5, 5]),
            annotation(6, [-20, 0, 40, 30], area=84),
        ]
    )
    result, changes = fix(folder, tree)
    assert [row["bbox"] for row in result["annotations"]] == [
        [50, 30, 10, 10],
        [1, 1, 5, 5],
        [1, 1, 7, 7],
        [0, 0, 20, 30],
    ]
    assert ("annotations[0]", 1, "", tree["annotations"][0], None) in changes
    assert ("annotations[1]", 2, "bbox", [50, 30, 20, 20], [50, 30, 10, 10]) in changes
    assert ("annotations[1]", 2, "area", 400, 100.0) in changes
    assert ("annotations[2]", 2, "area", None, 25.0) in changes
    assert ("annotations[3]", "4", "id", "4", 4) in changes
    assert any(
        change[2] == "segmentation" and change[4] == [[1, 2, 3, 4, 5, 6]] for change in changes
    )
    assert [change[2] for change in changes if change[1] == 6] == ["bbox"]
    ids = [row["id"] for row in result["annotations"]]
    assert len(set(ids)) == 4
    assert {2, 4} < set(ids)


def test_a_repeated_entry_is_removed_but_an_equal_box_with_another_id_stays(folder: Path):
    """The equal box keeps its own extra keys."""
    box = [1, 1, 5, 5]
    rows = [annotation(5, box, k="a"), annotation(5, box, k="b"), annotation(6, box, k="c")]
    result, changes = fix(folder, tree_of(rows))
    assert [row["k"] for row in result["annotations"]] == ["a", "c"]
    assert [change[:3] for change in changes] == [("annotations[1]", 5, "")]


SIDES = st.sampled_from([-70, -5, -0.3, 0, 3, 10.5, 39.9, 60, 60.4, 200, 1e300, float("nan")]) | (
    st.integers(-100, 100)
)
TRIANGLE = [[5, 5, 50, 5, 50, 35]]
ROTATIONS = st.sampled_from([0, 30, 90.0, 180, "45", "left", None, [], False, float("nan")])
ROWS = st.fixed_dictionaries(
    {
        "image_id": st.sampled_from([1, 1, "1", 9]),
        "category_id": st.sampled_from([3, 3.0]),
    },
    optional={
        "id": st.sampled_from([0, 1, 2, "2", 3.0, None]),
        "iscrowd": st.sampled_from([0, 1, True]),
        "area": st.sampled_from([0, 4, -1, None, float("nan"), "big"]),
        "bbox": st.lists(SIDES | st.none(), min_size=4, max_size=4) | st.sampled_from([None, []]),
        "segmentation": st.sampled_from(
            [[], None, 7, [[1, 2]], [[1, 2, 3, 4, 5, 6]], {"size": 1}, TRIANGLE, TRIANGLE]
        ),
        "rotation": ROTATIONS,
        "attributes": st.fixed_dictionaries({"k": st.just(1)}, optional={"rotation": ROTATIONS})
        | st.sampled_from([None, [], "x"]),
        "k": st.integers(0, 3),
    },
).map(lambda row: row if row.get("bbox") else row | {"segmentation": TRIANGLE})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=6), st.booleans(), st.booleans())
def test_a_fixed_file_needs_no_fix(folder: Path, rows, image_twice: bool, class_twice: bool):
    """Whatever was wrong, the copy is read without fixes and gives the same targets."""
    tree = tree_of(rows)
    if image_twice:
        tree["images"].append(copy.deepcopy(tree["images"][0]))
    if class_twice:
        tree["categories"].append({"id": 4, "name": "cat"})
    result, changes = fix(folder, tree)
    before = read_coco(folder / "set.json")
    (folder / "set.json").write_text(json.dumps(result))
    after = read_coco(folder / "set.json")
    assert [r for r in after.fixes if r.description != "the same box and class again: kept"] == []
    old, new = before.target(0), after.target(0)
    assert old.classes.tolist() == new.classes.tolist()
    assert old.cxcywh.shape == new.cxcywh.shape
    assert ((old.cxcywh - new.cxcywh).abs() < 1e-5).all()
    assert json.dumps(changes)
    assert (result == tree) == (not changes)
    assert fix_coco(result, after) == (result, [])


@pytest.mark.parametrize("rotation", [{}, {"rotation": 45}, {"attributes": {"rotation": 30.0}}])
@pytest.mark.parametrize("sides", [(-20, 5), (20, -5), (-20, -5), (20, 0), (0, 5), (100, -0.3)])
def test_a_box_without_an_area_is_left_out_however_it_is_turned(
    folder: Path, sides: tuple[float, float], rotation: dict[str, Any]
):
    """Turned, it would get an area that nobody has annotated."""
    flawed = annotation(1, [30, 15, *sides], **rotation)
    del flawed["area"]
    fixed, changes = fix(folder, tree_of([flawed, annotation(2, [1, 1, 5, 5])]))
    assert [each["id"] for each in fixed["annotations"]] == [2]
    assert changes


def test_copies_have_the_paths_of_the_originals(folder: Path, tmp_path: Path):
    """Copying them over the data set fixes it; changes.json lists the changes."""
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "images").mkdir(parents=True)
    (data / "annotations").mkdir()
    Image.new("RGB", (60, 40)).save(data / "images" / "a.png")
    tree = tree_of([annotation(1, [5, 5, 0, 9]), annotation(2, [5, 5, 5, 9])])
    for split in ("train", "val"):
        (data / "annotations" / f"{split}.json").write_text(json.dumps(tree))
    assert len(write_fixed(data, discover_dataset(data), out)) == 2
    assert len(json.loads((out / "changes.json").read_text())) == 2
    for split in ("train", "val"):
        (out / "annotations" / f"{split}.json").replace(data / "annotations" / f"{split}.json")
    assert open_dataset(data, "train").fixes == ()
    with pytest.raises(DataError, match="replace the originals"):
        write_fixed(data, discover_dataset(data), data)


def test_other_formats_become_coco(tmp_path: Path):
    """The copy of a YOLO folder is COCO JSON; fixes made while reading list their line."""
    data, out = tmp_path / "set" / "data", tmp_path / "out"
    for kind in ("images", "labels"):
        (data / kind / "train").mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(data / "images" / "train" / "a.png")
    (data / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n")
    (data / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    changes = write_fixed(data, discover_dataset(data), out)
    (remaining,) = json.loads((out / "annotations" / "train.json").read_text())["annotations"]
    assert remaining["bbox"] == pytest.approx([24, 16, 12, 8])
    assert any(change.entry == "line 2" for change in changes)
    with pytest.raises(DataError, match="or be read instead of them"):
        write_fixed(data, discover_dataset(data), data)
    with pytest.raises(DataError, match="or be read instead of them"):
        write_fixed(data.parent, discover_dataset(data.parent), data)


@pytest.mark.parametrize("depth", [30, 900, 3_000, 50_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("place", ["note", "segmentation", "bbox"])
def test_deeply_nested_values_are_copied_or_refused(
    folder: Path, tmp_path: Path, depth: int, opening: str, place: str
):
    """How deep JSON may be depends on the version of Python, and is another for writing."""
    closing = "]" if opening == "[" else "}"
    text = json.dumps(
        tree_of([annotation(1, [5, 5, 9, 9]), annotation(2, [5, 5, 0, 9], **{place: "nested"})])
    ).replace('"nested"', f"{opening * depth}1{closing * depth}")
    (tmp_path / "a.png").write_bytes((folder / "a.png").read_bytes())
    (tmp_path / "set.json").write_text(text)
    refused = ""
    try:
        write_fixed(tmp_path, discover_dataset(tmp_path), tmp_path / "out")
    except DataError as error:
        refused = str(error)
    assert len(refused) < 500
    assert (tmp_path / "out").exists() == (not refused)
    assert refused or len((tmp_path / "out/changes.json").read_text()) < 10_000

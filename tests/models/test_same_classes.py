"""Classes of weights are found by their names, however the data write them."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import setmatch
from known_models import SMALL_DFINE
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.models.same_classes import same_classes
from setmatch.models.weights.classes.coco import COCO_NAMES, COCO_THINGS
from setmatch.models.weights.classes.objects365 import OBJECTS365_NAMES
from setmatch.structures.metadata import Categories, ModelCard

VOC = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
COCO = tuple(COCO_NAMES.values())
WAYS = (
    str.upper,
    str.title,
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "-").capitalize(),
    lambda name: name.title().replace(" ", ""),
    lambda name: f"  {name.replace(' ', '  ')} ",
    lambda name: f"{name}es" if name.endswith(("ch", "x")) else f"{name}s",
)


@pytest.mark.parametrize("old", [COCO, OBJECTS365_NAMES], ids=["coco", "objects365"])
@pytest.mark.parametrize("way", range(len(WAYS)))
def test_every_published_class_is_found_however_it_is_written(old: tuple[str, ...], way: int):
    write = WAYS[way]
    names = [name for name in old if not name.endswith("s")] if way == 6 else list(old)
    found = same_classes(old, [write(name) for name in names])
    assert found == [old.index(name) for name in names]


def test_classes_of_voc_are_those_of_coco():
    today = {"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle"}
    today |= {"pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv"}
    rows = same_classes(COCO, VOC)
    assert [COCO[row] for row in rows if row is not None] == [today.get(n, n) for n in VOC]
    assert same_classes(VOC, COCO).count(None) == 60


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["car", "cars"], ["cars", "car"], [1, 0]),
        (["car"], ["cars", "car"], [None, 0]),  # the better match takes it
        (["car", "Car"], ["CAR"], [1]),
        (["stop sign", "stop-sign"], ["stop_sign"], [None]),  # two are as near
        (["Monitor/TV", "Handbag/Satchel"], ["tv", "monitors", "satchel"], [0, 0, 1]),
        (["bus", "glass", "dress"], ["buss", "glas", "dres"], [None, None, None]),
        ([None, "+", "猫"], [None, "-", "猫"], [None, None, 2]),
        (["a"], ["b"], [None]),
        ([], ["b"], [None]),
    ],
)
def test_by_hand(old, new, expected):
    assert same_classes(old, new) == expected


@given(st.lists(st.none() | st.text("aAbBsS _-/猫", max_size=4), max_size=8), st.randoms())
def test_the_same_names_in_another_order_are_all_found(names, draw):
    old = list({name.casefold(): name for name in names if name}.values())
    new = draw.sample(old, len(old))
    assert [old[row] for row in same_classes(old, new) if row is not None] == new


def test_rows_of_classes_that_are_written_in_another_way(tmp_path, caplog):
    torch.manual_seed(0)
    model = build(ModelCard("dfine_s", SMALL_DFINE, COCO_THINGS))
    save(model, tmp_path)
    wanted = Categories((1, 2, 3), ("Traffic_Light", "unicorn", "person"))
    with caplog.at_level(logging.INFO):
        tuned = setmatch.load(tmp_path, categories=wanted)
    assert "kept 2 ('Traffic_Light', 'person'); new 1 ('unicorn'); dropped 78" in caplog.text
    assert "'Traffic_Light' is 'traffic light' in the weights" in caplog.text
    rows = [COCO.index("traffic light"), COCO.index("person")]
    before, after = model.state_dict(), tuned.state_dict()
    checked = 0
    for key, value in before.items():
        for kind in model.class_rows:
            if kind.names.fullmatch(key):
                old, new = kind.by_class(value), kind.by_class(after[key])
                assert torch.equal(new[[0, 2]], old[rows])
                assert key.endswith("bias") or not torch.equal(new[1], old[1])
                checked += 1
    assert checked == 7

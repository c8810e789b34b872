"""Columns of class heads end as names in every family, also where a folder names no class."""

import json
from pathlib import Path
from random import Random

import pytest
import torch

import setmatch
from setmatch.models.weights.classes.coco import COCO_CLASSES
from setmatch.models.weights.classes.objects365 import OBJECTS365_CLASSES
from setmatch.structures.metadata import Categories
from thorough import usually

from .families import FAMILIES

ACCEPTED = {"accept_license": "objects365"}
WANTED = Categories((3, 9, 11), ("Bicycles", "unicorn", "traffic_light"))


@pytest.mark.crossed
@pytest.mark.parametrize("columns", [366, 91, 5])
@pytest.mark.parametrize("family", usually(sorted(FAMILIES), "rfdetr", "conditional"))
def test_rows_go_to_the_classes_of_their_names(family: str, columns: int, tmp_path: Path):
    """366 columns are Objects365's; 91 have names with gaps; 5 are named by you."""
    drawn = FAMILIES[family].draw(Random(f"columns of {family}"))
    for name in ("id2label", "label2id"):
        drawn.settings[1].pop(name, None)
    drawn.settings[1]["num_labels"] = columns
    FAMILIES[family].build(drawn).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    config = json.loads(path.read_text())
    assert config["id2label"]["4"] == "LABEL_4"
    known = {366: OBJECTS365_CLASSES, 91: COCO_CLASSES}.get(columns)
    if columns == 91:
        config["id2label"] = {index: name for index, name in enumerate(COCO_CLASSES.names) if name}
        path.write_text(json.dumps(config))
    model = setmatch.load(tmp_path / "theirs", **ACCEPTED)
    if known is None:
        assert model.card.categories.names == (None,) * 5
        named = Categories((2, 3, 5, 7, 11), ("a", "b", "c", "d", "e"))
        again = setmatch.load(tmp_path / "theirs", categories=named).state_dict()
        assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
        return
    assert model.card.categories == known
    tuned = setmatch.load(tmp_path / "theirs", categories=WANTED, **ACCEPTED)
    spelled = [name and name.casefold() for name in known.names]
    rows = [spelled.index("bicycle"), spelled.index("traffic light")]
    before, after, checked = model.state_dict(), tuned.state_dict(), 0
    for key, value in before.items():
        kinds = [kind for kind in model.class_rows if kind.names.fullmatch(key)]
        assert kinds or torch.equal(value, after[key])
        for kind in kinds:
            old, new = kind.by_class(value), kind.by_class(after[key])
            assert torch.equal(new[kind.background :][[0, 2]], old[kind.background :][rows])
            checked += 1
    assert checked >= 2

"""A task asks for masks: of every pixel, or of objects alone; it is never quietly without them."""

from pathlib import Path

import pytest

from setmatch.config import load_recipe
from setmatch.data.open import open_dataset, prefer_panoptic
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError, DataError
from setmatch.training.resolve_recipe import format_for, require_mask_head
from setmatch.training.train import train

MASKS, BOXES = load_recipe("setmatch_n_panoptic"), load_recipe("setmatch_n")
THINGS = load_recipe("setmatch_n_panoptic", ["data.things_only=true"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Objects and every pixel are annotated, each in a file of its own, as by COCO."""
    folder = tmp_path_factory.mktemp("both")
    write_scenes(folder, 2, 1, 64, 0, 0, panoptic=True)
    return folder


def test_masks_of_stuff_are_learned_from_every_pixel(both: Path):
    """Not from the objects alone, which stand first; unless they, or a format, are asked for."""
    assert open_dataset(both, "train").panoptic is None
    assert format_for(both, MASKS, None, None) == "panoptic"
    assert format_for(both, MASKS, None, "panoptic") == "panoptic"
    assert format_for(both, MASKS, "coco", None) == "coco"
    assert format_for(both, THINGS, None, "instance") is None
    assert format_for(both, BOXES, None, None) is None
    one = both / "annotations/train.json"
    assert format_for(one, MASKS, None, None) is None


def test_a_split_of_which_objects_alone_are_annotated_is_read_as_such(both: Path):
    """Every pixel of other splits is no reason to find nothing in this one."""
    assert prefer_panoptic(both, "val", None) == "panoptic"
    assert prefer_panoptic(both, "test", None) is None


def test_every_pixel_is_not_learned_from_objects(both: Path):
    """Asked for in words, it would end as a model that knows no stuff."""
    with pytest.raises(DataError, match="has no segments"):
        format_for(both / "annotations/train.json", MASKS, None, "panoptic")
    with pytest.raises(DataError, match="has no segments"):
        format_for(both, MASKS, "coco", "panoptic")


def test_a_task_needs_a_mask_head(both: Path, tmp_path: Path):
    """The message names the model that has one."""
    require_mask_head(None, "detr_r50")
    require_mask_head("instance", "detr_r50_panoptic")
    with pytest.raises(ConfigError, match="setmatch_s has no mask head; take setmatch_s_panoptic"):
        require_mask_head("instance", "setmatch_s")
    with pytest.raises(ConfigError, match="take a model that has one"):
        require_mask_head("panoptic", "fasterrcnn_r50_fpn")
    with pytest.raises(ConfigError, match=r"detr_r18_tiny has no mask head"):
        train(both, "detr_r18_tiny", out=tmp_path / "run", task="instance")
    assert not (tmp_path / "run").exists()

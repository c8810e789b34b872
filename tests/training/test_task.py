"""The task option: panoptic masks, or masks of things only, never silently without masks."""

from pathlib import Path

import pytest

from setmatch.data.open import open_dataset, prefer_panoptic
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError, DataError
from setmatch.recipe_text import load_recipe
from setmatch.training.start.resolve_recipe import choose_format, require_mask_head
from setmatch.training.start.training_data import open_training_data
from setmatch.training.train import train

MASKS, BOXES = load_recipe("setmatch_n_panoptic"), load_recipe("setmatch_n")
THINGS = load_recipe("setmatch_n_panoptic", ["data.things_only=true"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with detection and panoptic annotations in separate files, as COCO has them."""
    folder = tmp_path_factory.mktemp("both")
    write_scenes(folder, 2, 1, 64, 0, 0, panoptic=True)
    return folder


def test_stuff_masks_are_trained_on_panoptic_annotations(both: Path):
    """Unless masks of things only, or a format, are requested."""
    assert open_dataset(both, "train").panoptic is None
    assert choose_format(both, MASKS, None, None) == "panoptic"
    assert choose_format(both, MASKS, None, "panoptic") == "panoptic"
    assert choose_format(both, MASKS, "coco", None) == "coco"
    assert choose_format(both, THINGS, None, "instance") is None
    assert choose_format(both, BOXES, None, None) is None
    one_file = both / "annotations/train.json"
    assert choose_format(one_file, MASKS, None, None) is None


def test_panoptic_annotations_of_other_splits_do_not_matter(both: Path):
    assert prefer_panoptic(both, "val", None) == "panoptic"
    assert prefer_panoptic(both, "test", None) is None


def test_the_panoptic_task_refuses_data_without_segments(both: Path):
    with pytest.raises(DataError, match="has no segments"):
        open_training_data(both / "annotations/train.json", require_segments=True)
    with pytest.raises(DataError, match="has no segments"):
        open_training_data(both, "coco", require_segments=True)


def test_a_task_needs_a_mask_head(both: Path, tmp_path: Path):
    """The message names the model that has one."""
    require_mask_head(None, "detr_r50")
    require_mask_head("instance", "detr_r50_panoptic")
    with pytest.raises(
        ConfigError, match="setmatch_s has no mask head; choose setmatch_s_panoptic"
    ):
        require_mask_head("instance", "setmatch_s")
    with pytest.raises(ConfigError, match="choose a model that has one"):
        require_mask_head("panoptic", "fasterrcnn_r50_fpn")
    with pytest.raises(ConfigError, match=r"detr_r18_tiny has no mask head"):
        train(both, "detr_r18_tiny", out=tmp_path / "run", task="instance")
    assert not (tmp_path / "run").exists()

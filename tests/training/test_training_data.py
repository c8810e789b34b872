"""The data set of a run is opened once: each split, in a run of one stage or two."""

from pathlib import Path

import pytest
from tiny_runs import STAGES, log_rows, run_stages, run_tiny, write_data

from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError
from setmatch.training import training_data
from setmatch.training.training_data import open_training_data


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that were opened so far."""
    splits, open_dataset = [], training_data.open_dataset

    def recording(data, split, *rest):
        splits.append(split)
        return open_dataset(data, split, *rest)

    for module in ("setmatch.training.training_data", "setmatch.evaluation.evaluate"):
        monkeypatch.setattr(f"{module}.open_dataset", recording)
    return splits


def test_a_run_of_one_stage_opens_each_split_once(tmp_path: Path, opened: list[str]):
    data = write_data(tmp_path / "data", splits=("train", "val"))
    run_tiny(data, tmp_path / "run", "train.epochs=1")
    assert opened == ["train", "val"]


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_a_panoptic_run_of_two_stages_opens_each_split_once(tmp_path: Path, opened, task):
    write_scenes(tmp_path / "data", 4, 2, 64, 0, 0, panoptic=True)
    run = run_stages(tmp_path / "data", tmp_path / "run", recipe=STAGES, task=task, epochs=1)
    assert opened == ["train", "val"]
    assert log_rows(run.folder / "boxes")[-1]["kind"] == log_rows(run.folder)[-1]["kind"] == "val"


def test_without_a_validation_split_images_are_held_out(tmp_path: Path):
    data = open_training_data(write_data(tmp_path / "data", images=40))
    assert data.validation is not None
    assert len(data.training) + len(data.validation) == 40


def test_too_few_images_leave_no_validation_data(tmp_path: Path):
    assert open_training_data(write_data(tmp_path / "data", images=1)).validation is None


def test_splits_without_a_common_class_are_refused(tmp_path: Path):
    data = write_data(tmp_path / "data", splits=("train", "val"))
    annotations = data / "annotations/val.json"
    annotations.write_text(annotations.read_text().replace("square", "a").replace("other", "b"))
    with pytest.raises(DataError, match="no class in common"):
        open_training_data(data)

"""The data set of a run is read once: each split, in a run of one stage or two."""

from pathlib import Path

import pytest
from tiny_runs import STAGES, log_rows, run_stages, run_tiny, write_data

from setmatch.data import open as opening
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError
from setmatch.training.start.training_data import open_training_data


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of annotations that were read so far, without their suffix."""
    names, cached = [], opening.cached

    def recording(split):
        names.append(Path(split.source).stem)
        return cached(split)

    monkeypatch.setattr(opening, "cached", recording)
    return names


def test_a_run_of_one_stage_reads_each_split_once(tmp_path: Path, read: list[str]):
    data = write_data(tmp_path / "data", splits=("train", "val"))
    run_tiny(data, tmp_path / "run", "train.epochs=1")
    assert read == ["train", "val"]


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_a_panoptic_run_of_two_stages_reads_each_split_once(tmp_path: Path, read, task):
    write_scenes(tmp_path / "data", 4, 2, 64, 0, 0, panoptic=True)
    run = run_stages(tmp_path / "data", tmp_path / "run", recipe=STAGES, task=task, epochs=1)
    kind = "panoptic_" if task == "panoptic" else ""
    assert read == [f"{kind}train", f"{kind}val"]
    assert log_rows(run.folder / "boxes")[-1]["kind"] == log_rows(run.folder)[-1]["kind"] == "val"


def test_without_a_validation_split_images_are_held_out(tmp_path: Path, read: list[str]):
    data = open_training_data(write_data(tmp_path / "data", images=40))
    assert data.validation is not None
    assert len(data.training) + len(data.validation) == 40
    assert read == ["train"]


def test_too_few_images_leave_no_validation_data(tmp_path: Path):
    assert open_training_data(write_data(tmp_path / "data", images=1)).validation is None


def test_splits_without_a_common_class_are_refused(tmp_path: Path):
    data = write_data(tmp_path / "data", splits=("train", "val"))
    annotations = data / "annotations/val.json"
    annotations.write_text(annotations.read_text().replace("square", "a").replace("other", "b"))
    with pytest.raises(DataError, match="no class in common"):
        open_training_data(data)

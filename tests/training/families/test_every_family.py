"""Every family resumes to the same bits, learns the same in two processes, and keeps frozen parts.

The last columns of the table in docs/explanation/families.md.
"""

from pathlib import Path

import pytest
import torch
from family_runs import main_rank, tune
from tiny_runs import CrashError, Processes, assert_bit_equal, crash_before, log_rows

from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import ConfigError
from setmatch.models.load import load, save
from setmatch.structures.metadata import Preprocessing
from small_families import PRESETS, small_model

pytestmark = pytest.mark.thorough

STEPS = 4  # 2 epochs of 8 images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, 8, 2, 64, 0, 0)
    return folder


@pytest.fixture(params=PRESETS)
def start(request: pytest.FixtureRequest, data: Path, tmp_path: Path) -> Path:
    """A small model of a family with the classes of the data."""
    model = small_model(request.param, open_dataset(data, "val").categories, Preprocessing(64, 96))
    save(model, tmp_path / "start")
    return tmp_path / "start"


def test_a_killed_run_of_the_family_resumes_to_the_same_bits(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = tune(data, start, tmp_path / "whole")
    with monkeypatch.context() as patch:
        crash_before(STEPS - 1, patch)
        with pytest.raises(CrashError):
            tune(data, start, tmp_path / "killed")
    resumed = tune(data, start, tmp_path / "killed", resume=True)
    assert_bit_equal(resumed, whole)


def test_two_processes_learn_what_one_does(data: Path, start: Path, tmp_path: Path):
    """The first step has the same loss and gradients: all ranks' boxes divide the losses."""
    one = tune(data, start, tmp_path / "one")
    codes, said = Processes(tmp_path / "two", data, world=2, main=main_rank).wait(250)
    assert codes == [0, 0], said
    mine, theirs = (
        [row for row in log_rows(run) if row["kind"] == "train"] for run in (one, tmp_path / "two")
    )
    assert [row["step"] for row in theirs] == [1, 2, 3, 4]
    for name in ("loss", "grad_norm"):
        assert theirs[0][name] == pytest.approx(mine[0][name], rel=1e-4), name
        assert all(torch.tensor([row[name] for row in theirs]).isfinite()), name


@pytest.mark.parametrize("part", ["backbone", "encoder"])
def test_frozen_parts_keep_their_weights(data: Path, start: Path, tmp_path: Path, part: str):
    """All else is learned; a part that a family has not is refused before anything is written."""
    before = load(start)
    if not isinstance(getattr(before, part, None), torch.nn.Module):
        with pytest.raises(ConfigError, match=f"has no {part}; set "):
            tune(data, start, tmp_path / "run", f"train.freeze={part}")
        return
    after = tune(data, start, tmp_path / "run", f"train.freeze={part}")
    learned = load(after).state_dict()
    frozen = ("backbone.", "encoder.") if part == "encoder" else ("backbone.",)
    same = {
        name
        for name, value in before.named_parameters()
        if value.shape == learned[name].shape and torch.equal(value, learned[name])
    }
    assert {name for name, _ in before.named_parameters() if name.startswith(frozen)} <= same
    assert len(same) < len(list(before.named_parameters()))

"""The state of a checkpoint is restored without running anything in it."""

import shutil

import pytest
import torch
from tiny_runs import run_tiny

import hostile_pickles
from hostile_pickles import EXPLODED, FORMATS, KINDS, hostile
from setmatch.errors import TrainingError
from setmatch.files.manifest import write_whole
from setmatch.training.checkpoints.checkpoint import latest_valid
from setmatch.training.checkpoints.state import TRAINER, restore_state
from setmatch.training.start import start_run
from thorough import usually


@pytest.fixture(scope="module")
def restored(data, tmp_path_factory):
    """A checkpoint, its content, and what it was restored into."""
    out, seen = tmp_path_factory.mktemp("run") / "run", []
    run_tiny(data, out, "train.epochs=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            start_run, "restore_state", lambda *given: seen.append(given) or restore_state(*given)
        )
        run_tiny(data, out, "train.epochs=1", resume=True)
    ((checkpoint, train_step),) = seen
    return checkpoint, torch.load(checkpoint.folder / TRAINER, weights_only=True), train_step


def places(state, evil):
    """The states that have something hostile in one of their places."""
    yield "all", evil
    yield "model", {**state, "model": {**state["model"], "x": evil}}
    ((name, moments),) = state["optimizer"].items()
    first = next(iter(moments))
    for place, value in (("moment", {**moments[first], "exp_avg": evil}), ("parameter", evil)):
        yield place, {**state, "optimizer": {name: {**moments, first: value}}}
    yield "optimizer", {**state, "optimizer": {**state["optimizer"], "Muon": evil}}
    yield "average", {**state, "average_updates": evil}
    yield "progress", {**state, "progress": {**state["progress"], "spent_s": evil}}


@pytest.mark.promise(18)
@pytest.mark.parametrize(
    "format", ["zip", *(pytest.param(each, marks=pytest.mark.campaign) for each in FORMATS[1:])]
)
@pytest.mark.parametrize("kind", usually(KINDS, *KINDS[::3]))  # files of weights take all
def test_a_state_that_would_run_code_is_refused(restored, tmp_path, monkeypatch, kind, format):
    """Its manifest may be in order: whoever can write the file can write that, too."""
    checkpoint, state, train_step = restored
    monkeypatch.chdir(tmp_path)
    for place, tree in places(state, hostile(kind)):
        folder = tmp_path / f"run_{place}" / "checkpoints" / "step_00000003"

        def fill(new, tree=tree):
            shutil.copytree(checkpoint.folder, new, dirs_exist_ok=True)
            (new / "manifest.json").unlink()
            hostile_pickles.write(new / TRAINER, tree, kind, format)

        write_whole(folder, fill, checkpoint.facts)
        forged = latest_valid(folder.parents[1])
        with pytest.raises(TrainingError, match=r"trainer\.pt: (refused|damaged|not the state)"):
            restore_state(forged, train_step)
        assert not (tmp_path / EXPLODED).exists(), place


@pytest.mark.parametrize("kind", ["exec", "global_opcode"])
def test_a_resume_says_what_it_refuses(data, restored, tmp_path, monkeypatch, kind):
    """From the command on, with the file named, and nothing run or written."""
    checkpoint, state, _ = restored
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(checkpoint.folder.parents[1], tmp_path / "run")
    folder = run / "checkpoints" / checkpoint.folder.name
    tree = dict(places(state, hostile(kind)))["moment"]

    def fill(new):
        shutil.copytree(checkpoint.folder, new, dirs_exist_ok=True)
        (new / "manifest.json").unlink()
        hostile_pickles.write(new / TRAINER, tree, kind, "zip")

    write_whole(folder, fill, checkpoint.facts)
    with pytest.raises(TrainingError, match=r"step_00000003.trainer\.pt: refused, it would run"):
        run_tiny(data, run, "train.epochs=1", resume=True)
    assert not (tmp_path / EXPLODED).exists()

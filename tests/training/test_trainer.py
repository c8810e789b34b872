"""The files that a run writes, and the runs it refuses."""

import csv
import json
import shutil

import pytest
import tiny_runs
import torch
from tiny_runs import RECIPE, CrashError, final_state, log_rows, run_tiny

from setmatch.config import ModelSettings
from setmatch.data.open import open_dataset
from setmatch.errors import ConfigError, DataError, TrainingError
from setmatch.recipe_text import load_recipe
from setmatch.training.checkpoints.checkpoint import latest_valid
from setmatch.training.loop import evaluations
from setmatch.training.start.resolve_recipe import choose_recipe
from setmatch.training.start.setup import arguments_of
from setmatch.training.train import train


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run of 8 steps."""
    return run_tiny(data, tmp_path_factory.mktemp("whole") / "run").folder


def test_an_existing_run_is_never_overwritten(data, whole):
    """The message names --resume."""
    with pytest.raises(ConfigError, match="--resume"):
        run_tiny(data, whole)


@pytest.mark.promise(6)
def test_changed_settings_are_refused_with_the_difference(data, tmp_path):
    """The message has the old and the new value; allowed changes take effect."""
    run_tiny(data, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"recipe\.train\.lr was 0\.001 and is 0\.1"):
        run_tiny(data, tmp_path / "run", "train.lr=0.1", resume=True)
    run_tiny(data, tmp_path / "run", "train.epochs=4", resume=True, allow_changes=True)
    assert log_rows(tmp_path / "run")[-1]["step"] == 10


@pytest.mark.promise(6)
@pytest.mark.parametrize("change", ["order", "one more", "model.arguments.dim=8", "model.preset"])
def test_a_resumed_run_cannot_change_its_model_or_classes(data, whole, tmp_path, change):
    """Class indices would silently mean other classes."""
    tree = json.loads(data.read_text())
    tree["categories"] = {
        "order": [{"id": 3, "name": "other"}, {"id": 7, "name": "square"}],
        "one more": [*tree["categories"], {"id": 9, "name": "third"}],
    }.get(change, tree["categories"])
    other = tmp_path / "annotations/train.json"
    other.parent.mkdir()
    other.write_text(json.dumps(tree))
    (tmp_path / "images").symlink_to(data.parents[1] / "images")
    changes = {"order": (), "one more": (), "model.preset": ("model.preset=tiny_norm",)}
    overrides = changes.get(change, (change,))
    before = latest_valid(whole)
    with pytest.raises(ConfigError, match=f"a run cannot change its model .*--weights {whole}"):
        run_tiny(other, whole, *overrides, resume=True, allow_changes=True)
    assert latest_valid(whole) == before


@pytest.mark.parametrize("resume", [False, True])
def test_best_weights_without_checkpoints_are_not_overwritten(data, tmp_path, resume):
    """The message says how to start from them."""
    run_tiny(data, tmp_path / "run")
    (tmp_path / "run/best").mkdir(exist_ok=True)
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(ConfigError, match="no checkpoint to resume from; name another folder"):
        run_tiny(data, tmp_path / "run", resume=resume)


@pytest.mark.promise(6)
def test_changed_data_is_refused(data, tmp_path):
    run_tiny(data, tmp_path / "run")
    other = tiny_runs.write_data(tmp_path / "other", images=12) / "annotations/train.json"
    with pytest.raises(ConfigError, match=r"data\.images was 10 and is 12"):
        run_tiny(other, tmp_path / "run", resume=True)


def test_a_resumed_run_uses_its_own_recipe(data, tmp_path):
    run_tiny(data, tmp_path / "run")
    train(data, out=tmp_path / "run", resume=True, device="cpu")
    assert load_recipe(tmp_path / "run/recipe.yaml") == load_recipe(RECIPE)


def test_without_a_validation_split_the_newest_weights_are_the_result(
    data, whole, capsys, tmp_path
):
    """The log says that nothing is evaluated."""
    run = run_tiny(data, tmp_path / "run")
    assert "no validation split" in capsys.readouterr().err
    assert run.best is None
    weights = saved_weights(tmp_path / "run")
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())


def saved_weights(run):
    state = final_state(run)
    return {k.removeprefix("weights."): v for k, v in state.items() if k.startswith("weights.")}


def test_every_evaluation_is_logged_and_the_best_is_kept(tmp_path):
    """An evaluation an epoch, in both logs; RUN/best has its numbers and loads as a model."""
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))
    run = run_tiny(data, tmp_path / "run")
    val = [row for row in log_rows(run.folder) if row["kind"] == "val"]
    assert [row["epoch"] for row in val] == [1, 2, 3]
    assert run.best["AP"] == max(row["AP"] for row in val)
    assert set(run.best["per_class"]) == {"square", "other"}
    assert run.model.card.categories.ids == (3, 7)
    assert run.model.card.preprocessing.short_side_px == 64
    with (run.folder / "log.csv").open(newline="") as file:
        assert [row["kind"] for row in csv.DictReader(file)] == [
            r["kind"] for r in log_rows(run.folder)
        ]


def test_an_interrupted_evaluation_is_repeated_on_resume(tmp_path, monkeypatch):
    """Killed between checkpoint and evaluation, the run evaluates first when it resumes."""
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))

    def interrupt(*_, **__):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(evaluations, "evaluate", interrupt)
        with pytest.raises(CrashError):
            run_tiny(data, tmp_path / "run")
    run_tiny(data, tmp_path / "run", resume=True)
    assert [row["step"] for row in log_rows(tmp_path / "run") if row["kind"] == "val"] == [3, 5, 8]


@pytest.mark.promise(8)
def test_one_image_with_a_nonfinite_loss_is_named_and_changes_nothing(tmp_path, capsys):
    """Steps with it are skipped and counted; weights, statistics and average stay finite."""
    data = tiny_runs.write_data(tmp_path / "data", white=(4,)) / "annotations/train.json"
    sizes = ("train.batch_size=2", "train.micro_batch=1")
    run = run_tiny(data, tmp_path / "run", "model.preset=tiny_fragile", *sizes)
    output = capsys.readouterr().err
    assert [image for image in range(10) if f"train_{image}.png" in output] == [4]
    assert log_rows(run.folder)[-1]["nonfinite"] == 3
    for name, value in final_state(run.folder).items():
        assert not torch.is_tensor(value) or value.isfinite().all(), name
    steps = {k: v for k, v in final_state(run.folder).items() if k.endswith(".step")}
    assert {value.item() for value in steps.values()} == {12.0}


@pytest.mark.promise(8)
def test_a_run_of_skipped_steps_stops_with_advice(tmp_path):
    """After nonfinite_limit skipped steps in a row the error suggests settings and names images."""
    data = tiny_runs.write_data(tmp_path / "data", white=range(10)) / "annotations/train.json"
    with pytest.raises(TrainingError, match=r"train\.lr.*float32") as error:
        run_tiny(data, tmp_path / "run", "model.preset=tiny_fragile", "train.nonfinite_limit=2")
    assert "train_" in str(error.value)


def test_a_run_folder_that_cannot_be_written_is_refused_before_training(data, tmp_path):
    """A file instead of a folder, and a read-only parent folder."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is not a folder; name a folder"):
        run_tiny(data, tmp_path / "file")
    with pytest.raises(ConfigError, match="/proc/run: cannot be written"):
        run_tiny(data, "/proc/run")


def test_invalid_arguments_leave_no_folder(data, tmp_path):
    """Wrong data, a wrong setting or batch sizes that do not fit: nothing is half-written."""
    with pytest.raises(DataError):
        run_tiny(tmp_path / "nothing", tmp_path / "run")
    with pytest.raises(ConfigError):
        run_tiny(data, tmp_path / "run", "train.lrr=1")
    with pytest.raises(ConfigError, match="batch_size"):
        run_tiny(data, tmp_path / "run", "train.batch_size=5")
    with pytest.raises(ConfigError, match="no GPU"):
        train(data, out=tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


def test_validation_data_of_other_classes_is_refused_at_the_start(tmp_path):
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))
    tree = json.loads((data / "annotations/val.json").read_text())
    for category in tree["categories"]:
        category["name"] += " too"
    (data / "annotations/val.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="no class in common"):
        run_tiny(data, tmp_path / "run")


def test_num_queries_auto_follows_from_the_data(tmp_path):
    """Unless the arguments set a number."""
    training = open_dataset(tiny_runs.write_data(tmp_path / "data"), "train")
    auto = ModelSettings(num_queries="auto")
    assert arguments_of(auto, training) == {"num_queries": 30}
    fixed = ModelSettings(arguments={"num_queries": 7}, num_queries="auto")
    assert arguments_of(fixed, training) == {"num_queries": 7}
    assert arguments_of(ModelSettings(), training) == {}


def test_an_unreadable_training_image_is_skipped_and_reported(tmp_path, capsys, monkeypatch):
    """It is named once in the log, and in the data report."""
    monkeypatch.setattr("setmatch.data.images.corrupt_files.UNREADABLE_AT_MOST", 0.3)
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))
    image_file = sorted(data.rglob("train*.png"))[0]
    image_file.write_bytes(image_file.read_bytes()[:100])
    run_tiny(data, tmp_path / "run")
    assert capsys.readouterr().err.count(image_file.name) == 1
    report = json.loads((tmp_path / "run/data_report.json").read_text())
    (finding,) = [finding for finding in report["findings"] if image_file.name in finding["value"]]
    assert finding["action"] == "left out of training"
    with pytest.raises(DataError, match=image_file.name):
        run_tiny(data, tmp_path / "strict", "data.on_bad_image=stop")


def reported(run, name):
    """Return the findings of a run's report about a file."""
    report = json.loads((run / "data_report.json").read_text())
    return [finding for finding in report["findings"] if name in finding["value"]]


def test_an_unreadable_validation_image_counts_as_missed(tmp_path, capsys):
    """It is named once; two such images are refused.

    Damage in the middle of a file shows only when the file is decoded.
    """
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))
    first, second = sorted(data.rglob("val*.png"))[:2]
    whole = first.read_bytes()
    for run, damaged in (("early", whole[:100]), ("late", whole[:60] + b"??" + whole[62:])):
        first.write_bytes(damaged)
        run_tiny(data, tmp_path / run)
        assert capsys.readouterr().err.count(first.name) == 1
        (finding,) = reported(tmp_path / run, first.name)
        assert finding["value"].startswith("no detections, so that its objects count as missed")
        assert "AP" in log_rows(tmp_path / run)[-1]
    first.write_bytes(b"")
    with pytest.raises(DataError, match=first.name):
        run_tiny(data, tmp_path / "strict", "data.on_bad_image=stop")
    second.write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of \d+ images cannot be read"):
        run_tiny(data, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_an_evaluation_that_fails_loses_no_step(tmp_path, capsys, monkeypatch):
    """The steps until then are saved, and the resumed run repeats the evaluation."""
    data = tiny_runs.write_data(tmp_path / "data", splits=("train", "val"))

    def fail(*_, **__):
        raise DataError("val: damaged in the meantime")

    with monkeypatch.context() as patch:
        patch.setattr(evaluations, "evaluate", fail)
        with pytest.raises(DataError, match="in the meantime"):
            run_tiny(data, tmp_path / "run", "train.checkpoint_every=1000")
    output = capsys.readouterr().err
    step = latest_valid(tmp_path / "run").step
    assert step > 0
    assert f"step {step} is saved; fix the data and continue with --resume" in output
    run_tiny(data, tmp_path / "run", "train.checkpoint_every=1000", resume=True)
    rows = log_rows(tmp_path / "run")
    assert next(row["step"] for row in rows if row["kind"] == "val") == step


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        ({}, "setmatch_n"),
        ({"weights": "detr_r50"}, "detr_r50"),
        ({"weights": "bloodcells_n"}, "setmatch_n"),
        ({"weights": "none"}, "setmatch_n"),
        ({"weights": "imagenet"}, "detr_r50"),
        ({"model": "detr_r50_dc5"}, "detr_r50_dc5"),
        ({"overrides": ["model.preset=detr_nano"]}, "detr_nano"),
        ({"recipe": "finetune"}, "detr_r50"),
        ({"task": "instance"}, "setmatch_n_panoptic"),
        ({"task": "panoptic", "model": "detr_r101_panoptic"}, "detr_r101_panoptic"),
    ],
)
def test_the_preset_follows_from_what_is_named(settings, preset):
    """With nothing named, it is a preset that needs no download."""
    settings = {"model": None, "weights": None, "recipe": None, "overrides": (), **settings}
    assert choose_recipe(**settings, checkpoint=None).model.preset == preset


def test_weights_of_another_image_size_cause_a_warning(data, whole, tmp_path, capsys):
    again = {"model": None, "recipe": RECIPE, "weights": whole, "device": "cpu"}
    train(data, **again, out=tmp_path / "same", overrides=["train.epochs=1"])
    assert "trained at a short side" not in capsys.readouterr().err
    larger = ["train.epochs=1", "data.short_side_px=128", "data.long_side_px=128"]
    train(data, **again, out=tmp_path / "larger", overrides=larger)
    output = capsys.readouterr().err
    assert "trained at a short side of 64 px and now get 128 px" in output

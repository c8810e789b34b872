"""Ablations: every arm is a valid recipe, interrupted ablations resume, tables are correct."""

import json
import os
import sys
from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from rich.console import Console

from setmatch.ablation import run as ablation
from setmatch.ablation.run import RESULT, AblationRun, ablate
from setmatch.ablation.studies import STUDIES, Arm, Study
from setmatch.ablation.tables import Outcome, Table, to_json
from setmatch.data.synthetic.scenes import EASY, write_scenes
from setmatch.distributed import Distributed, init_distributed, single_process
from setmatch.errors import ConfigError, DataError, ExtraMissingError
from setmatch.files.folder_lock import locked
from setmatch.recipe_text import load_recipe

SMALL = (
    "model.arguments.dim=16",
    "model.arguments.heads=2",
    "model.arguments.ffn_dim=16",
    "model.arguments.num_queries=4",
    "data.short_side_px=64",
    "train.epochs=1",
    "train.batch_size=4",
    "train.micro_batch=4",
    "train.warmup_steps=0",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight easy scenes for training, four for validation."""
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, 8, 4, 64, 0, 0, EASY)
    return folder


def quick(data, out, *studies, **options):
    """Run an ablation with two steps per arm."""
    return ablate(studies, out=out, data=data, overrides=SMALL, device="cpu", **options)


def test_two_ablations_cannot_share_a_folder(data, tmp_path):
    """Refused before anything is trained or written."""
    with locked(tmp_path / "out"), pytest.raises(ConfigError, match="out: is being written by"):
        quick(data, tmp_path / "out", "losses")
    assert not (tmp_path / "out").exists()


def record_trainings(monkeypatch):
    """Return a list that gets the folder name of every training that is started."""
    started, train = [], ablation.train

    def recorded(*arguments, **options):
        started.append(options["out"].name)
        return train(*arguments, **options)

    monkeypatch.setattr(ablation, "train", recorded)
    return started


@pytest.mark.thorough
def test_every_arm_of_every_study_is_a_valid_recipe(tmp_path):
    """Equal recipes share their runs."""
    every = AblationRun(tmp_path, tuple(STUDIES.values()), load_recipe("ablation"), 1)
    folders = [job.folder for s in every.studies for arm in s.arms for job in every.jobs(arm)]
    assert len(every.all_jobs()) == len(set(folders)) == len(folders) - 6
    base = every.jobs(Arm("unchanged"))[0].folder
    assert folders.count(base) == 7  # an arm of every study
    for study in STUDIES.values():
        assert study.reference in [arm.name for arm in study.arms]


@pytest.mark.thorough
def test_an_ablation_ends_with_a_table_and_a_plot(data, tmp_path, monkeypatch):
    """A second call trains nothing and returns the same table."""
    started = record_trainings(monkeypatch)
    done = quick(data, tmp_path, "losses", seeds=2)
    assert len(started) == len(set(started)) == 6
    (table,) = done.tables()
    assert [len(outcomes) for outcomes in table.outcomes] == [2, 2, 2]
    with Image.open(tmp_path / "losses.png") as image:
        assert image.size[0] > 900
    tree = json.loads((tmp_path / "ablation.json").read_text())
    assert tree["studies"]["losses"]["class + L1"]["published"] == 35.8
    again = quick(data, tmp_path, "losses", seeds=2)
    assert len(started) == 6
    assert again.tables() == done.tables()


def test_a_custom_study_is_run(data, tmp_path):
    custom = Study("custom", "steps", (Arm("a"), Arm("b", ("train.clip_norm=1",))), "a")
    (table,) = quick(data, tmp_path, custom).tables()
    assert table.study is custom
    assert [len(outcomes) for outcomes in table.outcomes] == [1, 1]


def test_num_queries_auto_is_kept_in_every_arm(tmp_path):
    """Completing the arguments of a preset must not fix the number of queries."""
    study = Study("s", "of a part", (Arm("a"), Arm("b", ("model.num_queries=null",))), "a")
    automatic, fixed = (
        AblationRun(tmp_path, (study,), load_recipe("setmatch_n"), 1).jobs(arm)[0].recipe.model
        for arm in study.arms
    )
    assert "num_queries" not in automatic.arguments
    assert fixed.arguments["num_queries"] > 0


def test_an_interrupted_ablation_resumes(data, tmp_path, monkeypatch):
    """Finished arms are kept, the interrupted one is resumed, and the rest is trained."""
    train = ablation.train
    folders = []

    def interrupted_at_the_second(*arguments, **options):
        folders.append(options["out"])
        if len(folders) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(ablation, "train", interrupted_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        quick(data, tmp_path, "auxiliary")
    assert (folders[0] / RESULT).exists()
    report = quick(data, tmp_path, "auxiliary", report_only=True)
    assert [len(outcomes) for outcomes in report.tables()[0].outcomes] == [1, 0]
    before = (tmp_path / "ablation.json").read_text()
    others = (*SMALL, "train.lr=0.5")
    with pytest.raises(ConfigError, match="started with other settings"):
        ablate(["auxiliary"], out=tmp_path, data=data, overrides=others, report_only=True)
    assert (tmp_path / "ablation.json").read_text() == before
    monkeypatch.setattr(ablation, "train", train)
    started = record_trainings(monkeypatch)
    quick(data, tmp_path, "auxiliary")
    assert started == [folders[1].name]


class Apart(Distributed):
    """A process of several that run one after the other, so that none waits for another."""

    def first(self, work):
        return work()


@pytest.mark.thorough
def test_processes_divide_the_runs(data, tmp_path, monkeypatch):
    """Each of two trains every other run. The last to finish writes the complete table."""
    per_rank = []
    for rank in (0, 1):

        @contextmanager
        def joined(device, rank=rank):
            yield Apart(torch.device("cpu"), rank, 2)

        with monkeypatch.context() as patch:
            patch.setattr(ablation, "init_distributed", joined)
            patch.setenv("RANK", str(rank))
            patch.setenv("WORLD_SIZE", "2")
            started = record_trainings(patch)
            done = quick(data, tmp_path, "auxiliary")
        per_rank.append(started)
    assert [len(started) for started in per_rank] == [1, 1]
    assert per_rank[0] != per_rank[1]
    assert [len(outcomes) for outcomes in done.tables()[0].outcomes] == [1, 1]


def test_other_settings_in_the_same_folder_are_refused(data, tmp_path):
    quick(data, tmp_path, "auxiliary")
    with pytest.raises(ConfigError, match="started with other settings"):
        ablate(["ffn"], out=tmp_path, data=data, overrides=(*SMALL, "train.lr=1"), device="cpu")


def test_invalid_ablations_are_refused_before_training(data, tmp_path):
    """Unknown studies, arguments that the model lacks, data without a validation split."""
    with pytest.raises(ConfigError, match="did you mean position"):
        quick(data, tmp_path / "a", "positions")
    with pytest.raises(ConfigError, match="no argument position"):
        ablate(["position"], out=tmp_path / "b", data=data, overrides=("model.preset=setmatch_n",))
    with pytest.raises(ConfigError, match="at least one run"):
        quick(data, tmp_path / "c", "losses", seeds=0)
    (tmp_path / "d" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match="no annotations found"):
        quick(tmp_path / "d", tmp_path / "e", "losses")
    train_only = data / "annotations" / "train.json"
    with pytest.raises(DataError, match="no split 'val'"):
        quick(train_only, tmp_path / "f", "losses")
    assert not (tmp_path / "f" / "runs").exists()


def test_a_missing_matplotlib_is_reported_before_the_training(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[plots\]"):
        quick(data, tmp_path, "losses")
    assert not (tmp_path / "runs").exists()


def table(**aps: list[float]) -> Table:
    """A table of two arms with these APs."""
    study = Study("s", "of something", (Arm("a", (), 30.0), Arm("b", (), 40.0)), "b", "table 9")
    outcomes = tuple(
        tuple(Outcome(ap, ap, seed) for seed, ap in enumerate(aps[name])) for name in "ab"
    )
    return Table(study, outcomes)


def test_gains_are_differences_to_the_reference():
    """Differences of means over seeds, in points; those of the paper, too."""
    result = table(a=[0.1, 0.3], b=[0.5])
    first, second = result.study.arms
    assert result.gain(first) == pytest.approx(-30)
    assert result.gain(second) == 0
    assert result.published_gain(first) == pytest.approx(-10)
    assert to_json([result])["s"]["a"]["runs"][1] == {"AP": 0.3, "AP50": 0.3, "seed": 1}


def test_unfinished_runs_have_no_number(tmp_path):
    """Neither in the table nor in the plot."""
    from setmatch.ablation.plot import draw_study

    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    half = table(a=[0.25], b=[])
    console.print(half.to_rich())
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["a", "25.0", "–", "25.0", "–", "30.0", "-10.0"] in lines
    assert ["b", "–", "–", "–", "–", "40.0", "+0.0"] in lines
    draw_study(half, tmp_path / "s.png")
    assert half.has_results
    assert not table(a=[], b=[]).has_results


def test_one_of_several_processes_can_run_separately(monkeypatch):
    """torchrun's variables are removed inside, and restored afterwards."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with single_process(), init_distributed("cpu") as runtime:
        assert (runtime.rank, runtime.world) == (0, 1)
    assert torch.distributed.is_initialized() is False
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("1", "2")

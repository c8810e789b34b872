"""Ablations: every arm builds and is what it says, a campaign resumes, the table is honest."""

import json
import os
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from rich.console import Console

from setmatch.ablation import run as campaign
from setmatch.ablation.run import RESULT, AblationRun, ablate
from setmatch.ablation.studies import STUDIES, Arm, Study
from setmatch.ablation.tables import Outcome, Table, to_json
from setmatch.config import load_recipe
from setmatch.data.synthetic.scenes import EASY, write_scenes
from setmatch.distributed import alone, processes
from setmatch.errors import ConfigError, DataError, ExtraMissingError

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
    """Give eight easy scenes to learn from, four to be measured on."""
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, 8, 4, 64, 0, 0, EASY)
    return folder


def quick(data, out, *studies, **options):
    """Run a campaign of two steps an arm."""
    return ablate(studies, out=out, data=data, overrides=SMALL, device="cpu", **options)


def counting(monkeypatch):
    """Note every training that is started."""
    started, train = [], campaign.train

    def noted(*arguments, **options):
        started.append(options["out"].name)
        return train(*arguments, **options)

    monkeypatch.setattr(campaign, "train", noted)
    return started


def test_every_arm_of_every_study_is_a_recipe_and_a_model(tmp_path):
    """Nothing that can be named fails after hours; equal recipes share their run."""
    whole = AblationRun(tmp_path, tuple(STUDIES.values()), load_recipe("ablation"), 1)
    folders = [job.folder for s in whole.studies for arm in s.arms for job in whole.jobs(arm)]
    assert len(whole.all_jobs()) == len(set(folders)) == len(folders) - 6
    base = whole.jobs(Arm("the recipe as it is"))[0].folder
    assert folders.count(base) == 7  # an arm of every study
    for study in STUDIES.values():
        assert study.reference in [arm.name for arm in study.arms]


def test_a_campaign_ends_with_a_table_and_a_plot(data, tmp_path, monkeypatch):
    """Each arm once and each seed; a second call trains nothing and says the same."""
    started = counting(monkeypatch)
    done = quick(data, tmp_path, "losses", seeds=2)
    assert len(started) == len(set(started)) == 6
    (table,) = done.tables()
    assert [len(found) for found in table.outcomes] == [2, 2, 2]
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.size[0] > 900
    tree = json.loads((tmp_path / "ablation.json").read_text())
    assert tree["studies"]["losses"]["class + L1"]["published"] == 35.8
    again = quick(data, tmp_path, "losses", seeds=2)
    assert len(started) == 6
    assert again.tables() == done.tables()


def test_a_study_of_ones_own_is_run_like_ours(data, tmp_path):
    """It needs no name that the package knows."""
    mine = Study("mine", "steps", (Arm("a"), Arm("b", ("train.clip_norm=1",))), "a")
    (told,) = quick(data, tmp_path, mine).tables()
    assert told.study is mine
    assert [len(found) for found in told.outcomes] == [1, 1]


def test_queries_that_follow_the_data_do_so_in_every_arm(tmp_path):
    """Spelling out a preset's arguments must not settle their number."""
    study = Study("s", "of a part", (Arm("a"), Arm("b", ("model.num_queries=null",))), "a")
    following, resolve_image_size = (
        AblationRun(tmp_path, (study,), load_recipe("setmatch_n"), 1).jobs(arm)[0].recipe.model
        for arm in study.arms
    )
    assert "num_queries" not in following.arguments
    assert resolve_image_size.arguments["num_queries"] > 0


def test_a_killed_campaign_goes_on_where_it_was(data, tmp_path, monkeypatch):
    """Finished arms stay, the one that was cut short resumes, the rest follows."""
    train = campaign.train
    seen = []

    def dies_at_the_second(*arguments, **options):
        seen.append(options["out"])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(campaign, "train", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        quick(data, tmp_path, "auxiliary")
    assert (seen[0] / RESULT).exists()
    told = quick(data, tmp_path, "auxiliary", report_only=True)
    assert [len(found) for found in told.tables()[0].outcomes] == [1, 0]
    kept = (tmp_path / "ablation.json").read_text()
    others = (*SMALL, "train.lr=0.5")
    with pytest.raises(ConfigError, match="begun with other settings"):
        ablate(["auxiliary"], out=tmp_path, data=data, overrides=others, report_only=True)
    assert (tmp_path / "ablation.json").read_text() == kept, "nothing is written over"
    monkeypatch.setattr(campaign, "train", train)
    started = counting(monkeypatch)
    quick(data, tmp_path, "auxiliary")
    assert started == [seen[1].name]


def test_processes_share_the_runs_and_train_them_alone(data, tmp_path, monkeypatch):
    """Each of two takes every other run; the one that ends last tells the whole table."""
    shares = []
    for rank in (0, 1):

        @contextmanager
        def joined(device, rank=rank):
            yield SimpleNamespace(rank=rank, world=2, first=lambda work: work())

        with monkeypatch.context() as patch:
            patch.setattr(campaign, "processes", joined)
            patch.setenv("RANK", str(rank))
            patch.setenv("WORLD_SIZE", "2")
            started = counting(patch)
            done = quick(data, tmp_path, "auxiliary")
        shares.append(started)
    assert [len(share) for share in shares] == [1, 1]
    assert shares[0] != shares[1]
    assert [len(found) for found in done.tables()[0].outcomes] == [1, 1]


def test_other_settings_are_refused(data, tmp_path):
    """Arms of one campaign differ in what is studied, and in nothing else."""
    quick(data, tmp_path, "auxiliary")
    with pytest.raises(ConfigError, match="begun with other settings"):
        ablate(["ffn"], out=tmp_path, data=data, overrides=(*SMALL, "train.lr=1"), device="cpu")


def test_what_cannot_be_run_is_refused_at_once(data, tmp_path):
    """Unknown studies with the nearest, arguments a model lacks, data without a split."""
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


def test_a_missing_library_is_told_before_the_training(data, tmp_path, monkeypatch):
    """Not after the first arm, when the plot is drawn."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[plots\]"):
        quick(data, tmp_path, "losses")
    assert not (tmp_path / "runs").exists()


def table(**found: list[float]) -> Table:
    """A study of two arms with these APs."""
    study = Study("s", "of something", (Arm("a", (), 30.0), Arm("b", (), 40.0)), "b", "table 9")
    outcomes = tuple(
        tuple(Outcome(ap, ap, seed) for seed, ap in enumerate(found[name])) for name in "ab"
    )
    return Table(study, outcomes)


def test_differences_are_to_the_reference_here_and_there():
    """Means over seeds, in points; the paper's beside them."""
    mine = table(a=[0.1, 0.3], b=[0.5])
    first, second = mine.study.arms
    assert mine.gain(first) == pytest.approx(-30)
    assert mine.gain(second) == 0
    assert mine.published_gain(first) == pytest.approx(-10)
    assert to_json([mine])["s"]["a"]["runs"][1] == {"AP": 0.3, "AP50": 0.3, "seed": 1}


def test_what_has_not_ended_is_not_told(tmp_path):
    """No number stands for a run without a result, in the table or in the plot."""
    from setmatch.ablation.plot import draw_study

    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    half = table(a=[0.25], b=[])
    console.print(half.shown())
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["a", "25.0", "–", "25.0", "–", "30.0", "-10.0"] in lines
    assert ["b", "–", "–", "–", "–", "40.0", "+0.0"] in lines
    draw_study(half, tmp_path / "s.png")
    assert half.begun
    assert not table(a=[], b=[]).begun


def test_a_process_of_several_can_run_alone(monkeypatch):
    """torchrun's names are out of the way inside, and back afterwards."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with alone(), processes("cpu") as runtime:
        assert (runtime.rank, runtime.world) == (0, 1)
    assert torch.distributed.is_initialized() is False
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("1", "2")

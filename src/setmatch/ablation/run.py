"""A campaign: the arms of some studies, each trained as a run of its own, then told in a table.

OUT/runs has a run folder for every recipe and seed, OUT/ablation.json and OUT/STUDY.png what came
out so far. Arms of different studies that come to the same recipe share their run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from setmatch.ablation.plot import draw_study, figure_kind
from setmatch.ablation.studies import STUDIES, Arm, Study, find_study
from setmatch.ablation.tables import Outcome, Table, to_json
from setmatch.config import Recipe, dump_recipe, load_recipe
from setmatch.data.open import require_split
from setmatch.data.synthetic.scenes import EASY, write_scenes
from setmatch.distributed import alone, init_distributed
from setmatch.errors import ConfigError
from setmatch.files import whole_file
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.training.logging.writers import LOG, read_rows
from setmatch.training.schedule import ENDLESS
from setmatch.training.train import train

RECIPE = "ablation"
RESULT = "result.json"
BEGUN = "recipe.yaml"
SCENES, UNSEEN, SCENES_PX, SCENES_SEED = 4000, 300, 64, 0


@dataclass(frozen=True)
class Job:
    """One run: a recipe whose seed counts, and the folder that has its result or will have it."""

    recipe: Recipe
    folder: Path

    def outcome(self) -> Outcome | None:
        """Return what the finished run scored; None while it has not ended."""
        path = self.folder / RESULT
        if not path.exists():
            return None
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(tree["AP"], tree["AP50"], tree["seed"])


@dataclass(frozen=True)
class AblationRun:
    """What was asked for, and where it is."""

    out: Path
    studies: tuple[Study, ...]
    base: Recipe
    seeds: int

    def jobs(self, arm: Arm) -> list[Job]:
        """Return an arm's runs, one for each seed."""
        recipe = _complete(load_recipe(self.base.model_dump(by_alias=True), arm.overrides))
        found = []
        for seed in range(recipe.train.seed, recipe.train.seed + self.seeds):
            settings = recipe.train.model_copy(update={"seed": seed})
            seeded = recipe.model_copy(update={"train": settings})
            name = f"{_digest(recipe)}_seed_{seed}"
            found.append(Job(seeded, self.out / "runs" / name))
        return found

    def all_jobs(self) -> list[Job]:
        """Return every run once, in the order of the studies."""
        jobs = [job for study in self.studies for arm in study.arms for job in self.jobs(arm)]
        return list({job.folder: job for job in jobs}.values())

    def tables(self) -> list[Table]:
        """Return what is known so far, a table for each study."""
        return [
            Table(
                study,
                tuple(
                    tuple(found for job in self.jobs(arm) if (found := job.outcome()))
                    for arm in study.arms
                ),
            )
            for study in self.studies
        ]

    def tell(self) -> None:
        """Write ablation.json, and a plot for each study of which something is known."""
        tables = self.tables()
        with whole_file(self.out / "ablation.json") as aside:
            tree = {"recipe": self.base.model_dump(by_alias=True), "studies": to_json(tables)}
            aside.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        for table in tables:
            if table.begun:
                draw_study(table, self.out / f"{table.study.name}.png")


def ablate(
    studies: Sequence[str | Study],
    *,
    out: str | Path,
    data: str | Path | None = None,
    recipe: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    seeds: int = 1,
    scenes: int = SCENES,
    device: str = "auto",
    format: str | None = None,
    report_only: bool = False,
) -> AblationRun:
    """Train every arm of the studies that has no result yet, and write tables and plots.

    A study is one of ours, by name, or your own; "all" alone means all of ours.
    Each arm is an ordinary run that goes on where it was killed; finished ones are left alone.
    Without `data` the scenes of `write_scenes`, the easy ones, are made in OUT/scenes. Of several
    processes started by torchrun each takes its share of the runs and trains it by itself. With
    `report_only` nothing is trained.
    Raises ConfigError for a study that does not exist or for settings that no longer are what OUT
    began with, DataError for data without a validation split, ExtraMissingError without matplotlib,
    and what training raises.
    """
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds}: at least one run of each arm")
    folder = Path(out)
    asked = dict.fromkeys(STUDIES if tuple(studies) == ("all",) else studies)
    chosen = tuple(each if isinstance(each, Study) else find_study(each) for each in asked)
    if not chosen:
        raise ConfigError("nothing to ablate: name at least one study, or all")
    campaign = AblationRun(folder, chosen, load_recipe(recipe or RECIPE, overrides), seeds)
    figure_kind()  # like the recipes, there before the first hour is spent
    jobs = campaign.all_jobs()
    if report_only:
        _refuse_other_settings(campaign)
    else:
        with init_distributed(device) as runtime:
            source = runtime.first(lambda: _prepare(campaign, data, scenes, format))
            mine = jobs[runtime.rank :: runtime.world]
        with alone():
            for job in mine:
                _run(job, source, device, format)
                campaign.tell()
    campaign.tell()
    return campaign


def _prepare(
    campaign: AblationRun, data: str | Path | None, scenes: int, format: str | None
) -> Path:
    """Make the folder and the scenes; refuse a folder that was begun otherwise."""
    path = campaign.out / "scenes" if data is None else Path(data)
    if data is None and not (path / "annotations" / "val.json").exists():
        write_scenes(path, scenes, UNSEEN, SCENES_PX, SCENES_SEED, 2, EASY)
    require_split(path, "val", format)
    head = f"# setmatch ablate on {path.resolve().name}\n"
    _refuse_other_settings(campaign, head)
    with whole_file(campaign.out / BEGUN) as aside:
        aside.write_text(head + dump_recipe(campaign.base), encoding="utf-8")
    return path


def _refuse_other_settings(campaign: AblationRun, head: str | None = None) -> None:
    """Raise ConfigError where the folder was begun otherwise; without a `head` data may differ."""
    begun = campaign.out / BEGUN
    if not begun.exists():
        return
    text = begun.read_text(encoding="utf-8")
    if text != (head or text.partition("\n")[0] + "\n") + dump_recipe(campaign.base):
        raise ConfigError(
            f"{begun}: this campaign was begun with other settings or data, or by another version "
            "of setmatch, so that its arms could not be compared; use the same, or another folder"
        )


def _run(job: Job, data: Path, device: str, format: str | None) -> None:
    if job.outcome() is not None:
        return
    recipe = job.recipe.model_dump(by_alias=True)
    train(data, out=job.folder, recipe=recipe, resume=True, device=device, format=format)
    rows = [row for row in read_rows(job.folder / LOG, ENDLESS) if row["kind"] == "val"]
    result = {key: rows[-1][key] for key in ("step", "AP", "AP50")}
    with whole_file(job.folder / RESULT) as aside:
        text = json.dumps({**result, "seed": job.recipe.train.seed}, indent=1)
        aside.write_text(text + "\n", encoding="utf-8")


def _complete(recipe: Recipe) -> Recipe:
    """Spell out the preset's arguments, so that equal models are one; refuse those it has not.

    The number of queries stays open where the data is to say it.
    """
    model = recipe.model
    with torch.device("meta"):
        card = build(ModelCard(model.preset, model.arguments, Categories((1,), ("one",)))).card
    arguments = dict(card.arguments)
    if model.num_queries is not None and "num_queries" not in model.arguments:
        del arguments["num_queries"]
    complete = model.model_copy(update={"arguments": arguments})
    return recipe.model_copy(update={"model": complete})


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()[:12]

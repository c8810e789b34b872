"""Ablations: each arm of each study is trained as a run, and the results are tabulated.

OUT/runs has a folder for every recipe and seed. OUT/ablation.json and OUT/STUDY.png hold the
results so far. Arms with equal recipes share their runs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setmatch.ablation.plot import draw_study, figure_class
from setmatch.ablation.studies import STUDIES, Arm, Study, find_study
from setmatch.ablation.tables import Outcome, Table, to_json
from setmatch.config import Recipe
from setmatch.data.open import require_split
from setmatch.data.own_folder import require_own_folder
from setmatch.data.synthetic.scenes import EASY, write_scenes
from setmatch.distributed import init_distributed, single_process
from setmatch.errors import ConfigError
from setmatch.files.reading import read_text
from setmatch.files.writing import write_text
from setmatch.recipe_text import dump_recipe, load_recipe
from setmatch.training.logging.writers import LOG, read_rows
from setmatch.training.recipe_variants import (
    record_start,
    refuse_other_start,
    sketch,
)
from setmatch.training.run_folder import locked_run
from setmatch.training.schedule.schedule import ENDLESS
from setmatch.training.train import train

RECIPE = "ablation"
RESULT = "result.json"
STUDY = "ablation"
SCENES, VALIDATION_SCENES, SCENES_PX, SCENES_SEED = 4000, 300, 64, 0


@dataclass(frozen=True)
class Job:
    """One training run: its recipe, with the seed, and its folder."""

    recipe: Recipe
    folder: Path

    def outcome(self) -> Outcome | None:
        """Return the result of the run; None if it has not finished."""
        path = self.folder / RESULT
        if not path.exists():
            return None
        tree: dict[str, Any] = json.loads(read_text(path))
        return Outcome(tree["AP"], tree["AP50"], tree["seed"])


@dataclass(frozen=True)
class AblationRun:
    """The studies of an ablation, their common recipe, and their output folder."""

    out: Path
    studies: tuple[Study, ...]
    base: Recipe
    seeds: int

    def jobs(self, arm: Arm) -> list[Job]:
        """Return the jobs of an arm, one per seed."""
        recipe = _complete(load_recipe(self.base.model_dump(by_alias=True), arm.overrides))
        jobs = []
        for seed in range(recipe.train.seed, recipe.train.seed + self.seeds):
            settings = recipe.train.model_copy(update={"seed": seed})
            seeded = recipe.model_copy(update={"train": settings})
            name = f"{_digest(recipe)}_seed_{seed}"
            jobs.append(Job(seeded, self.out / "runs" / name))
        return jobs

    def all_jobs(self) -> list[Job]:
        """Return every job once, in the order of the studies."""
        jobs = [job for study in self.studies for arm in study.arms for job in self.jobs(arm)]
        return list({job.folder: job for job in jobs}.values())

    def tables(self) -> list[Table]:
        """Return the results so far, one table per study."""
        return [
            Table(
                study,
                tuple(
                    tuple(outcome for job in self.jobs(arm) if (outcome := job.outcome()))
                    for arm in study.arms
                ),
            )
            for study in self.studies
        ]

    def write_report(self) -> None:
        """Write ablation.json, and a plot for each study that has results."""
        tables = self.tables()
        tree = {"recipe": self.base.model_dump(by_alias=True), "studies": to_json(tables)}
        write_text(self.out / "ablation.json", json.dumps(tree, indent=1) + "\n")
        for table in tables:
            if table.has_results:
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
    boxes: str | None = None,
    report_only: bool = False,
) -> AblationRun:
    """Train every arm of the studies that has no result yet, and write tables and plots.

    A study is a `Study` or the name of a built-in one; "all" alone means all built-in ones.
    Each arm is an ordinary run: interrupted runs are resumed, finished ones are kept. Without
    `data`, easy scenes are generated in OUT/scenes. Several processes of torchrun divide the runs
    among them. With `report_only` nothing is trained.

    Raises ConfigError for an unknown study or if OUT was started with other settings, DataError for
    data without a validation split, ExtraMissingError without matplotlib, and errors of `train`.
    """
    if seeds < 1:
        raise ConfigError(f"seeds = {seeds}: expected 1 or more; each arm needs at least one run")
    folder = Path(out)
    if data is not None:
        require_own_folder(data, folder)
    names = dict.fromkeys(STUDIES if tuple(studies) == ("all",) else studies)
    chosen = tuple(each if isinstance(each, Study) else find_study(each) for each in names)
    if not chosen:
        raise ConfigError("no studies given; name at least one, or all")
    ablation = AblationRun(folder, chosen, load_recipe(recipe or RECIPE, overrides), seeds)
    figure_class()  # fails before the training if matplotlib is missing
    jobs = ablation.all_jobs()
    if report_only:
        refuse_other_start(folder, STUDY, ablation.base)
    else:
        with ExitStack() as stack:
            with init_distributed(device) as runtime:
                # Every run in it has a lock of its own, also those of the other processes.
                stack.enter_context(locked_run(folder, runtime))
                source = runtime.first(lambda: _prepare(ablation, data, scenes, format))
                mine = jobs[runtime.rank :: runtime.world]
            with single_process():
                for job in mine:
                    _run(job, source, device, format, boxes)
                    ablation.write_report()
    ablation.write_report()
    return ablation


def _prepare(
    ablation: AblationRun, data: str | Path | None, scenes: int, format: str | None
) -> Path:
    """Generate scenes if there is no data, and record the settings in the output folder."""
    path = ablation.out / "scenes" if data is None else Path(data)
    if data is None and not (path / "annotations" / "val.json").exists():
        write_scenes(path, scenes, VALIDATION_SCENES, SCENES_PX, SCENES_SEED, 2, EASY)
    require_split(path, "val", format)
    head = f"# setmatch ablate on {path.resolve().name}\n"
    record_start(ablation.out, STUDY, head, ablation.base)
    return path


def _run(job: Job, data: Path, device: str, format: str | None, boxes: str | None) -> None:
    if job.outcome() is not None:
        return
    recipe = job.recipe.model_dump(by_alias=True)
    train(
        data,
        out=job.folder,
        recipe=recipe,
        resume=True,
        device=device,
        format=format,
        boxes=boxes,
    )
    rows = [row for row in read_rows(job.folder / LOG, ENDLESS) if row["kind"] == "val"]
    result = {key: rows[-1][key] for key in ("step", "AP", "AP50")}
    text = json.dumps({**result, "seed": job.recipe.train.seed}, indent=1)
    write_text(job.folder / RESULT, text + "\n")


def _complete(recipe: Recipe) -> Recipe:
    """Return the recipe with all arguments of the preset, so that equal models have equal recipes.

    The number of queries is left out if it follows from the data. Raises ConfigError for unknown
    arguments.
    """
    model = recipe.model
    arguments = dict(sketch(model).card.arguments)
    if model.num_queries is not None and "num_queries" not in model.arguments:
        del arguments["num_queries"]
    complete = model.model_copy(update={"arguments": arguments})
    return recipe.model_copy(update={"model": complete})


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()[:12]

"""Search: trials of recipe settings, one after the other, in a folder that can be taken up again.

OUT/recipe.yaml is the recipe around which is searched, OUT/trials has a run for each trial,
OUT/best.yaml the recipe of the best one, OUT/tune.html a page of all.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from setmatch.config import Recipe
from setmatch.data.audit.checks.checks import require_kept_boxes, require_trainable
from setmatch.data.audit.recommend.image_size import resolve_image_size
from setmatch.data.open import require_split
from setmatch.data.own_folder import require_own_folder
from setmatch.distributed import init_distributed, require_single_process
from setmatch.errors import ConfigError, SetmatchError, TrainingError
from setmatch.files.leftovers import remove_leftovers
from setmatch.files.reading import read_text
from setmatch.html.tables import percent
from setmatch.models.weights.terms import accepting
from setmatch.training.logging.clock import ETA
from setmatch.training.recipe_variants import STARTED_WITH, record_start
from setmatch.training.run_folder import locked_run
from setmatch.training.signals import Stopped
from setmatch.training.start.resolve_recipe import choose_format, choose_recipe, import_own_model
from setmatch.training.start.training_data import open_training_data
from setmatch.tuning import sampler
from setmatch.tuning.default_space import default_space
from setmatch.tuning.page import write_page
from setmatch.tuning.parse import parse_space, value_at
from setmatch.tuning.results import Search
from setmatch.tuning.run_trial import Training, train_trial
from setmatch.tuning.space import Space, Value, keys_of, text_of
from setmatch.tuning.trial import Trial, read_trials, remove_weights, save

HEAD = "# setmatch tune on "
MOST_FAILURES = 5  # in a row: then not their settings are the reason


class SearchStopped(SetmatchError):  # noqa: N818 - the user asked for it; it is not an error
    """A signal stopped a search; `exit_code` is 143 or 130."""

    def __init__(self, stopped: Stopped, trial: Trial, out: Path) -> None:
        self.exit_code = stopped.exit_code
        super().__init__(
            f"stopped in trial {trial.number}; all trials are kept in {out}, and the same command "
            "continues where this one was"
        )


def tune(
    data: str | Path,
    model: str | None = None,
    *,
    out: str | Path,
    trials: int = 20,
    minutes: float | int | None = None,
    searches: Sequence[str] = (),
    epochs: int | None = None,
    weights: str | Path | None = None,
    recipe: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    format: str | None = None,
    boxes: str | None = None,
    accept_license: str | None = None,
) -> Search:
    """Search for the recipe settings with which a model detects best on the validation split.

    `searches` are strings such as "train.lr=1e-5:1e-3:log" (see `setmatch.tuning.parse`); without
    any, learning rates, weight decay, augmentation and image size are searched around the recipe's
    values. The first trial is the recipe as it is. Later ones are proposed from the scores so far
    (PQ, mask AP or AP); one that is worse than the median of the others at an evaluation is ended
    there. `trials` counts all in the folder, of earlier calls too. After `minutes` the trial that
    is being trained is left at its next evaluation. `epochs` is the length of each trial; the other
    arguments are those of `train`, of which each trial is an ordinary run.

    The same call continues where an earlier one was interrupted, in the middle of a trial too, and
    finds the same as without the interruption. A trial that fails is kept with its reason. Weights
    of the best trial alone are kept.

    Raises ConfigError for searches, settings and folders that do not fit, DataError for data
    without a validation split, TrainingError if no trial can be trained, ExtraMissingError without
    optuna, and SearchStopped, with `exit_code` 143 or 130, after SIGTERM or Ctrl-C.
    """
    sampler.require_optuna()
    require_single_process("a search trains one trial after the other")
    for name, number in (("trials", trials), ("minutes", minutes)):
        if number is not None and not number > 0:
            raise ConfigError(f"--{name} {number:g}: expected a number above 0")
    began_s, folder = time.monotonic(), Path(out)
    require_own_folder(data, folder)
    length = () if epochs is None else (f"train.epochs={epochs}", "train.minutes=0")
    fixed = (*overrides, *length)
    import_own_model(model, overrides)
    base = _base(choose_recipe(model, weights, recipe, fixed, None), weights)
    with (
        accepting(accept_license),
        init_distributed(device) as runtime,
        locked_run(folder, runtime),
    ):
        format = choose_format(data, base, format, None)
        require_split(Path(data), "val", format)
        resolved = _resolved(base, data, format, boxes)
        space = parse_space(searches, fixed, base, default_space(base, resolved.data))
        title = Path(data).resolve().name
        _open_folder(folder, f"{HEAD}{title}\n", space, base)
        search = Search(folder, title, space, base, tuple(read_trials(folder)))
        end_s = float("inf") if minutes is None else began_s + 60 * minutes
        training = Training(str(data), device, format, boxes, end_s)
        return _run(search, trials, training, _start(space, resolved))


def _base(recipe: Recipe, weights: str | Path | None) -> Recipe:
    """Return the recipe that names its weights, so that the best one needs no other option."""
    if weights is None:
        return recipe
    model = recipe.model.model_copy(update={"init_weights": str(weights)})
    return recipe.model_copy(update={"model": model})


def _resolved(recipe: Recipe, data: str | Path, format: str | None, boxes: str | None) -> Recipe:
    """Return the recipe with the image size that "auto" means for this data."""
    splits = open_training_data(data, format, boxes, things_only=recipe.data.things_only)
    require_trainable(splits.training)
    require_kept_boxes(splits.training)
    return recipe.model_copy(update={"data": resolve_image_size(recipe.data, splits.training)})


def _start(space: Space, recipe: Recipe) -> dict[str, Value]:
    """Return the recipe's own values, for the first trial."""
    values = {name: [value_at(recipe, key) for key in keys_of(name)] for name in space}
    return {name: each[0] for name, each in values.items() if all(v == each[0] for v in each)}


def _open_folder(folder: Path, head: str, space: Space, base: Recipe) -> None:
    """Write what is searched; raise ConfigError if the folder holds something else."""
    remove_leftovers(folder)
    started = folder / STARTED_WITH
    is_ours = started.is_file() and read_text(started, errors="replace").startswith(HEAD)
    if not is_ours and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ConfigError(f"{folder}: holds other files, and no search; name a new folder")
    head += "".join(f"# {name}: {searched}\n" for name, searched in space.items())
    record_start(folder, "search", head, base)


def _run(search: Search, wanted: int, training: Training, start: dict[str, Value]) -> Search:
    """Train trials until there are as many as wanted, or the time is over."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    eta, failures = ETA(), 0
    eta.left_s(len(search.over) / wanted)
    while len(search.over) < wanted and time.monotonic() < training.end_s:
        trial = next((each for each in search.trials if not each.is_over), None)
        if trial is None:
            values = sampler.propose(search.space, search.over, start)
            if values is None:
                console.print("every combination of the values has been tried", markup=False)
                break
            trial = Trial(1 + max((each.number for each in search.trials), default=0), values)
            search = _with(search, trial)
            save(search.out, trial)
        console.print(
            f"trial {trial.number} of {wanted}: {_values(trial)}", style="bold", markup=False
        )
        try:
            trial = train_trial(search, trial, training)
        except Stopped as stopped:
            _write(_with(search, *read_trials(search.out)))
            raise SearchStopped(stopped, trial, search.out) from None
        search = _with(search, trial)
        _write(search)
        left_s = eta.left_s(len(search.over) / wanted)
        console.print(_progress(search, trial, left_s, training.end_s), style="bold", markup=False)
        failures = failures + 1 if trial.state == "failed" else 0
        if failures == MOST_FAILURES:
            raise TrainingError(
                f"the last {failures} trials failed; trial {trial.number}: {trial.reason}"
            )
        if not trial.is_over:
            break
    _write(search)
    return search


def _with(search: Search, *trials: Trial) -> Search:
    """Return the search with trials added, or in place of those of their numbers."""
    known = {each.number: each for each in (*search.trials, *trials)}
    return replace(search, trials=tuple(known[number] for number in sorted(known)))


def _write(search: Search) -> None:
    """Write the page and the best recipe, then remove weights that are worse."""
    search.write_best_recipe()
    write_page(search)
    remove_weights(search.out, search.trials)


def _values(trial: Trial) -> str:
    return ", ".join(f"{name}={text_of(value)}" for name, value in trial.values.items())


def _progress(search: Search, trial: Trial, left_s: float | None, end_s: float) -> str:
    """Return how a trial went, the best one so far, and the time left, in a line."""
    score = "" if trial.score is None else f", {trial.measure} {percent(trial.score)}"
    reason = f" ({trial.reason})" if trial.reason else ""
    best = search.best
    known = (
        "none is complete yet"
        if best is None
        else (f"best so far: trial {best.number}, {best.measure} {percent(best.score)}")
    )
    time_left_s = min(end_s - time.monotonic(), float("inf") if left_s is None else left_s)
    left = f"; about {time_left_s / 60:.1f} min left" if 0 < time_left_s < float("inf") else ""
    return f"trial {trial.number} {trial.state}{score}{reason}; {known}{left}"

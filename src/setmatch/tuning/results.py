"""A search on disk: what was searched, and the trials so far."""

from dataclasses import dataclass
from pathlib import Path

from setmatch.config import Recipe
from setmatch.files.writing import write_text
from setmatch.html.tables import percent
from setmatch.recipe_text import dump_recipe, load_recipe
from setmatch.training.checkpoints.best import Run
from setmatch.tuning.space import Space, overrides_of
from setmatch.tuning.trial import Trial, best_of, folder_of

BEST_RECIPE, PAGE = "best.yaml", "tune.html"


@dataclass(frozen=True)
class Search:
    """A search: its folder, what was searched, the recipe around it, and its trials by number."""

    out: Path
    data: str  # name of the data set
    space: Space
    base: Recipe
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score; None if no trial is complete."""
        return best_of(self.trials)

    @property
    def best_run(self) -> Run | None:
        """The run of the best trial, with its model."""
        return None if self.best is None else Run(folder_of(self.out, self.best.number))

    @property
    def over(self) -> tuple[Trial, ...]:
        """The trials that are complete, pruned or failed."""
        return tuple(trial for trial in self.trials if trial.is_over)

    def summary(self) -> str:
        """Return where the results are, in a line."""
        if self.best is None:
            return f"no trial is complete; the page is {self.out / PAGE}"
        best, folder = self.best, folder_of(self.out, self.best.number)
        return (
            f"best: trial {best.number}, {best.measure} {percent(best.score)}; recipe: "
            f"{self.out / BEST_RECIPE}; model: {folder}; page: {self.out / PAGE}"
        )

    def recipe(self, trial: Trial) -> Recipe:
        """Return the complete recipe of a trial."""
        tree = self.base.model_dump(by_alias=True, exclude_none=True)
        return load_recipe(tree, overrides_of(trial.values))

    def write_best_recipe(self) -> None:
        """Write the recipe of the best trial, for `setmatch train --recipe`."""
        if self.best is not None:
            head = f"# The best of {len(self.over)} trials of setmatch tune on {self.data}: "
            text = f"{self.best.measure} {percent(self.best.score)}, trial {self.best.number}.\n"
            write_text(self.out / BEST_RECIPE, head + text + dump_recipe(self.recipe(self.best)))

"""A trial: values of the searched settings, and how the run that was trained with them went.

Each is a run in OUT/trials/NUMBER, with TRIAL beside its log. A trial without an end there was
interrupted: its run continues from its checkpoint, with the same values.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from setmatch.errors import ConfigError
from setmatch.files.reading import read_text
from setmatch.files.writing import remove_whole, write_text
from setmatch.training.checkpoints.best import BEST
from setmatch.training.checkpoints.checkpoint import CHECKPOINTS
from setmatch.training.stages import boxes_run
from setmatch.tuning.space import Values

TRIALS, TRIAL = "trials", "trial.json"
State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial, and its scores on the validation split, 0..1.

    `steps` are those of its evaluations, and `scores` the best score until each. `reason` says why
    a trial was pruned or failed, `starts` after how many steps its training started each time.
    """

    number: int  # from 1 on
    values: Values
    state: State = "running"
    steps: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    measure: str = "AP"
    reason: str = ""
    seconds: float = 0.0
    starts: tuple[int, ...] = ()

    @property
    def score(self) -> float | None:
        """The best score; None if nothing was evaluated."""
        return self.scores[-1] if self.scores else None

    @property
    def is_over(self) -> bool:
        """True if it is complete, pruned or failed."""
        return self.state != "running"

    def started(self, first_step: int) -> "Trial":
        """Return the trial whose training starts again; evaluations after `first_step` go."""
        kept = sum(step <= first_step for step in self.steps)
        return replace(
            self,
            steps=self.steps[:kept],
            scores=self.scores[:kept],
            starts=(*self.starts, first_step),
        )

    def evaluated(self, step: int, measure: str, score: float) -> "Trial":
        """Return the trial after an evaluation, whose best score until now is `score`."""
        return replace(
            self, steps=(*self.steps, step), scores=(*self.scores, score), measure=measure
        )


def folder_of(out: Path, number: int) -> Path:
    """Return the folder of the run of a trial."""
    return out / TRIALS / f"{number:03}"


def save(out: Path, trial: Trial) -> None:
    """Write a trial, whole or not at all."""
    write_text(folder_of(out, trial.number) / TRIAL, json.dumps(asdict(trial), indent=1) + "\n")


def read_trials(out: Path) -> list[Trial]:
    """Return the trials of a search, by number; raise ConfigError for a damaged one."""
    return [_read(path) for path in sorted((out / TRIALS).glob(f"[0-9]*/{TRIAL}"))]


def _read(path: Path) -> Trial:
    try:
        tree = json.loads(read_text(path))
        tuples = {name: tuple(tree[name]) for name in ("steps", "scores", "starts")}
        return Trial(**{**tree, **tuples, "number": int(path.parent.name)})
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{path}: is damaged; remove {path.parent}, and the search continues without this trial"
        ) from None


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the highest score, the first of equal ones; None without a score."""
    scored = [trial for trial in trials if trial.state == "complete" and trial.scores]
    return max(scored, key=lambda trial: (trial.scores[-1], -trial.number), default=None)


def remove_weights(out: Path, trials: Sequence[Trial]) -> None:
    """Remove checkpoints of trials that are over, and the weights of all but the best one."""
    best = best_of(trials)
    for trial in trials:
        folder = folder_of(out, trial.number)
        names = [CHECKPOINTS] if trial == best else [CHECKPOINTS, BEST]
        for path in (each / name for each in (folder, boxes_run(folder)) for name in names):
            if trial.is_over and path.is_dir() and not path.is_symlink():
                remove_whole(path)

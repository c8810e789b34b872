"""Early stopping: a run ends once evaluations no longer find better weights."""

from dataclasses import dataclass, replace

from setmatch.training.checkpoints.best import Run


@dataclass(frozen=True)
class Plateau:
    """The steps that were evaluated, and the one with the best weights.

    Both are on disk, in the log and beside the best weights, so a resumed run knows them, too. An
    evaluation as good as the best one counts as better: a model that has not learned anything yet
    has no plateau.
    """

    patience: int  # evaluations; 0 never ends a run
    evaluated_steps: tuple[int, ...] = ()
    best_step: int = -1

    def add(self, step: int, best_step: int) -> "Plateau":
        """Return the plateau after an evaluation at `step`."""
        return replace(self, evaluated_steps=(*self.evaluated_steps, step), best_step=best_step)

    @property
    def is_reached(self) -> bool:
        """True if the last `patience` evaluations were worse than the best one."""
        worse = sum(step > self.best_step for step in self.evaluated_steps)
        return 0 < self.patience <= worse

    def sentence(self) -> str:
        """Return why the run ends."""
        return (
            f"none of the last {self.patience} evaluations was as good as that "
            f"after step {self.best_step} (train.patience = {self.patience})"
        )


def saved_best_step(run: Run) -> int:
    """Return the step of the best weights of a run; -1 if there are none."""
    best = run.best
    return -1 if best is None else int(best["step"])

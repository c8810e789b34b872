"""A training that takes no time: its scores follow from its recipe, and it may be interrupted."""

import json
import math

from setmatch.files.manifest import write_whole
from setmatch.recipe_text import load_recipe
from setmatch.training.callbacks import CallbackList, StartedRun
from setmatch.training.checkpoints.best import BEST, METRICS, Run
from setmatch.training.checkpoints.checkpoint import CHECKPOINTS
from setmatch.training.start.resolve_recipe import RECIPE


def near_a_hundredth(recipe, step):
    """A score that is highest for a rate of 0.01, and grows with the steps."""
    return (1 - abs(math.log10(recipe.train.lr) + 2) / 4) * step / (step + 1)


class Simulation:
    """Takes the place of `train`: an evaluation and a checkpoint after each of some steps.

    `score` gives the AP after a step, and `before` is called at each step, to fail there.
    """

    def __init__(self, score, before=None, steps=4):
        self.score, self.steps = score, steps
        self.before = before or (lambda run, recipe, step: None)
        self.trained = []  # (name of the run, step)

    def __call__(self, data, *, out, recipe, resume, callbacks, **options):
        assert resume
        settings = load_recipe(recipe)
        saved = out / CHECKPOINTS / "step"
        first = int(saved.read_text()) if saved.exists() else 0
        listeners = CallbackList(callbacks)
        out.mkdir(parents=True, exist_ok=True)
        (out / RECIPE).write_text("")
        with listeners:
            listeners.start(StartedRun(out, recipe, first))
            for step in range(first + 1, self.steps + 1):
                self.before(out.name, settings, step)
                self.trained.append((out.name, step))
                saved.parent.mkdir(exist_ok=True)
                saved.write_text(str(step))
                self._keep_best(out, settings, step)
                listeners.write({"kind": "val", "step": step})
                if listeners.reason_to_end is not None:
                    listeners.end("done" if step == self.steps else "stopped early")
                    return
            listeners.end("done")

    def _keep_best(self, out, settings, step):
        best, ap = Run(out).best, self.score(settings, step)
        if best is None or ap >= best["AP"]:
            text = json.dumps({"AP": ap, "step": step})
            write_whole(out / BEST, lambda folder: (folder / METRICS).write_text(text), {})

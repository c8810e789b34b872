"""`setmatch tune`: search for the recipe settings that detect best."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setmatch.cli.options import Boxes, Data, Device, Format, Settings, TrainedModel, Weights

Searches = Annotated[
    tuple[str, ...],
    Parameter(name="--search", negative="", show_default=False),
]


def tune(
    data: Data,
    /,
    *,
    out: Path,
    model: TrainedModel = None,
    trials: int = 20,
    minutes: float | None = None,
    search: Searches = (),
    epochs: int | None = None,
    weights: Weights = None,
    recipe: str | None = None,
    set_: Settings = (),
    device: Device = "auto",
    format: Format = None,
    boxes: Boxes = None,
) -> None:
    """Search for the recipe settings with which a model detects best on the validation split.

    For example:

        setmatch tune data/ --model setmatch_n --trials 20 --out search
        setmatch tune data/ --out rates --epochs 20 --search train.lr=1e-4:1e-2:log
        setmatch tune data/ --out more --search default --search data.mosaic=0:0.5

    Each trial trains a model with other settings; one that falls behind the others is ended early.
    Run the same command again to continue after an interruption, or with more --trials. The best
    recipe is written to best.yaml in --out, for setmatch train --recipe, and a page to tune.html.

    Parameters
    ----------
    out
        Folder for the search: a run for each trial, best.yaml and tune.html.
    trials
        Number of trials, with those that are in --out already.
    minutes
        Stop after this many minutes; a trial that is being trained is left at its next evaluation.
    search
        What to search: SETTING=LOW:HIGH, with :log for factors or :STEP for whole numbers, or
        SETTING=VALUE,VALUE,... SETTING+SETTING shares a value. Repeatable. Without it, learning
        rates, weight decay, augmentation and image size around the recipe's values; "default" adds
        these to others.
    epochs
        Train each trial for this many epochs. Defaults to what the recipe says.
    recipe
        Recipe to search around: a YAML file, or the name of a recipe that comes with setmatch.
    """
    from setmatch.tuning.search import tune

    done = tune(
        data,
        model,
        out=out,
        trials=trials,
        minutes=minutes,
        searches=search,
        epochs=epochs,
        weights=weights,
        recipe=recipe,
        overrides=set_,
        device=device,
        format=format,
        boxes=boxes,
    )
    print(done.summary())

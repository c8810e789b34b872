"""Effect of the moving average: both weights are evaluated at every checkpoint of a run.

Two runs, with and without an average, differ by chance more than by its effect. The average does
not influence training, so one run provides both.

    setmatch train DATA --out RUN --set train.checkpoint_every=100 --set train.keep_checkpoints=1000
    python benchmarks/averages.py RUN --data DATA
"""

import argparse
from pathlib import Path

import torch

import setmatch as sm
from setmatch.models.detector import Detector
from setmatch.training.checkpoints.checkpoint import PREFIX
from setmatch.training.checkpoints.state import TRAINER
from timing import publish


def evaluated(model: Detector, data: Path) -> dict[str, float]:
    report = sm.evaluate(model, data, workers=0)
    return {"AP": report.AP, "AP50": report.AP50}


def compared(checkpoint: Path, data: Path) -> dict[str, object]:
    """Return the results of the average and of the weights themselves after the same step."""
    model = sm.load(checkpoint)
    average = evaluated(model, data)
    trainer = torch.load(checkpoint / TRAINER, weights_only=True)
    model.load_state_dict(trainer["model"])
    step = int(checkpoint.name.removeprefix(PREFIX))
    return {"step": step, "average": average, "itself": evaluated(model, data)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="runs with all their checkpoints")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {
        run.name: [compared(each, options.data) for each in sorted(run.glob("checkpoints/step_*"))]
        for run in options.runs
    }
    publish("the average of the weights beside the weights", {"runs": results}, options.json)


if __name__ == "__main__":
    main()

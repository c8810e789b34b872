"""What the average of the weights adds: both are asked at every checkpoint of the same runs.

Training another run without the average compares two runs, which differ by chance more than by
what an average can do. The average changes nothing of a run, so that one run has both.

    python benchmarks/contestants/cpu_clock.py benchmarks/averages.py OUT --data FOLDER
"""

import argparse
from pathlib import Path

import torch

import setmatch as sm
from setmatch.models.detector import Detector
from timing import publish

PER_RUN = 8  # checkpoints, about
USUAL_STEPS = 100  # a minute on one thread


def asked(model: Detector, data: Path) -> dict[str, float]:
    report = sm.evaluate(model, data, workers=0)
    return {"AP": report.AP, "AP50": report.AP50}


def compared(checkpoint: Path, data: Path) -> dict[str, object]:
    """Return what the average and the weights themselves score after the same step."""
    model = sm.load(checkpoint)
    average = asked(model, data)
    trainer = torch.load(checkpoint / "trainer.pt", weights_only=True)
    model.load_state_dict(trainer["model"])
    return {"step": int(checkpoint.name[5:]), "average": average, "itself": asked(model, data)}


def measured(data: Path, options: argparse.Namespace, seed: int) -> list[dict[str, object]]:
    """Train one run, with all its checkpoints kept, and compare at each of them."""
    apart = max(1, round(USUAL_STEPS * options.minutes / PER_RUN))
    run = options.out / f"seed_{seed}"
    sm.train(
        data,
        "setmatch_n",
        out=run,
        weights="none",
        overrides=[
            *("data.workers=0", f"train.seed={seed}"),
            *(f"train.checkpoint_every={apart}", "train.keep_checkpoints=1000"),
        ],
        minutes=options.minutes,
        resume=True,
    )
    kept = sorted((run / "checkpoints").glob("step_*"))
    return [compared(checkpoint, data) for checkpoint in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="*", default=[42])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {str(seed): measured(options.data, options, seed) for seed in options.seeds}
    publish("the average of the weights beside the weights", {"seeds": results}, options.json)


if __name__ == "__main__":
    main()

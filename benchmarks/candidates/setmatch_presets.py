"""Candidates trained by `setmatch train`: the setmatch family, a small DETR, baselines.

Their time includes the evaluations during training, planned to take at most 3% of it. The results
of these evaluations are in the run's log.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from candidates.experiment import Experiment, Result, ValPoint, evaluate_detections


@dataclass(frozen=True)
class SetmatchPreset:
    """A preset with changes to its recipe.

    `sized`: use the experiment's image size. Otherwise the recipe's size is used, if the
    experiment allows it.
    """

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    sized: bool = True

    def command(self, experiment: Experiment, folder: Path) -> list[str]:
        """Return the `setmatch train` command: random weights, a time budget, a single process."""
        sides = (
            f"data.short_side_px={experiment.side_px}",
            f"data.long_side_px={2 * experiment.side_px}",
        )
        settings = (
            *(sides if self.sized or experiment.exact else ()),
            *self.overrides,
            "data.workers=0",
            f"train.seed={experiment.seed}",
        )
        options = [part for setting in settings for part in ("--set", setting)]
        program = [
            "-m",
            "setmatch",
            "train",
            str(experiment.data),
            *options,
            "--out",
            str(folder / "run"),
        ]
        program += [
            "--model",
            self.preset,
            "--weights",
            "none",
            "--minutes",
            f"{experiment.minutes:g}",
        ]
        # Starts the run or resumes it; a resumed run keeps its time budget.
        return experiment.clocked(Path(sys.executable), [*program, "--resume"])

    def evaluate(self, experiment: Experiment, folder: Path) -> Result:
        """Read the evaluations in the log, and evaluate the best weights on the test split."""
        rows = [json.loads(line) for line in (folder / "run" / "log.jsonl").open()]
        val = tuple(
            ValPoint(row["seconds"] / 60, row["AP"], row["AP50"])
            for row in rows
            if row["kind"] == "val"
        )
        test: dict[str, float] = {}
        if experiment.test:
            detections = folder / "test.json"
            command = [sys.executable, "-m", "setmatch", "evaluate", str(folder / "run")]
            command += [str(experiment.data), "--split", "test", "--workers", "0", "--detections"]
            subprocess.run([*command, str(detections)], check=True, stdout=subprocess.DEVNULL)
            test = evaluate_detections(detections, experiment, "test")
        about = {"recipe": self.preset, "changed": list(self.overrides)}
        steps = max(row["step"] for row in rows)
        return Result(val, test, steps, about)


def _rates(preset: str, rates: tuple[str, ...], *overrides: str) -> tuple[SetmatchPreset, ...]:
    return tuple(
        SetmatchPreset(
            f"{preset}@{rate}",
            preset,
            (f"train.lr={rate}", f"train.backbone_lr={rate}", *overrides),
        )
        for rate in rates
    )


# Faster R-CNN trains its batch norms, as torchvision does without pretrained weights, and has small
# batches to take enough steps. The baselines have a moving average, too.
_BASELINE = ("data.augment=small", "train.schedule=cosine", "train.ema_decay=0.998")
SETMATCH_PRESETS = (
    SetmatchPreset("setmatch_n", "setmatch_n", sized=False),
    *_rates("detr_r18_tiny", ("1e-4", "5e-4", "1e-3")),
    *_rates(
        "fasterrcnn_r50_fpn",
        ("1e-4", "3e-4"),
        "model.arguments.batch_norm=live",
        "model.arguments.smallest_anchor_px=16",
        "train.batch_size=4",
        "train.micro_batch=4",
        *_BASELINE,
    ),
    *_rates(
        "ssdlite_mobilenet_v3",
        ("5e-4", "2e-3"),
        "train.batch_size=16",
        "train.micro_batch=16",
        "train.clip_norm=10",
        *_BASELINE,
    ),
)

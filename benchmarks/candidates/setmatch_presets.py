"""Contestants trained by `setmatch train`: the setmatch family, a small DETR, baselines.

Their time includes the evaluations during training, planned to take at most 3% of it. The results
of these evaluations are in the run's log.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from contestants.track import Finish, Mark, Track, scored


@dataclass(frozen=True)
class Ours:
    """A preset with changes to its recipe.

    `sized`: use the track's image size. Otherwise the recipe's size is used if the track allows it.
    """

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    sized: bool = True

    def command(self, track: Track, folder: Path) -> list[str]:
        """Return the `setmatch train` command: random weights, a time budget, a single process."""
        sides = (f"data.short_side_px={track.side_px}", f"data.long_side_px={2 * track.side_px}")
        settings = (
            *(sides if self.sized or track.exact else ()),
            *self.overrides,
            "data.workers=0",
            f"train.seed={track.seed}",
        )
        given = [part for setting in settings for part in ("--set", setting)]
        program = ["-m", "setmatch", "train", str(track.data), *given, "--out", str(folder / "run")]
        program += ["--model", self.preset, "--weights", "none", "--minutes", f"{track.minutes:g}"]
        # Starts the run or resumes it; a resumed run keeps its time budget.
        return track.clocked(Path(sys.executable), [*program, "--resume"])

    def finish(self, track: Track, folder: Path) -> Finish:
        """Read the evaluations in the log, and evaluate the best weights on the test split."""
        rows = [json.loads(line) for line in (folder / "run" / "log.jsonl").open()]
        marks = tuple(
            Mark(row["seconds"] / 60, row["AP"], row["AP50"])
            for row in rows
            if row["kind"] == "val"
        )
        test: dict[str, float] = {}
        if track.test:
            detections = folder / "test.json"
            command = [sys.executable, "-m", "setmatch", "evaluate", str(folder / "run")]
            command += [str(track.data), "--split", "test", "--workers", "0", "--detections"]
            subprocess.run([*command, str(detections)], check=True, stdout=subprocess.DEVNULL)
            test = scored(detections, track, "test")
        about = {"recipe": self.preset, "changed": list(self.overrides)}
        steps = max(row["step"] for row in rows)
        return Finish(marks, test, steps, about)


def _rates(preset: str, rates: tuple[str, ...], *overrides: str) -> tuple[Ours, ...]:
    return tuple(
        Ours(
            f"{preset}@{rate}",
            preset,
            (f"train.lr={rate}", f"train.backbone_lr={rate}", *overrides),
        )
        for rate in rates
    )


# Faster R-CNN trains its batch norms, as torchvision does without pretrained weights, and has small
# batches to take enough steps. The baselines have a moving average, too.
_BASELINE = ("data.augment=small", "train.schedule=cosine", "train.ema_decay=0.998")
OURS = (
    Ours("setmatch_n", "setmatch_n", sized=False),
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

"""Contestants that `setmatch train` trains: the family, the published method made small, baselines.

Their clock holds the evaluations on the way too, which take 3% of it at most as far as the run can
know before; what they score on the way is in the run's own log.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from contestants.track import Finish, Mark, Track, scored


@dataclass(frozen=True)
class Ours:
    """A preset, with what differs from the recipe that it brings.

    `sized` says that it takes the track's size of pictures; else its recipe's, if that can be.
    """

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    sized: bool = True

    def command(self, track: Track, folder: Path) -> list[str]:
        """Return `setmatch train`, from random weights, by the clock, in a single process."""
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
        # Without a checkpoint it begins; a run that was killed keeps its budget.
        return track.clocked(Path(sys.executable), [*program, "--resume"])

    def finish(self, track: Track, folder: Path) -> Finish:
        """Read the log's evaluations; ask the best weights about the test split."""
        rows = [json.loads(line) for line in (folder / "run" / "log.jsonl").open()]
        marks = tuple(
            Mark(row["seconds"] / 60, row["AP"], row["AP50"])
            for row in rows
            if row["kind"] == "val"
        )
        test: dict[str, float] = {}
        if track.test:
            found = folder / "test.json"
            infer = [sys.executable, "-m", "setmatch", "evaluate", str(folder / "run")]
            infer += [str(track.data), "--split", "test", "--workers", "0", "--detections"]
            subprocess.run([*infer, str(found)], check=True, stdout=subprocess.DEVNULL)
            test = scored(found, track, "test")
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


# Faster R-CNN has live norms, as torchvision itself chooses without weights, and batches that are
# small enough for more than a handful of steps; the baselines learn with an average, too.
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

"""Runs that fine-tune a small model of any family; processes that import no tests run them, too."""

import sys
from pathlib import Path

from tiny_runs import start_rank

from setmatch.training.train import train

SETTINGS = (
    *("data.short_side_px=64", "data.long_side_px=96", "data.workers=0", "data.augment=flip"),
    *("train.batch_size=4", "train.micro_batch=2", "train.warmup_steps=1"),
    *("train.evaluate_every=1", "train.checkpoint_every=1", "train.log_every=1"),
    "train.precision=float32",
)


def tune(data: Path, start: Path, out: Path, *overrides: str, resume: bool = False) -> Path:
    run = train(
        data,
        out=out,
        weights=start,
        overrides=(*SETTINGS, *overrides),
        epochs=2,
        resume=resume,
        device="cpu",
    )
    return run.folder


def main_rank(
    out: Path, data: Path, overrides: tuple[str, ...], environment: dict[str, str], log: Path
) -> None:
    """Run one process of a run that fine-tunes the model beside it."""
    start_rank(environment, log)
    tune(data, out.parent / "start", out, *overrides)
    sys.exit(0)

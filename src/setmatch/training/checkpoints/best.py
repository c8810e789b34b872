"""RUN/best: the weights with the highest score on the validation split, and their metrics."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from setmatch.files.manifest import DamagedError, read_manifest, write_whole
from setmatch.files.reading import read_text
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.training.start.own_model import OwnModel, filled_copy

BEST, METRICS = "best", "metrics.json"


@dataclass(frozen=True)
class Run:
    """A run on disk: its folder, its best model, and the metrics of that model."""

    folder: Path
    own_model: OwnModel | None = None  # the user's own, which no preset builds

    @cached_property
    def model(self) -> Detector:
        """The best model by PQ, mask AP or box AP; the newest if nothing was evaluated.

        It is loaded once: every access returns the same detector.
        """
        if self.own_model is not None:
            return filled_copy(self.own_model, self.folder)
        return weights.load(self.folder)

    @property
    def best(self) -> dict[str, Any] | None:
        """The metrics of the best model, and its step; None if nothing was evaluated.

        Damaged best weights cause a warning and count as none.
        """
        folder = self.folder / BEST
        if not folder.exists():
            return None
        try:
            read_manifest(folder)
        except DamagedError as error:
            warnings.warn(
                f"the best weights are damaged and will be replaced: {error}", stacklevel=2
            )
            return None
        metrics: dict[str, Any] = json.loads(read_text(folder / METRICS))
        return metrics


def keep_if_best(run: Path, detector: Detector, metrics: Mapping[str, Any], steps: int) -> int:
    """Replace RUN/best by this detector, unless the weights there have a higher score.

    Returns the step of the best weights.

    The score is PQ if there are stuff classes, mask AP if there are masks of things only, else box
    AP. The newer of two equal scores is kept. Raises TrainingError if it cannot be written.
    """
    best = Run(run).best
    if best is not None and measure_of(metrics)[1] < measure_of(best)[1]:
        return int(best["step"])

    def fill(folder: Path) -> None:
        weights.save(detector, folder, thresholds=metrics.get("thresholds"))
        text = json.dumps({**metrics, "step": steps}, indent=1)
        (folder / METRICS).write_text(text, encoding="utf-8")

    write_whole(run / BEST, fill, {"step": steps})
    return steps


def measure_of(metrics: Mapping[str, Any]) -> tuple[str, float]:
    """Return by what the best weights are chosen, and its value: PQ, mask AP or AP, 0..1.

    The value is -1 if the split has no objects.
    """
    if "panoptic" in metrics and (
        metrics["panoptic"]["stuff"]["classes"] or "masks" not in metrics
    ):
        return "PQ", float(metrics["panoptic"]["all"]["PQ"])
    name, score = (
        ("mask AP", metrics["masks"]["AP"]) if "masks" in metrics else ("AP", metrics["AP"])
    )
    return name, -1.0 if score is None else float(score)

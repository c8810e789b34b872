"""RUN/best: the weights that scored highest on the validation split, with what they scored."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.training.checkpoints.manifest import DamagedError, read_manifest, write_whole

BEST, METRICS = "best", "metrics.json"


@dataclass(frozen=True)
class Run:
    """A run on disk: its folder, its best model, and what that scored."""

    folder: Path

    @property
    def model(self) -> Detector:
        """The best model by PQ or mask AP, by AP where it has no masks; else the newest."""
        return weights.load(self.folder)

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation of the best detector, and its step; None where nothing was evaluated.

        A damaged one counts as none, and is named in a warning.
        """
        folder = self.folder / BEST
        if not folder.exists():
            return None
        try:
            read_manifest(folder)
        except DamagedError as error:
            warnings.warn(f"damaged best weights, to be replaced: {error}", stacklevel=2)
            return None
        metrics: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return metrics


def keep_if_best(run: Path, detector: Detector, metrics: Mapping[str, Any], steps: int) -> None:
    """Replace RUN/best whole by this detector, unless what is there scored higher.

    Panoptic quality counts where there is stuff, mask AP where there are things alone, else AP. Of
    equals the newest is kept: while a mask head is trained, the boxes stay as they are.
    Raises TrainingError when it cannot be written.
    """
    best = Run(run).best
    if best is not None and _score(metrics) < _score(best):
        return

    def fill(folder: Path) -> None:
        weights.save(detector, folder)
        text = json.dumps({**metrics, "step": steps}, indent=1)
        (folder / METRICS).write_text(text, encoding="utf-8")

    write_whole(run / BEST, fill, {"step": steps})


def _score(metrics: Mapping[str, Any]) -> float:
    """Return PQ where there is stuff, else mask AP, else the AP of boxes."""
    if "panoptic" in metrics and (
        metrics["panoptic"]["stuff"]["classes"] or "masks" not in metrics
    ):
        return float(metrics["panoptic"]["all"]["PQ"])
    return float(metrics["masks"]["AP"] if "masks" in metrics else metrics["AP"])

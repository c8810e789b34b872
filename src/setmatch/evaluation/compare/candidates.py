"""What can be compared: a trained model, a preset with random weights, or saved detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.models.detector import Detector
from setmatch.models.load import load
from setmatch.models.registry import MODELS, PUBLISHED, build
from setmatch.models.weights.coco_classes import COCO_CLASSES
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

RANDOM = "random:"
UNTRAINED = "random weights: speed only"
SAVED = "saved detections: no model to time"
UNFINISHED = "newest checkpoint of a run without an evaluation"


@dataclass(frozen=True)
class Candidate:
    """One row to be: a model, or the file that another program has written; `note` says which."""

    name: str
    model: Detector | None
    detections: Path | None
    note: str = ""

    @property
    def trained(self) -> bool:
        """True when its answers mean something."""
        return self.note != UNTRAINED


def find_candidates(
    sources: Sequence[str], categories: Categories | None, preprocessing: Preprocessing
) -> list[Candidate]:
    """Say what each source is, and load it.

    A source is a run folder, a file or folder of weights, a published name or hub repository; a
    JSON file of COCO results; or a preset, which gets random weights: always when it is written
    random:NAME, else when nothing is published under its name. `categories` and `preprocessing`
    are what a preset is built for.
    Raises ConfigError for random:NAME of no preset, and what `load` raises.
    """
    names = _short_names(sources)
    found = []
    for source, name in zip(sources, names, strict=True):
        if Path(source).is_file() and Path(source).suffix == ".json":
            found.append(Candidate(name, None, Path(source), SAVED))
        elif _is_preset(source):
            model = _untrained(source.removeprefix(RANDOM), categories, preprocessing)
            found.append(Candidate(name, model, None, UNTRAINED))
        else:
            found.append(Candidate(name, load(source), None, _note(Path(source))))
    return found


def _is_preset(source: str) -> bool:
    if source.startswith(RANDOM):
        return True
    return source in MODELS and source not in PUBLISHED and not Path(source).exists()


def _untrained(
    preset: str, categories: Categories | None, preprocessing: Preprocessing
) -> Detector:
    return build(ModelCard(preset, {}, categories or COCO_CLASSES, preprocessing)).eval()


def _note(path: Path) -> str:
    return UNFINISHED if (path / "checkpoints").is_dir() and not (path / "best").is_dir() else ""


def _short_names(sources: Sequence[str]) -> list[str]:
    """Return the last part of each path, or all of it where that would say the same twice."""
    short = [Path(s).stem if Path(s).is_file() else Path(s).name for s in sources]
    return [
        source if short.count(name) > 1 else name
        for source, name in zip(sources, short, strict=True)
    ]

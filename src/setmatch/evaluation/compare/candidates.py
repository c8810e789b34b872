"""What can be compared: trained models, presets with random weights, and saved detections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from setmatch.evaluation.saved_detections import is_saved_detections
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.engines.load import load_on
from setmatch.models.detector import Detector
from setmatch.models.factory import import_named
from setmatch.models.registry import MODELS, PUBLISHED, build
from setmatch.models.weights.classes.coco import COCO_CLASSES
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

RANDOM_PREFIX = "random:"
RANDOM_WEIGHTS = "random weights: speed only"
SAVED_DETECTIONS = "saved detections: no model to time"
NOT_EVALUATED = "latest checkpoint of a run without an evaluation"

Source = str | Path | Detector | Engine
Load = Callable[[str | Path, torch.device], Detector | Engine]


@dataclass(frozen=True)
class Candidate:
    """A row of a comparison: an engine, or a file of saved detections; `note` qualifies it.

    AP is measured of what `is_scored`, which random weights are not, and time of what `is_timed`.
    """

    name: str
    engine: Engine | None
    detections: Path | None
    note: str = ""
    is_scored: bool = True
    is_timed: bool = True

    def without_score(self, why: str) -> "Candidate":
        """Return the candidate without AP, and with a note that says why."""
        note = "; ".join(filter(None, (self.note, why)))
        return replace(self, note=note, is_scored=False)

    def not_measured(self, why: str) -> "Candidate":
        """Return the candidate without AP and time, and with a note that says why."""
        return replace(self.without_score(f"is not measured: {why}"), is_timed=False)


def find_candidates(
    sources: Sequence[Source],
    categories: Categories | None,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    load: Load = load_on,
) -> list[Candidate]:
    """Load each source; a model that is loaded here, by `load`, is put on `device`.

    A source is a detector or an engine; a run folder, a file or folder of weights, a published name
    or a hub id; a JSON file of COCO results; or a preset, which gets random weights. A preset is
    meant if it is written random:NAME, or if no weights are published under its name. `categories`
    and `preprocessing` are those of models with random weights.
    Raises ConfigError for random:NAME if NAME is not a preset, and what `load` raises.
    """
    paths = [source for source in sources if isinstance(source, str | Path)]
    names = dict(zip(paths, _short_names([str(path) for path in paths]), strict=True))
    candidates = []
    for source in sources:
        if not isinstance(source, str | Path):
            engine = as_engine(source)
            candidates.append(Candidate(engine.card.preset, engine, None))
        elif Path(source).is_file() and is_saved_detections(source):
            path = Path(source)
            found = Candidate(names[source], None, path, SAVED_DETECTIONS, is_timed=False)
            candidates.append(found)
        elif _is_random(str(source)):
            preset = str(source).removeprefix(RANDOM_PREFIX)
            import_named(preset)
            card = ModelCard(preset, {}, categories or COCO_CLASSES, preprocessing)
            engine = as_engine(build(card).to(device).eval())
            untrained = Candidate(names[source], engine, None).without_score(RANDOM_WEIGHTS)
            candidates.append(untrained)
        else:
            engine = as_engine(load(source, torch.device(device)))
            candidates.append(Candidate(names[source], engine, None, _note(Path(source))))
    return candidates


def _is_random(source: str) -> bool:
    if source.startswith(RANDOM_PREFIX):
        return True
    return source in MODELS and source not in PUBLISHED and not Path(source).exists()


def _note(path: Path) -> str:
    is_run = (path / "checkpoints").is_dir()
    return NOT_EVALUATED if is_run and not (path / "best").is_dir() else ""


def _short_names(sources: Sequence[str]) -> list[str]:
    """Return the last part of each path, or the whole path where last parts are the same."""
    short = [Path(s).stem if Path(s).is_file() else Path(s).name for s in sources]
    return [
        source if short.count(name) > 1 else name
        for source, name in zip(sources, short, strict=True)
    ]

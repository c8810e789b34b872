"""A few validation images asked at every evaluation: where do the answers lie, and whose are they?

The evaluation's own predictions are looked at, so that nothing is computed twice. What comes out
are a few numbers for the log; the watch reads them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.config import MatchCosts
from setmatch.data.dataset import DetectionDataset
from setmatch.files import atomic_file
from setmatch.losses.matcher import match
from setmatch.models.detector import Detector
from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Predictions

ANSWERS = "probe.json"
IMAGES = 32
ALIKE = 0.8  # IoU of two boxes that are taken for the same


@dataclass(frozen=True)
class ProbeSample:
    """What was answered for the objects of one image: matched boxes, and who gave them."""

    queries: tuple[int, ...]  # one for every object that has one
    found: Float[Tensor, "M 4"]  # cxcywh, as is `owed`
    owed: Float[Tensor, "M 4"]
    named: int  # of the matched queries, those that name the right class


class Probe:
    """Listens to the answers for a fixed few images of `validation`, spread evenly over it.

    Of several processes the first alone listens, to its own share of the images.
    """

    def __init__(
        self, run: Path, detector: Detector, validation: DetectionDataset, costs: MatchCosts
    ) -> None:
        self._path = run / ANSWERS
        self._detector, self._costs = detector, costs
        # Queries that the image chooses have no name that lasts from one evaluation to the next.
        self._lasting = detector.fixed_queries
        images = np.flatnonzero(np.diff(validation.offsets) > 0)
        spaced = np.linspace(0, max(len(images) - 1, 0), num=min(IMAGES, len(images)))
        self._targets = {
            int(validation.image_ids[image]): _known(validation.target(image), validation, detector)
            for image in images[spaced.round().astype(int)].tolist()
        }
        self._heard: dict[int, ProbeSample] = {}

    def hear(self, image_ids: tuple[int, ...], predictions: Predictions) -> None:
        """Look at the last layer's answers for those images of a batch that are of the probe."""
        rows = [row for row, image_id in enumerate(image_ids) if image_id in self._targets]
        if not rows:
            return
        logits, cxcywh = predictions.logits[-1:, rows], predictions.cxcywh[-1:, rows].float()
        targets = [self._targets[image_ids[row]] for row in rows]
        device = logits.device
        (pairs,) = match(
            logits, cxcywh, [t.to(device) for t in targets], self._detector.class_loss, self._costs
        )
        image, query, target = pairs.image.cpu(), pairs.query.cpu(), pairs.target.cpu()
        class_indices, owed = (
            torch.cat([t.classes for t in targets]),
            torch.cat([t.cxcywh for t in targets]),
        )
        named = logits[0].float().argmax(-1).cpu()[image, query] == class_indices[target]
        found = cxcywh[0].cpu()[image, query]
        for place, row in enumerate(rows):
            here = image == place
            order = target[here].argsort()  # object after object, whichever query comes first
            self._heard[image_ids[row]] = ProbeSample(
                tuple(query[here][order].tolist()),
                found[here],
                owed[target[here]],
                int(named[here].sum()),
            )

    def read(self, steps: int) -> dict[str, float]:
        """Return what was heard in numbers, after `steps` steps, and keep who answered.

        "probe/iou" is the mean overlap of matched boxes with their objects, "probe/named" the share
        of them with the right class, "probe/alike" the share that is one and the same box,
        "probe/objects_alike" the same of the objects, and "probe/flips" the share of the objects
        that another query answers for than at the evaluation before. What cannot be told is left
        out.
        """
        heard, self._heard = self._heard, {}
        objects = sum(len(each.queries) for each in heard.values())
        if not objects:
            return {}
        found = cxcywh_to_xyxy(torch.cat([each.found for each in heard.values()]))
        owed = cxcywh_to_xyxy(torch.cat([each.owed for each in heard.values()]))
        numbers = {
            "probe/iou": float(intersection_over_union(found, owed).mean()),
            "probe/named": sum(each.named for each in heard.values()) / objects,
            "probe/alike": _alike(found),
            "probe/objects_alike": _alike(owed),
        }
        if self._lasting:
            answers = {image_id: each.queries for image_id, each in heard.items()}
            before = self._kept_before(steps)
            flips = _flips(_answers(before), answers)
            numbers |= {} if flips is None else {"probe/flips": flips}
            queries = {str(image_id): list(each) for image_id, each in answers.items()}
            kept = {"step": steps, "queries": queries, "before": {**before, "before": None}}
            with atomic_file(self._path) as aside:
                aside.write_text(json.dumps(kept), encoding="utf-8")
        return numbers

    def _kept_before(self, steps: int) -> dict[str, Any]:
        """Return what was kept of the evaluation before; nothing where that cannot be read.

        A run that was killed may have kept this very evaluation already, or gone further.
        """
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            while kept["step"] >= steps:
                kept = kept["before"]
            return dict(kept)
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _answers(kept: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    try:
        return {int(image_id): tuple(each) for image_id, each in kept["queries"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _known(target: Target, index: DetectionDataset, detector: Detector) -> Target:
    """Return the objects whose class the detector knows, by its slots."""
    class_indices = {
        name: class_index for class_index, name in enumerate(detector.card.categories.names)
    }
    of = torch.tensor([class_indices.get(name, -1) for name in index.categories.names])
    classes = of[target.classes]
    return Target(classes[classes >= 0], target.cxcywh[classes >= 0])


def _alike(xyxy: Float[Tensor, "M 4"]) -> float:
    """Return the share of boxes that are nearly the median box."""
    middle = xyxy.median(0).values
    return float((intersection_over_union(xyxy, middle) >= ALIKE).float().mean())


def _flips(
    before: Mapping[int, tuple[int, ...]], now: Mapping[int, tuple[int, ...]]
) -> float | None:
    """Return the share of objects that another query answers for than before (DN-DETR's measure of
    instability, arXiv 2203.01305, section 3.1); None where nothing can be compared.
    """
    pairs = [
        pair
        for image_id, queries in now.items()
        if len(before.get(image_id, ())) == len(queries)
        for pair in zip(before[image_id], queries, strict=True)
    ]
    return sum(old != new for old, new in pairs) / len(pairs) if pairs else None

"""The validation probe: a few validation images whose matched predictions are logged.

It reads the predictions of the evaluation, so nothing is computed twice. The training monitor
reads the metrics it logs.
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
from setmatch.files.reading import read_text
from setmatch.files.writing import write_text
from setmatch.losses.matcher import match
from setmatch.models.detector import Detector
from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Predictions

PROBE_FILE = "probe.json"
NUM_IMAGES = 32
SAME_BOX_IOU = 0.8  # at which two boxes count as the same


@dataclass(frozen=True)
class ProbeSample:
    """The matched predictions of one image."""

    queries: tuple[int, ...]  # one for every matched object, in the order of the objects
    predicted: Float[Tensor, "M 4"]  # cxcywh
    target: Float[Tensor, "M 4"]  # cxcywh
    right_class: int  # number of matched queries that predict the right class


class Probe:
    """Matches the predictions for 32 fixed images, evenly spaced in `validation`.

    With several processes only the first has a probe, which sees that process' images.
    """

    def __init__(
        self, run: Path, detector: Detector, validation: DetectionDataset, costs: MatchCosts
    ) -> None:
        self._path = run / PROBE_FILE
        self._detector, self._costs = detector, costs
        # Queries selected from the image have no identity that lasts between evaluations.
        self._fixed_queries = detector.fixed_queries
        images = np.flatnonzero(np.diff(validation.offsets) > 0)
        spaced = np.linspace(0, max(len(images) - 1, 0), num=min(NUM_IMAGES, len(images)))
        self._targets = {
            int(validation.image_ids[image]): _known_targets(
                validation.target(image), validation, detector
            )
            for image in images[spaced.round().astype(int)].tolist()
        }
        self._samples: dict[int, ProbeSample] = {}

    def add(self, image_ids: tuple[int, ...], predictions: Predictions) -> None:
        """Match the last layer's predictions for the images of a batch that are in the probe."""
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
        target_classes = torch.cat([t.classes for t in targets])[target]
        target_cxcywh = torch.cat([t.cxcywh for t in targets])
        right_class = logits[0].float().argmax(-1).cpu()[image, query] == target_classes
        predicted = cxcywh[0].cpu()[image, query]
        for index, row in enumerate(rows):
            here = image == index
            by_object = target[here].argsort()
            self._samples[image_ids[row]] = ProbeSample(
                tuple(query[here][by_object].tolist()),
                predicted[here],
                target_cxcywh[target[here]],
                int(right_class[here].sum()),
            )

    def compute(self, steps: int) -> dict[str, float]:
        """Return the metrics of the added predictions after `steps` steps, and store the matching.

        "probe/iou" is the mean IoU of matched boxes and their objects, "probe/named" the fraction
        of them with the right class, "probe/alike" the fraction that is nearly one and the same
        box, "probe/objects_alike" that fraction of the objects, and "probe/flips" the fraction of
        objects matched to another query than at the evaluation before. Metrics without data are
        left out.
        """
        samples, self._samples = self._samples, {}
        objects = sum(len(sample.queries) for sample in samples.values())
        if not objects:
            return {}
        predicted = cxcywh_to_xyxy(torch.cat([sample.predicted for sample in samples.values()]))
        target = cxcywh_to_xyxy(torch.cat([sample.target for sample in samples.values()]))
        metrics = {
            "probe/iou": float(intersection_over_union(predicted, target).mean()),
            "probe/named": sum(sample.right_class for sample in samples.values()) / objects,
            "probe/alike": _same_box_fraction(predicted),
            "probe/objects_alike": _same_box_fraction(target),
        }
        if self._fixed_queries:
            queries = {image_id: sample.queries for image_id, sample in samples.items()}
            before = self._stored_before(steps)
            flips = _flip_rate(_stored_queries(before), queries)
            metrics |= {} if flips is None else {"probe/flips": flips}
            stored = {
                "step": steps,
                "queries": {str(image_id): list(each) for image_id, each in queries.items()},
                "before": {**before, "before": None},
            }
            write_text(self._path, json.dumps(stored))
        return metrics

    def _stored_before(self, steps: int) -> dict[str, Any]:
        """Return the stored matching of an evaluation before `steps`, or {} if there is none.

        A run that was killed may have stored this very evaluation, or a later one.
        """
        try:
            stored = json.loads(read_text(self._path))
            while stored["step"] >= steps:
                stored = stored["before"]
            return dict(stored)
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _stored_queries(stored: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    try:
        return {int(image_id): tuple(each) for image_id, each in stored["queries"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _known_targets(target: Target, dataset: DetectionDataset, detector: Detector) -> Target:
    """Return the objects of classes that the detector knows, with its class indices."""
    known = {name: index for index, name in enumerate(detector.card.categories.names)}
    class_index = torch.tensor([known.get(name, -1) for name in dataset.categories.names])
    classes = class_index[target.classes]
    return Target(classes[classes >= 0], target.cxcywh[classes >= 0])


def _same_box_fraction(xyxy: Float[Tensor, "M 4"]) -> float:
    """Return the fraction of boxes that nearly equal the median box."""
    median = xyxy.median(0).values
    return float((intersection_over_union(xyxy, median) >= SAME_BOX_IOU).float().mean())


def _flip_rate(
    before: Mapping[int, tuple[int, ...]], now: Mapping[int, tuple[int, ...]]
) -> float | None:
    """Return the fraction of objects matched to another query than before.

    This is DN-DETR's measure of instability (arXiv 2203.01305, section 3.1). None if no object can
    be compared.
    """
    pairs = [
        pair
        for image_id, queries in now.items()
        if len(before.get(image_id, ())) == len(queries)
        for pair in zip(before[image_id], queries, strict=True)
    ]
    return sum(old != new for old, new in pairs) / len(pairs) if pairs else None

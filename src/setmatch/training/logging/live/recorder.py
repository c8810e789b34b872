"""Collects what the live page shows: predictions of each evaluation, the first batch, classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from setmatch.data.batches.loader import Minibatch
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError
from setmatch.models.detector import Detector
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.postprocessing.detections import detections
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.outputs import Predictions
from setmatch.training.logging.live.samples import (
    MOST_LETTERS,
    SAMPLES,
    Evaluation,
    Mark,
    SampleImage,
    load_samples,
    save_samples,
    small_jpeg_uri,
)
from setmatch.training.logging.report_file import ReportFile

NUM_IMAGES = 6
_CANDIDATES = 24  # of several processes, one sees only its share
_BATCH_IMAGES = 6
MOST_MARKS = 12  # of an image
_LEAST_SCORE = 0.1
_MOST_CLASSES = 100
_UNIT = 1000  # of coordinates, to the side of an image


class SampleRecorder:
    """Records for RUN/live.json, and reads nothing that training would notice.

    It looks at the predictions of the evaluation, so that nothing is computed twice. `steps` are
    those that a resumed run has taken.
    """

    def __init__(
        self, run: Path, detector: Detector, validation: DetectionDataset | None, steps: int = 0
    ) -> None:
        self._run, self._detector, self._validation = run, detector, validation
        self._file = ReportFile(run / SAMPLES)
        self.samples = load_samples(run, steps)
        names = detector.card.categories
        self.names = [names.name(index)[:MOST_LETTERS] for index in range(len(names))]
        self._image_of = self._candidates()
        self._found: dict[int, tuple[Mark, ...]] = {}  # by the id of the image

    def add(self, image_ids: tuple[int, ...], predictions: Predictions) -> None:
        """Keep the best detections for the images of a batch that are shown."""
        rows = [row for row, image_id in enumerate(image_ids) if image_id in self._image_of]
        if not rows:
            return
        shown = Predictions(predictions.logits[-1:, rows], predictions.cxcywh[-1:, rows])
        square = [(_UNIT, _UNIT)] * len(rows)
        categories = self._detector.card.categories
        found = detections(shown, self._detector.class_loss, categories, square)
        for row, each in zip(rows, found, strict=True):
            best = each.above(_LEAST_SCORE)
            self._found[image_ids[row]] = _marks(
                best.xyxy_px[:MOST_MARKS],
                best.classes[:MOST_MARKS],
                best.scores[:MOST_MARKS],
            )

    def add_batch(self, minibatches: Sequence[Minibatch], preprocessing: Preprocessing) -> None:
        """Keep the first images that the model is trained on, as it sees them."""
        images = [image for each in minibatches for image in _as_seen(each, preprocessing)]
        self.samples = replace(self.samples, batch=tuple(images[:_BATCH_IMAGES]))
        self._save()

    def close(self, steps: int, metrics: Mapping[str, Any]) -> None:
        """Record the evaluation after `steps` steps, whose predictions were added before."""
        found, self._found = self._found, {}
        samples = self.samples
        if not samples.images:
            samples = replace(samples, images=self._choose_images(found))
        measure, scores = _class_scores(metrics)
        if not samples.classes:
            counts = {name: count for name, (_, count) in scores.items() if count}
            most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CLASSES]
            samples = replace(
                samples,
                classes=tuple(most),
                all_classes=len(counts),
                measure=measure,
            )
        values = [scores.get(name, (None, 0))[0] for name, _ in samples.classes]
        evaluation = Evaluation(
            steps,
            metrics["AP"] if measure == "AP" else metrics["panoptic"]["all"]["PQ"],
            tuple(found.get(image.image_id, ()) for image in samples.images),
            tuple(None if value is None else round(1000 * value) for value in values),
        )
        self.samples = samples.plus(evaluation)
        self._save()

    def _save(self) -> None:
        with self._file.writing():
            save_samples(self.samples, self._run)

    def _candidates(self) -> dict[int, int]:
        """Return the numbers of images that may be shown, by id; those of a resumed run stay."""
        if self._validation is None:
            return {}
        ids = self._validation.image_ids.tolist()
        if self.samples.images:
            known = {each.image_id for each in self.samples.images}
            return {image_id: image for image, image_id in enumerate(ids) if image_id in known}
        filled = np.flatnonzero(np.diff(self._validation.offsets) > 0)
        return {ids[image]: image for image in _spaced(filled.tolist(), _CANDIDATES)}

    def _choose_images(self, found: Mapping[int, tuple[Mark, ...]]) -> tuple[SampleImage, ...]:
        """Return the images to show from now on, of those that this process has seen."""
        seen = [
            (image_id, image) for image_id, image in self._image_of.items() if image_id in found
        ]
        chosen = (self._image(*each) for each in _spaced(seen, NUM_IMAGES))
        return tuple(each for each in chosen if each is not None)

    def _image(self, image_id: int, image: int) -> SampleImage | None:
        assert self._validation is not None, "there are candidates"
        dataset = self._validation
        try:
            pixels = read_image(dataset.path(image), dataset.size_px(image))
        except DataError:  # the evaluation has reported it
            return None
        uri, size_px = small_jpeg_uri(pixels)
        target = dataset.target(image)
        index_of = {name: index for index, name in enumerate(self._detector.card.categories.names)}
        known = torch.tensor([index_of.get(name, -1) for name in dataset.categories.names])
        xyxy = cxcywh_to_xyxy(target.cxcywh) * _UNIT
        objects = _marks(xyxy[: 2 * MOST_MARKS], known[target.classes][: 2 * MOST_MARKS])
        return SampleImage(dataset.name(image)[-MOST_LETTERS:], uri, size_px, objects, image_id)


def _as_seen(minibatch: Minibatch, preprocessing: Preprocessing) -> list[SampleImage]:
    """Return the images of a minibatch with their padding, and their objects."""
    batch = minibatch.batch
    mean, std = (
        torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std)
    )
    height, width = batch.pixels.shape[-2:]
    images = []
    for pixels, size_px, target, image_id in zip(
        batch.pixels[:_BATCH_IMAGES].cpu(),
        batch.sizes_px(),
        minibatch.targets,
        minibatch.image_ids,
        strict=False,
    ):
        plain = (pixels.float() * std + mean).clamp(0, 1) * 255
        uri, shown_px = small_jpeg_uri(plain.round().to(torch.uint8))
        # Boxes are fractions of the image, which the padding follows.
        scale = torch.tensor([size_px[1] / width, size_px[0] / height] * 2) * _UNIT
        xyxy = cxcywh_to_xyxy(target.cxcywh.cpu().float()) * scale
        objects = _marks(xyxy[: 4 * MOST_MARKS], target.classes[: 4 * MOST_MARKS])
        images.append(SampleImage(f"image {image_id}", uri, shown_px, objects, image_id))
    return images


def _marks(
    xyxy: Float[Tensor, "M 4"],
    classes: Int[Tensor, " M"],
    scores: Float[Tensor, " M"] | None = None,
) -> tuple[Mark, ...]:
    """Return boxes in thousandths of the image; those that are not finite are left out."""
    finite = xyxy.isfinite().all(1)
    percent = torch.ones(len(xyxy)) if scores is None else scores
    corners = xyxy[finite].cpu().clamp(-_UNIT, 2 * _UNIT).round().int()
    return tuple(
        (left, top, right - left, bottom - top, class_index, score)
        for (left, top, right, bottom), class_index, score in zip(
            corners.tolist(),
            classes[finite].tolist(),
            (100 * percent[finite]).round().int().tolist(),
            strict=True,
        )
    )


def _class_scores(metrics: Mapping[str, Any]) -> tuple[str, dict[str, tuple[float | None, int]]]:
    """Return what classes are measured by; their scores, and how many objects there are to find."""
    panoptic = metrics.get("panoptic")
    if panoptic is not None and panoptic["stuff"]["classes"]:
        qualities = panoptic["per_class"].items()
        return "PQ", {name: (each["PQ"], each["tp"] + each["fn"]) for name, each in qualities}
    return "AP", {name: (each["AP"], each["boxes"]) for name, each in metrics["per_class"].items()}


def _spaced(values: list[Any], count: int) -> list[Any]:
    """Return at most `count` of the values, evenly spaced."""
    places = np.linspace(0, max(len(values) - 1, 0), num=min(count, len(values)))
    return [values[place] for place in places.round().astype(int).tolist()]

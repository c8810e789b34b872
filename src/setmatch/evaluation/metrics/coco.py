"""COCO AP and AR via hotcoco: identical to pycocotools, and faster."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any

import hotcoco
import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from setmatch.data.dataset import DetectionDataset
from setmatch.errors import ConfigError, DataError
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories

AREAS = {"all": 0, "s": 1, "m": 2, "l": 3}  # index on the area axis; limits: 32² and 96² pixels
_RECALL_LIMITS = (1, 10, 100)


@dataclass(frozen=True, eq=False)
class Results:
    """Detections of many images in flat arrays, with class indices of the data set.

    `rle` holds COCO's run-length encodings of the masks; None if there are no masks.
    """

    image_ids: Int64[np.ndarray, " D"]
    class_indices: Int64[np.ndarray, " D"]
    xywh_px: Float64[np.ndarray, "D 4"]
    scores: Float64[np.ndarray, " D"]
    rle: tuple[Mapping[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_detections(
        cls,
        detections: Sequence[Detections],
        image_ids: Sequence[int],
        class_index_of: Int64[np.ndarray, " C"],
    ) -> "Results":
        """Collect the detections of several images.

        `class_index_of` holds the data set's class index for every class index of the model, or -1
        for a class that the data set does not have. Detections of such classes are left out.
        """
        assert len(detections) == len(image_ids), "one id for the detections of every image"
        counts = [len(each) for each in detections]
        class_indices = class_index_of[
            _concatenate([each.classes.numpy() for each in detections]).astype(np.int64)
        ]
        xyxy = _concatenate([each.xyxy_px.numpy() for each in detections]).reshape(-1, 4)
        xyxy = xyxy.astype(np.float64)
        known = class_indices >= 0
        rle = [
            mask for each in detections if each.masks is not None for mask in each.masks.to_coco()
        ]
        return cls(
            np.repeat(np.array(image_ids, dtype=np.int64), counts)[known],
            class_indices[known],
            np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)[known],
            _concatenate([each.scores.numpy() for each in detections]).astype(np.float64)[known],
            tuple(rle[row] for row in np.flatnonzero(known)) if rle else None,
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Results"]) -> "Results":
        """Concatenate the results of several batches or processes, sorted by image id."""
        image_ids = _concatenate([part.image_ids for part in parts]).astype(np.int64)
        order = image_ids.argsort(kind="stable")
        rle = [mask for part in parts for mask in part.rle or ()]
        return cls(
            image_ids[order],
            _concatenate([part.class_indices for part in parts]).astype(np.int64)[order],
            _concatenate([part.xywh_px for part in parts]).astype(np.float64).reshape(-1, 4)[order],
            _concatenate([part.scores for part in parts]).astype(np.float64)[order],
            tuple(rle[row] for row in order) if rle else None,
        )

    def select(self, mask: Bool[np.ndarray, " D"]) -> "Results":
        """Return the detections for which `mask` is true, in the same order."""
        rle = self.rle
        return Results(
            self.image_ids[mask],
            self.class_indices[mask],
            self.xywh_px[mask],
            self.scores[mask],
            None if rle is None else tuple(rle[row] for row in np.flatnonzero(mask)),
        )

    def to_coco(self, categories: Categories) -> list[dict[str, Any]]:
        """Return COCO results, with all digits, so that other tools compute the same metrics."""
        ids = np.array(categories.ids, dtype=np.int64)[self.class_indices].tolist()
        columns = (self.image_ids.tolist(), ids, self.xywh_px.tolist(), self.scores.tolist())
        rows = [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in zip(*columns, strict=True)
        ]
        if self.rle is None:
            return rows
        return [row | {"segmentation": mask} for row, mask in zip(rows, self.rle, strict=True)]


@dataclass(frozen=True)
class ClassPrecision:
    """AP and AP50 of one class, 0..1, and its number of boxes; -1 means nothing to find."""

    AP: float
    AP50: float
    boxes: int


@dataclass(frozen=True)
class AveragePrecision:
    """The twelve COCO metrics, 0..1, and AP per class; -1 means nothing to find."""

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: Mapping[str, ClassPrecision]

    def numbers(self) -> dict[str, float]:
        """Return the twelve metrics by name, in COCO's order."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(AveragePrecision)
            if field.name != "per_class"
        }


def average_precision(
    dataset: DetectionDataset, results: Results, max_detections: int = 100, masks: bool = False
) -> AveragePrecision:
    """Return the COCO metrics of boxes or, with `masks`, of masks.

    The best `max_detections` detections of each class count in an image; AR1, AR10 and AR100 have
    limits of their own. The protocol is COCO's (cocodataset.org/#detection-eval), via hotcoco. It
    differs from pycocotools in two ways: an annotation with id 0 counts (pycocotools treats its
    match as no match), and a limit other than 100 works (pycocotools returns an AP of -1, cocoapi
    #558).
    Raises DataError for an image id or class index that the data set does not have and for a score
    or box that is not finite, and ConfigError for a limit below 1.
    """
    protocol = run_protocol(dataset, results, limits_for(max_detections), masks)
    return precision_of(protocol, dataset, max_detections)


def limits_for(max_detections: int) -> list[int]:
    """Return the limits of detections that `precision_of` needs, in ascending order.

    Raises ConfigError for a limit below 1.
    """
    if max_detections < 1:
        raise ConfigError(f"max_detections = {max_detections}: it must be at least 1")
    return sorted({*_RECALL_LIMITS, max_detections})


def precision_of(
    protocol: hotcoco.COCOeval, dataset: DetectionDataset, max_detections: int
) -> AveragePrecision:
    """Return the COCO metrics of a protocol that was run with `limits_for(max_detections)`."""
    accumulated, limits = protocol.eval, limits_for(max_detections)
    assert accumulated is not None, "run_protocol accumulates"
    precision: NDArray[np.float64] = accumulated["precision"]  # IoU, recall, class, area, limit
    recall: NDArray[np.float64] = accumulated["recall"]  # IoU, class, area, limit
    limit = limits.index(max_detections)
    boxes = np.bincount(dataset.class_indices[~dataset.crowd], minlength=len(dataset.categories))
    return AveragePrecision(
        AP=mean(precision[..., AREAS["all"], limit]),
        AP50=mean(precision[0, ..., AREAS["all"], limit]),
        AP75=mean(precision[5, ..., AREAS["all"], limit]),
        APs=mean(precision[..., AREAS["s"], limit]),
        APm=mean(precision[..., AREAS["m"], limit]),
        APl=mean(precision[..., AREAS["l"], limit]),
        AR1=mean(recall[..., AREAS["all"], limits.index(1)]),
        AR10=mean(recall[..., AREAS["all"], limits.index(10)]),
        AR100=mean(recall[..., AREAS["all"], limits.index(100)]),
        ARs=mean(recall[..., AREAS["s"], limit]),
        ARm=mean(recall[..., AREAS["m"], limit]),
        ARl=mean(recall[..., AREAS["l"], limit]),
        per_class={
            dataset.categories.name(class_index): ClassPrecision(
                AP=mean(precision[:, :, class_index, AREAS["all"], limit]),
                AP50=mean(precision[0, :, class_index, AREAS["all"], limit]),
                boxes=int(boxes[class_index]),
            )
            for class_index in range(len(dataset.categories))
        },
    )


def run_protocol(
    dataset: DetectionDataset, results: Results, limits: list[int], masks: bool = False
) -> hotcoco.COCOeval:
    """Run COCO's matching and accumulation, for each limit of detections, in ascending order.

    `masks` compares masks instead of boxes. All ids in hotcoco are ranks counted from 1, which any
    number type represents exactly: images by their ids, classes by their indices, annotations and
    detections by their rows. Raises DataError as `average_precision` does.
    """
    truth_rle = _annotation_rle(dataset, set(results.image_ids.tolist())) if masks else None
    rle: list[Any] | None = list(results.rle or ()) if masks else None
    order = dataset.image_ids.argsort()
    truth = hotcoco.COCO.from_arrays(
        [{"id": rank} for rank in range(1, len(dataset) + 1)],
        [
            {"id": class_index + 1, "name": str(class_index)}
            for class_index in range(len(dataset.categories))
        ],
        np.repeat(order.argsort() + 1, np.diff(dataset.offsets)),
        dataset.class_indices.astype(np.int64) + 1,
        dataset.xywh_px,
        ids=np.arange(1, len(dataset.class_indices) + 1),
        area=dataset.area_px,
        iscrowd=dataset.crowd,
        segmentation=truth_rle,
    )
    table = np.column_stack(
        [
            _ranks(results.image_ids, dataset.image_ids[order]) + 1,
            results.xywh_px,
            results.scores,
            results.class_indices + 1,
        ]
    )
    _check_table(table, len(dataset.categories), dataset)
    evaluation = hotcoco.COCOeval(
        truth, truth.load_res(table, segmentation=rle), "segm" if masks else "bbox"
    )
    evaluation.params.max_dets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _annotation_rle(dataset: DetectionDataset, with_detections: Set[int]) -> list[Any]:
    """Return the masks of all annotations; in images without detections, empty masks.

    There every object is missed, wherever its pixels are, and the PNG may be unreadable.
    """
    rle: list[Any] = []
    for image, image_id in enumerate(dataset.image_ids.tolist()):
        if image_id in with_detections:
            rle += dataset.run_lengths(image)
        else:
            height, width = dataset.size_px(image)
            empty = {"size": [height, width], "counts": [height * width]}
            rle += [empty] * int(dataset.offsets[image + 1] - dataset.offsets[image])
    return rle


def _ranks(
    ids: Int64[np.ndarray, " D"], ordered: Int64[np.ndarray, " N"]
) -> Int64[np.ndarray, " D"]:
    ranks = np.searchsorted(ordered, ids).clip(max=len(ordered) - 1)
    unknown: NDArray[np.int64] = ids[ordered[ranks] != ids]
    if unknown.size:
        raise DataError(
            f"{unknown.size} detections are of images that the data set does not have, "
            f"such as image id {unknown[0]}; evaluate them on the data they were made from"
        )
    return ranks


def _check_table(
    table: Float64[np.ndarray, "D 7"], classes: int, dataset: DetectionDataset
) -> None:
    class_indices = table[:, 6]
    if ((class_indices < 1) | (class_indices > classes)).any():
        raise DataError(f"{dataset.source}: detections of a class that its categories do not have")
    finite = np.isfinite(table).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{int((~finite).sum())} of {finite.size} detections have a score or box that is not "
            "finite; the model that made them has diverged"
        )


def absent_as_none(tree: Any) -> Any:
    """Return plain values with None for each AP or AR that is -1, nothing to find: null in JSON.

    Other numbers, such as the coordinates of a box, may be -1 and stay.
    """
    if isinstance(tree, dict):
        return {
            key: None if value == -1 and _is_precision(key) else absent_as_none(value)
            for key, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [absent_as_none(value) for value in tree]
    return tree


def _is_precision(key: object) -> bool:
    return isinstance(key, str) and ("AP" in key or key.startswith("AR"))


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean of the values above -1; -1 if there are none, as in COCO."""
    valid: NDArray[np.float64] = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def _concatenate(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0)

"""COCO average precision and recall: pycocotools' numbers to the last digit, but soon."""

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

AREAS = {"all": 0, "s": 1, "m": 2, "l": 3}  # where each stands; boundaries at 32² and 96² pixels
_RECALL_AT = (1, 10, 100)


@dataclass(frozen=True, eq=False)
class Results:
    """Detections of many images in flat arrays, classes as slots of the data set.

    `runs` are COCO's run lengths of their masks, where they have any.
    """

    image_ids: Int64[np.ndarray, " D"]
    class_indices: Int64[np.ndarray, " D"]
    xywh_px: Float64[np.ndarray, "D 4"]
    scores: Float64[np.ndarray, " D"]
    runs: tuple[Mapping[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(
        cls,
        found: Sequence[Detections],
        image_ids: Sequence[int],
        class_index_of: Int64[np.ndarray, " C"],
    ) -> "Results":
        """Gather the detections of some images.

        `class_index_of` holds, for every class slot of the model, the slot of the data set, or -1
        for a class that the data set does not know: its detections are left out.
        """
        assert len(found) == len(image_ids), "one id for the detections of every image"
        counts = [len(each) for each in found]
        class_indices = class_index_of[
            _stacked([each.classes.numpy() for each in found]).astype(np.int64)
        ]
        xyxy = _stacked([each.xyxy_px.numpy() for each in found]).reshape(-1, 4).astype(np.float64)
        known = class_indices >= 0
        runs = [run for each in found if each.masks is not None for run in each.masks.to_coco()]
        return cls(
            np.repeat(np.array(image_ids, dtype=np.int64), counts)[known],
            class_indices[known],
            np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)[known],
            _stacked([each.scores.numpy() for each in found]).astype(np.float64)[known],
            tuple(runs[row] for row in np.flatnonzero(known)) if runs else None,
        )

    @classmethod
    def joined(cls, parts: Sequence["Results"]) -> "Results":
        """Put the results of several batches or processes together, in order of image ids."""
        image_ids = _stacked([part.image_ids for part in parts]).astype(np.int64)
        order = image_ids.argsort(kind="stable")
        runs = [run for part in parts for run in part.runs or ()]
        return cls(
            image_ids[order],
            _stacked([part.class_indices for part in parts]).astype(np.int64)[order],
            _stacked([part.xywh_px for part in parts]).astype(np.float64).reshape(-1, 4)[order],
            _stacked([part.scores for part in parts]).astype(np.float64)[order],
            tuple(runs[row] for row in order) if runs else None,
        )

    def only(self, chosen: Bool[np.ndarray, " D"]) -> "Results":
        """Return the chosen detections, in their order."""
        runs = self.runs
        return Results(
            self.image_ids[chosen],
            self.class_indices[chosen],
            self.xywh_px[chosen],
            self.scores[chosen],
            None if runs is None else tuple(runs[row] for row in np.flatnonzero(chosen)),
        )

    def to_coco(self, categories: Categories) -> list[dict[str, Any]]:
        """Return COCO results; all digits are kept, so that others compute the same numbers."""
        ids = np.array(categories.ids, dtype=np.int64)[self.class_indices].tolist()
        columns = (self.image_ids.tolist(), ids, self.xywh_px.tolist(), self.scores.tolist())
        rows = [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in zip(*columns, strict=True)
        ]
        if self.runs is None:
            return rows
        return [row | {"segmentation": run} for row, run in zip(rows, self.runs, strict=True)]


@dataclass(frozen=True)
class ClassPrecision:
    """AP and AP50 of one class, -1 where there is nothing to find, and how many boxes there are."""

    AP: float
    AP50: float
    boxes: int


@dataclass(frozen=True)
class AveragePrecision:
    """The twelve COCO numbers, 0..1, and AP per class; -1 where there is nothing to find."""

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
        """Return the twelve numbers by name, in COCO's order."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(AveragePrecision)
            if field.name != "per_class"
        }


def average_precision(
    index: DetectionDataset, results: Results, max_detections: int = 100, masks: bool = False
) -> AveragePrecision:
    """Compare results with all images and boxes of `index`, as pycocotools would.

    `masks` compares masks instead of boxes. At most `max_detections` per image and class count,
    best first; AR1, AR10 and AR100 have their own limit. The protocol is COCO's
    (cocodataset.org/#detection-eval), through hotcoco. Intended differences: an annotation with id
    0 counts (pycocotools takes its match for none), and another limit than 100 changes the limit
    alone (there AP becomes -1, cocoapi #558).
    Raises DataError for an image id or a slot that `index` does not have, and for a score or box
    that is not finite; ConfigError for a limit below 1.
    """
    if max_detections < 1:
        raise ConfigError(f"max_detections = {max_detections}: at least 1 must count per image")
    limits = sorted({*_RECALL_AT, max_detections})
    counted = run_protocol(index, results, limits, masks).eval
    assert counted is not None, "the protocol has been run"
    precision: NDArray[np.float64] = counted["precision"]  # IoU, recall, class, area, limit
    recall: NDArray[np.float64] = counted["recall"]  # IoU, class, area, limit
    at = limits.index(max_detections)
    boxes = np.bincount(index.class_indices[~index.crowd], minlength=len(index.categories))
    return AveragePrecision(
        AP=mean(precision[..., AREAS["all"], at]),
        AP50=mean(precision[0, ..., AREAS["all"], at]),
        AP75=mean(precision[5, ..., AREAS["all"], at]),
        APs=mean(precision[..., AREAS["s"], at]),
        APm=mean(precision[..., AREAS["m"], at]),
        APl=mean(precision[..., AREAS["l"], at]),
        AR1=mean(recall[..., AREAS["all"], limits.index(1)]),
        AR10=mean(recall[..., AREAS["all"], limits.index(10)]),
        AR100=mean(recall[..., AREAS["all"], limits.index(100)]),
        ARs=mean(recall[..., AREAS["s"], at]),
        ARm=mean(recall[..., AREAS["m"], at]),
        ARl=mean(recall[..., AREAS["l"], at]),
        per_class={
            index.categories.name(class_index): ClassPrecision(
                AP=mean(precision[:, :, class_index, AREAS["all"], at]),
                AP50=mean(precision[0, :, class_index, AREAS["all"], at]),
                boxes=int(boxes[class_index]),
            )
            for class_index in range(len(index.categories))
        },
    )


def run_protocol(
    index: DetectionDataset, results: Results, limits: list[int], masks: bool = False
) -> hotcoco.COCOeval:
    """Count matches at every IoU, recall, class and area, for each limit of detections, ascending.

    `masks` compares masks instead of boxes. hotcoco's ids are ranks from 1 on, exact in any type of
    number: images in order of their ids, class slots, annotations and detections in order of their
    rows. Raises DataError as `average_precision` does.
    """
    drawn = _mask_runs(index, set(results.image_ids.tolist())) if masks else None
    found: list[Any] | None = list(results.runs or ()) if masks else None
    order = index.image_ids.argsort()
    truth = hotcoco.COCO.from_arrays(
        [{"id": rank} for rank in range(1, len(index) + 1)],
        [
            {"id": class_index + 1, "name": str(class_index)}
            for class_index in range(len(index.categories))
        ],
        np.repeat(order.argsort() + 1, np.diff(index.offsets)),
        index.class_indices.astype(np.int64) + 1,
        index.xywh_px,
        ids=np.arange(1, len(index.class_indices) + 1),
        area=index.area_px,
        iscrowd=index.crowd,
        segmentation=drawn,
    )
    table = np.column_stack(
        [
            _ranks(results.image_ids, index.image_ids[order]) + 1,
            results.xywh_px,
            results.scores,
            results.class_indices + 1,
        ]
    )
    _check(table, len(index.categories), index)
    evaluation = hotcoco.COCOeval(
        truth, truth.load_res(table, segmentation=found), "segm" if masks else "bbox"
    )
    evaluation.params.max_dets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _mask_runs(index: DetectionDataset, answered: Set[int]) -> list[Any]:
    """Return the run lengths of all annotations; of images without an answer, those of nothing.

    There every object is missed, wherever its pixels are, and the image or its PNG may be damaged.
    """
    runs: list[Any] = []
    for image, image_id in enumerate(index.image_ids.tolist()):
        if image_id in answered:
            runs += index.run_lengths(image)
        else:
            height, width = index.size_px(image)
            nothing = {"size": [height, width], "counts": [height * width]}
            runs += [nothing] * int(index.offsets[image + 1] - index.offsets[image])
    return runs


def _ranks(
    ids: Int64[np.ndarray, " D"], ordered: Int64[np.ndarray, " N"]
) -> Int64[np.ndarray, " D"]:
    ranks = np.searchsorted(ordered, ids).clip(max=len(ordered) - 1)
    strange: NDArray[np.int64] = ids[ordered[ranks] != ids]
    if strange.size:
        raise DataError(
            f"{strange.size} detections are of images that the data set does not have, "
            f"such as image id {strange[0]}; evaluate them against the data they were made on"
        )
    return ranks


def _check(table: Float64[np.ndarray, "D 7"], classes: int, index: DetectionDataset) -> None:
    class_indices = table[:, 6]
    if ((class_indices < 1) | (class_indices > classes)).any():
        raise DataError(f"{index.source}: detections of a class that its categories do not have")
    finite = np.isfinite(table).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{int((~finite).sum())} of {finite.size} detections have a score or box that is not "
            "finite; the model they come from has diverged"
        )


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what can be measured; -1, as in COCO, when there is nothing."""
    measured: NDArray[np.float64] = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0


def _stacked(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0)

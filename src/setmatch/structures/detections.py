"""Detections of one image."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from setmatch.argument_types import checked
from setmatch.errors import ConfigError, DataError, ExtraMissingError, short
from setmatch.structures.detection_arrays import coco_rows
from setmatch.structures.detection_checks import (
    class_indices_of,
    require_detection_parts,
    require_result_row,
    require_score,
    unsound_values,
)
from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks
from setmatch.structures.tensor_checks import described

if TYPE_CHECKING:
    import pandas
    import supervision

_SHOWN = 5  # detections in the one-line text
_LONGEST_NAME = 40  # characters of a class name there


@dataclass(frozen=True)
class Detection:
    """One detection: class, score, box (x0, y0, x1, y1 in pixels of the image) and mask.

    `name` is "class ID" for a class without a name. `mask` is None without a mask head.
    """

    name: str
    score: float
    xyxy_px: tuple[float, float, float, float]
    class_index: int
    mask: Bool[Tensor, "H W"] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Detections of one image, by descending score, in pixels of the original image.

    `masks` have the size of that image; None from a model without a mask head. Iterating gives a
    `Detection` for each; so does a number in brackets. A slice, or a list, array or tensor (numbers
    or booleans) in brackets gives these detections. Raises DataError for other types, shapes or
    devices; no value is read: what an engine detects is checked once (`unsound`).
    """

    xyxy_px: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    classes: Int[Tensor, " N"]
    categories: Categories
    size_px: tuple[int, int]  # height, width of the original image
    masks: PackedMasks | None = None

    def __post_init__(self) -> None:
        require_detection_parts(
            self.xyxy_px, self.scores, self.classes, self.categories, self.size_px, self.masks
        )

    def __len__(self) -> int:
        return self.scores.shape[0]

    def __repr__(self) -> str:
        height, width = self.size_px
        head = f"{type(self).__name__}({len(self)} in {width}x{height} px"
        rows = zip(self.classes[:_SHOWN].tolist(), self.scores[:_SHOWN].tolist(), strict=True)
        shown = [f"{self.categories.name(c)[:_LONGEST_NAME]!r} {score:.2f}" for c, score in rows]
        more = ["..."] if len(self) > _SHOWN else []
        return f"{head}: {', '.join(shown + more)})" if shown else f"{head})"

    def __iter__(self) -> Iterator[Detection]:
        masks = [None] * len(self) if self.masks is None else self.masks.unpack()
        rows = (self.classes.tolist(), self.scores.tolist(), self.xyxy_px.tolist(), masks)
        for class_index, score, (x0, y0, x1, y1), mask in zip(*rows, strict=True):
            name = self.categories.name(class_index)
            yield Detection(name, score, (x0, y0, x1, y1), class_index, mask)

    @overload
    def __getitem__(self, chosen: int) -> Detection: ...
    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | NDArray[Any] | Tensor) -> Self: ...
    def __getitem__(self, chosen: int | slice | Sequence[int] | NDArray[Any] | Tensor) -> Any:
        """Return one detection for a number, else the chosen detections.

        Raises ConfigError for anything else, such as the name of a class or fractions.
        """
        if isinstance(chosen, int | np.integer) and not isinstance(chosen, bool):
            if not -len(self) <= chosen < len(self):
                raise IndexError(f"detection {chosen}: there are {len(self)}")
            return next(iter(self._chosen(torch.tensor([int(chosen)]))))
        if isinstance(chosen, slice):
            chosen = range(*chosen.indices(len(self)))
        return self._chosen(self._positions(chosen))

    def _positions(self, chosen: object) -> Int[Tensor, " M"]:
        """Return the positions that a sequence of numbers, or of one boolean each, chooses."""
        try:
            given = np.asarray(chosen.cpu() if isinstance(chosen, Tensor) else chosen)
        except ValueError:  # lists of unequal length
            given = np.asarray(None)
        if given.ndim == 1 and given.dtype == bool and len(given) == len(self):
            return torch.from_numpy(np.flatnonzero(given))
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise ConfigError(
                f"detections [{short(chosen)}]: choose them by a number, a slice, or a list of "
                f"numbers or of {len(self)} booleans; filter(classes=..., score=...) chooses by "
                "class and score"
            )
        outside = given[(given < -len(self)) | (given >= len(self))]
        if outside.size:
            raise IndexError(f"detection {outside[0]}: there are {len(self)}")
        return torch.from_numpy(given.astype(np.int64))

    def above(self, threshold: float | Float[Tensor, " C"]) -> Self:
        """Return the detections with a score above `threshold`, or above that of their class.

        Raises ConfigError for anything but a score, or a tensor of one for each class.
        """
        if isinstance(threshold, Tensor) and threshold.shape == (len(self.categories),):
            return self._chosen(self.scores > threshold[self.classes])
        require_score("above", "threshold", threshold, f" or a tensor of {len(self.categories)}")
        return self._chosen(self.scores > threshold)

    @checked
    def filter(
        self, classes: str | int | Iterable[str | int] | None = None, score: float = 0.0
    ) -> Self:
        """Return the detections of the given `classes` (default: all) that score above `score`.

        A class is a name or a class index. Raises ConfigError for a class that the model does not
        have, or a score that is not between 0 and 1.
        """
        require_score("filter", "score", score)
        keep = self.scores > score
        if classes is not None:
            wanted = [classes] if isinstance(classes, str | int | Integral) else classes
            indices = [index for each in wanted for index in self.categories.indices_of(each)]
            keep = keep & torch.isin(self.classes, self.classes.new_tensor(indices))
        return self._chosen(keep)

    def _chosen(self, chosen: Tensor) -> Self:
        return replace(
            self,
            xyxy_px=self.xyxy_px[chosen],
            scores=self.scores[chosen],
            classes=self.classes[chosen],
            masks=None if self.masks is None else self.masks[chosen],
        )

    def unsound(self) -> str | None:
        """Return what is wrong, with the first wrong value; None if nothing is.

        It waits for the device that they are on. Boxes may reach out of the image.
        """
        classes = len(self.categories)
        return unsound_values(self.xyxy_px, self.scores, self.classes, classes)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return dictionaries as in COCO results, with class names, ready for JSON.

        `bbox` is (x, y, width, height) in pixels; `segmentation`, if there are masks, is compressed
        COCO RLE.
        """
        runs: list[dict[str, Any]] = [{} for _ in self.scores]
        if self.masks is not None:
            runs = [{"segmentation": each} for each in self.masks.to_coco()]
        return [row | run for row, run in zip(coco_rows(self), runs, strict=True)]

    @classmethod
    def from_dicts(
        cls, rows: Sequence[Mapping[str, Any]], categories: Categories, size_px: tuple[int, int]
    ) -> Self:
        """Read the result of `to_dicts`, or COCO results of one image, in any order.

        Raises DataError for rows without a box, score or category id, values that are none, and an
        id that is not in `categories`.
        """
        rows_given: Any = rows
        if not isinstance(rows_given, Sequence) or isinstance(rows_given, str):
            raise DataError(f"from_dicts: got {described(rows)}; give a list of dictionaries")
        for number, row in enumerate(rows_given):
            require_result_row(number, row)
        xywh = torch.tensor([each["bbox"] for each in rows], dtype=torch.float64).reshape(-1, 4)
        return cls._sorted(
            "from_dicts",
            torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
            torch.tensor([each["score"] for each in rows]),
            class_indices_of([each["category_id"] for each in rows], categories),
            categories,
            size_px,
        )

    def to_torchvision(self) -> dict[str, Tensor]:
        """Return the output format of torchvision: boxes (xyxy in pixels), scores, labels.

        Labels are category ids, as in the annotation file.
        """
        ids = torch.tensor(self.categories.ids, dtype=torch.int64)
        return {
            "boxes": self.xyxy_px,
            "scores": self.scores,
            "labels": ids[self.classes.cpu()].to(self.classes.device),
        }

    @classmethod
    def from_torchvision(
        cls, output: Mapping[str, Tensor], categories: Categories, size_px: tuple[int, int]
    ) -> Self:
        """Read one image's output of a torchvision detector whose labels are category ids.

        Raises DataError for another output, and for a label that is not in `categories`.
        """
        given: Any = output
        names = ("boxes", "scores", "labels")
        if not isinstance(given, Mapping) or not all(
            isinstance(given.get(name), Tensor) for name in names
        ):
            raise DataError(
                f"from_torchvision: got {described(output)}; give a dictionary of the tensors "
                "boxes, scores and labels"
            )
        return cls._sorted(
            "from_torchvision",
            output["boxes"].cpu(),
            output["scores"].cpu(),
            class_indices_of(output["labels"].tolist(), categories),
            categories,
            size_px,
        )

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a table with a row per detection: category, its id, score, box in pixels.

        Raises ExtraMissingError without pandas.
        """
        try:
            import pandas
        except ImportError:
            raise ExtraMissingError(
                "a table needs pandas: pip install 'setmatch[pandas]'"
            ) from None
        xyxy = self.xyxy_px.cpu().numpy()
        indices = self.classes.tolist()
        names = [self.categories.name(index) for index in indices]
        ids = [self.categories.ids[index] for index in indices]
        return pandas.DataFrame(  # types are given, since an empty list has none
            {
                "category": pandas.Series(names, dtype=str),
                "category_id": np.array(ids, dtype=np.int64),
                "score": self.scores.cpu().numpy(),
                **{f"{side}_px": xyxy[:, at] for at, side in enumerate(("x0", "y0", "x1", "y1"))},
            }
        )

    def to_supervision(self) -> "supervision.Detections":
        """Return supervision's Detections, with masks if there are any.

        Boxes are xyxy in pixels; `class_id` is the class index, `data["class_name"]` the name.
        Raises ExtraMissingError without supervision.
        """
        try:
            import supervision
        except ImportError:
            raise ExtraMissingError(
                "supervision is not installed: pip install 'setmatch[supervision]'"
            ) from None
        names = [self.categories.name(class_index) for class_index in self.classes.tolist()]
        return supervision.Detections(
            xyxy=self.xyxy_px.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.classes.cpu().numpy(),
            mask=None if self.masks is None else self.masks.unpack().cpu().numpy(),
            data={"class_name": np.array(names, dtype=str)},
        )

    @classmethod
    def from_supervision(
        cls, detections: Any, categories: Categories, size_px: tuple[int, int]
    ) -> Self:
        """Read an object with supervision's attributes xyxy, confidence and class_id (index).

        Raises DataError if confidences or class indices are missing, or an index is not a class.
        """
        wanted = ("xyxy", "confidence", "class_id")
        missing = [name for name in wanted if getattr(detections, name, None) is None]
        if missing:
            raise DataError(f"these detections have no {missing[0]}, which is needed")
        return cls._sorted(
            "from_supervision",
            torch.as_tensor(np.asarray(detections.xyxy)).reshape(-1, 4),
            torch.as_tensor(np.asarray(detections.confidence)),
            torch.as_tensor(np.asarray(detections.class_id, dtype=np.int64)),
            categories,
            size_px,
        )

    @classmethod
    def _sorted(
        cls,
        source: str,
        xyxy_px: Tensor,
        scores: Tensor,
        classes: Tensor,
        categories: Categories,
        size_px: tuple[int, int],
    ) -> Self:
        given = cls(xyxy_px.float(), scores.float(), classes, categories, size_px)
        problem = given.unsound()
        if problem:
            raise DataError(f"{source}: {problem}")
        order = scores.argsort(descending=True, stable=True)
        return given[order]

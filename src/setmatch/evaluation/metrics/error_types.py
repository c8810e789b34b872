"""Classify the errors of single detections into TIDE's types (arXiv 2008.08115, section 2.2).

hotcoco counts the errors of each type and their cost. The types of single detections are needed to
draw them.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from setmatch.ops.boxes import intersection_over_union

KINDS = {  # hotcoco's name of each type
    "classification": "Cls",
    "localization": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
RIGHT_IOU = 0.5  # a detection with a lower IoU with every object of its class is wrong
NEAR_IOU = 0.1  # a detection with a lower IoU with every object is on background


def classify_errors(
    xywh_px: Float64[np.ndarray, "D 4"],
    class_indices: Int64[np.ndarray, " D"],
    truth_xywh_px: Float64[np.ndarray, "T 4"],
    truth_class_indices: Int64[np.ndarray, " T"],
) -> list[str]:
    """Return the error type of every detection of an image, as if none of them were correct.

    The first type that applies, in this order:

    - localization: an object of the same class, with an IoU from 0.1 to below 0.5
    - classification: an object of another class, with an IoU of at least 0.5
    - duplicate: an object of the same class, with an IoU of at least 0.5
    - background: no object with an IoU of at least 0.1
    - both: the class and the location are wrong

    `truth_xywh_px` and `truth_class_indices` are the boxes and class indices of the objects.
    """
    iou = intersection_over_union(_xyxy(xywh_px)[:, None], _xyxy(truth_xywh_px)).numpy()
    same = class_indices[:, None] == truth_class_indices
    best_same = np.where(same, iou, 0).max(axis=1, initial=0)
    best_other = np.where(same, 0, iou).max(axis=1, initial=0)
    types = np.select(
        [
            (best_same >= NEAR_IOU) & (best_same < RIGHT_IOU),
            best_other >= RIGHT_IOU,
            best_same >= RIGHT_IOU,
            np.maximum(best_same, best_other) < NEAR_IOU,
        ],
        ["localization", "classification", "duplicate", "background"],
        "both",
    )
    names: list[str] = types.tolist()
    return names


def _xyxy(xywh_px: NDArray[np.float64]) -> torch.Tensor:
    corner, size = xywh_px[:, :2], xywh_px[:, 2:]
    return torch.from_numpy(np.concatenate([corner, corner + size], axis=1))

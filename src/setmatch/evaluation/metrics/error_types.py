"""Kinds of error, as TIDE tells them apart: what is wrong with a detection that is not right.

Source: arXiv 2008.08115, section 2.2. hotcoco counts them and what they cost; here the single
detections of an image get their kind, to be shown.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from setmatch.ops.boxes import intersection_over_union

KINDS = {  # of ours: hotcoco's name
    "classification": "Cls",
    "localization": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
NEAR_IOU = 0.1  # with less overlap than this a detection is about nothing


def classify_errors(
    xywh_px: Float64[np.ndarray, "D 4"],
    class_indices: Int64[np.ndarray, " D"],
    truth_xywh_px: Float64[np.ndarray, "T 4"],
    truth_slots: Int64[np.ndarray, " T"],
    right_iou: float = 0.5,
) -> list[str]:
    """Name the error of every wrong detection of an image, whose objects are `truth_*`.

    Same class, some overlap: localization. Another class' object, well placed: classification. A
    well placed one of an object that a better detection has found: duplicate. Hardly any overlap
    with anything: background. The rest: both class and place are wrong.
    """
    overlap = intersection_over_union(_corners(xywh_px)[:, None], _corners(truth_xywh_px)).numpy()
    same = class_indices[:, None] == truth_slots
    best_same = np.where(same, overlap, 0).max(axis=1, initial=0)
    best_other = np.where(same, 0, overlap).max(axis=1, initial=0)
    chosen = np.select(
        [
            (best_same >= NEAR_IOU) & (best_same < right_iou),
            best_other >= right_iou,
            best_same >= right_iou,
            np.maximum(best_same, best_other) < NEAR_IOU,
        ],
        ["localization", "classification", "duplicate", "background"],
        "both",
    )
    kinds: list[str] = chosen.tolist()
    return kinds


def _corners(xywh_px: NDArray[np.float64]) -> torch.Tensor:
    low, extent = xywh_px[:, :2], xywh_px[:, 2:]
    return torch.from_numpy(np.concatenate([low, low + extent], axis=1))

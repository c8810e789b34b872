"""SAHI (pip install sahi): slices of an image around a model of setmatch, merged by its rules.

It is not among the requirements: benchmarks/tiles.py compares with it where it is installed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

import setmatch as sm
from setmatch.inference.engines.base import Engine


class SlicedModel(DetectionModel):  # type: ignore[misc]  # has no types
    """What SAHI needs of a model: predictions for some slices at once."""

    def set_model(self, model: Engine, **_: Any) -> None:
        """Take the engine that runs the model."""
        self.model = model

    def perform_inference(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Predict for the whole image."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[UInt8[np.ndarray, "H W 3"]]) -> None:
        """Predict for slices of one shape."""
        self._original_predictions = sm.predict(
            self.model, images, threshold=self.confidence_threshold, batch_size=len(images)
        )

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any, full_shape_list: Any
    ) -> None:
        if np.ndim(shift_amount_list) == 1:  # of a single image
            shift_amount_list, full_shape_list = [shift_amount_list], [full_shape_list]
        views = zip(self._original_predictions, shift_amount_list, full_shape_list, strict=True)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    list(each.xyxy_px), each.class_index, each.name, None, each.score, shift, shape
                )
                for each in found
            ]
            for found, shift, shape in views
        ]


def sliced_prediction(
    engine: Engine,
    side_px: int,
    overlap: float,
    threshold: float,
    merging: str,
    at_once: int,
) -> Callable[[UInt8[np.ndarray, "H W 3"]], list[dict[str, Any]]]:
    """Return a function from an image to its COCO results, merged by "NMS", "GREEDYNMM", ..."""
    model = SlicedModel(model=engine, device="cpu", confidence_threshold=threshold)
    ids = engine.card.categories.ids

    def predict(image: UInt8[np.ndarray, "H W 3"]) -> list[dict[str, Any]]:
        found = get_sliced_prediction(
            image,
            model,
            slice_height=side_px,
            slice_width=side_px,
            overlap_height_ratio=overlap,
            overlap_width_ratio=overlap,
            postprocess_type=merging,
            postprocess_match_metric="IOU" if merging == "NMS" else "IOS",
            force_postprocess_type=True,
            batch_size=at_once,
            verbose=0,
        )
        return [
            {
                "category_id": ids[each.category.id],
                "bbox": each.bbox.to_xywh(),
                "score": float(each.score.value),
            }
            for each in found.object_prediction_list
        ]

    return predict

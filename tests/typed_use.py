"""What a type checker sees of the functions that return one thing or several; mypy reads it."""

from pathlib import Path
from typing import assert_type

import setmatch as sm
from setmatch.inference.pipeline import ImageResult
from setmatch.models.detector import Detector
from setmatch.structures.detections import Detection


def use(model: Detector, folder: Path) -> None:
    sm.predict(model, "a.jpg").draw(labels=False).save(folder / "drawn.png")
    found = sm.predict(model, folder / "a.jpg", threshold=0.5)
    assert_type(found, ImageResult)
    assert_type(found.above(0.5), ImageResult)
    assert_type(found.filter("cat", score=0.5), ImageResult)
    assert_type(found[0], Detection)
    assert_type(found[:3], ImageResult)
    assert_type([each.name for each in found], list[str])
    assert_type(sm.predict(model, ["a.jpg", folder]), list[ImageResult])
    for frame in sm.predict_video(model, "a.mp4", track=True):
        assert_type(frame.detections, ImageResult)
    assert_type(sm.Detections.from_dicts([], model.card.categories, (1, 1)), sm.Detections)
    assert_type(sm.Batch.from_images([]), sm.Batch)

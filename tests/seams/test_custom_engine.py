"""An engine from outside the package: predict, evaluate and compare run it."""

from collections.abc import Sequence
from pathlib import Path

import torch

import setmatch as sm
from setmatch.data.open import open_dataset
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.evaluation.compare.compare import compare
from setmatch.losses.classification import ClassificationLoss, Softmax
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import ModelCard, Preprocessing
from setmatch.structures.outputs import ModelOutput


class CenterEngine:
    """Detects an object of the first class in the center of every image."""

    class_loss: ClassificationLoss = Softmax()
    num_queries, default_threshold = 1, 0.5
    has_masks, fixed_queries = False, True

    def __init__(self, categories: sm.Categories) -> None:
        self.card = ModelCard("center", {}, categories, Preprocessing(64, 64))
        self.images = 0

    def detect(self, batch: Batch, sizes_px: Sequence[tuple[int, int]]) -> ModelOutput:
        self.images += len(batch.pixels)
        found = [
            sm.Detections(
                torch.tensor([[w / 4, h / 4, w * 3 / 4, h * 3 / 4]]),
                torch.tensor([0.9]),
                torch.tensor([0]),
                self.card.categories,
                (h, w),
            )
            for h, w in sizes_px
        ]
        return ModelOutput(found, None)


def test_an_engine_from_outside_predicts_and_is_evaluated_and_compared(tmp_path: Path):
    write_scenes(tmp_path, 1, 3, 64, 0, 0)
    dataset = open_dataset(tmp_path, "val")
    engine = CenterEngine(dataset.categories)
    results = sm.predict(engine, [dataset.path(0), dataset.path(1)])
    assert [each.xyxy_px.tolist() for each in results] == [[[16, 16, 48, 48]]] * 2
    report = sm.evaluate(engine, dataset, workers=0)
    assert (report.detections, engine.images) == (3, 5)
    (row,) = compare([engine], dataset, rounds=1, batch_size=1, workers=0).rows
    assert row.precision == report
    assert (row.name, row.cost.gmacs) == ("center", None)
    assert row.cost.images_per_s > 0

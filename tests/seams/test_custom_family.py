"""A model family from outside the package, named `package.module:factory`."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import nn

import setmatch as sm
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.losses.classification import Focal
from setmatch.models.detector import Detector

FACTORY = f"{__name__}:grid_detector"


class GridDetector(Detector):
    def __init__(self, num_classes: int, dim: int, cells: int) -> None:
        super().__init__()
        self.class_loss, self.num_queries = Focal(), cells * cells
        self.backbone = nn.Sequential(nn.Conv2d(3, dim, 8, 8), nn.AdaptiveAvgPool2d(cells))
        self.head = nn.Linear(dim, num_classes + 4)

    def forward(self, batch: sm.Batch, targets=()) -> tuple[sm.PredictionGroup, ...]:
        outputs = self.head(self.backbone(batch.pixels).flatten(2).mT)[None]
        predictions = sm.Predictions(outputs[..., 4:], outputs[..., :4].sigmoid())
        return (sm.PredictionGroup("main", predictions),)


@dataclass(frozen=True)
class GridShape:
    dim: int = 8
    cells: int = 3


def grid_detector(num_classes: int, shape: GridShape = GridShape()) -> Detector:
    return GridDetector(num_classes, shape.dim, shape.cells)


def test_a_custom_family_is_trained_saved_loaded_and_evaluated(tmp_path: Path):
    """It has no attention, which `explain` says."""
    data = tmp_path / "data"
    write_scenes(data, 8, 4, 64, seed=0, workers=0)
    options = {"out": tmp_path / "run", "epochs": 1, "device": "cpu"}
    run = sm.train(data, FACTORY, overrides=("data.workers=0", "train.batch_size=4"), **options)
    model = sm.load(run.folder)
    assert model.card.arguments == {"dim": 8, "cells": 3}
    assert run.best["AP"] == sm.evaluate(model, data, workers=0).AP
    image = next((data / "images").rglob("val*"))
    assert len(sm.predict(model, image, threshold=0)) == model.num_queries == 9
    with pytest.raises(sm.SetmatchError, match="there is no attention to show"):
        sm.explain(model, image)

"""A model family from outside the package, named `package.module:factory`."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import setmatch
from setmatch.errors import ConfigError, WeightsError
from setmatch.losses.classification import Focal
from setmatch.models.detector import Detector
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard
from setmatch.structures.outputs import PredictionGroup, Predictions

FACTORY = f"{__name__}:grid_detector"
PETS = Categories((3, 7), ("cat", "dog"))


class GridDetector(Detector):
    def __init__(self, num_classes: int, dim: int, cells: int) -> None:
        super().__init__()
        self.class_loss, self.num_queries = Focal(), cells * cells
        self.backbone = nn.Sequential(nn.Conv2d(3, dim, 8, 8), nn.AdaptiveAvgPool2d(cells))
        self.head = nn.Linear(dim, num_classes + 4)

    def forward(self, batch: Batch, targets=()) -> tuple[PredictionGroup, ...]:
        outputs = self.head(self.backbone(batch.pixels).flatten(2).mT)[None]
        return (PredictionGroup("main", Predictions(outputs[..., 4:], outputs[..., :4].sigmoid())),)


@dataclass(frozen=True)
class GridShape:
    dim: int = 8
    cells: int = 3


def grid_detector(num_classes: int, shape: GridShape = GridShape()) -> Detector:
    return GridDetector(num_classes, shape.dim, shape.cells)


def test_a_custom_family_is_built_saved_loaded_and_detects(tmp_path: Path):
    save(build(ModelCard(FACTORY, {"cells": 4}, PETS)), tmp_path)
    model = setmatch.load(tmp_path)
    assert model.card.arguments == {"dim": 8, "cells": 4}
    output = model.detect(Batch.from_images([torch.rand(3, 64, 96)]), [(640, 960)])
    assert len(output.detections[0]) == model.num_queries == 16
    card = tmp_path / "model.json"
    card.write_text(card.read_text().replace(FACTORY, "not_installed:factory"))
    with pytest.raises(WeightsError, match=r"import not_installed before .*--import not_installed"):
        setmatch.load(tmp_path)
    with pytest.raises(ConfigError, match="did you mean cells"):
        build(ModelCard(FACTORY, {"cels": 4}, PETS))
    with pytest.raises(ConfigError, match="not a factory of detectors"):
        build(ModelCard("os:system", {}, PETS))

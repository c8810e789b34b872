"""Models of random configs predict what transformers does; others are refused, never guessed.

Predictions are compared in float64, as random weights have many equal queries, of which rounding
would choose others.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

import setmatch
from setmatch.errors import WeightsError
from setmatch.models.detector import Detector
from thorough import usually

from ..comparison import assert_refused, predictions_of, random_pixels
from .drawn import DrawnConfig
from .families import FAMILIES

SEEDS = range(4)
CASES = [f"{family} {seed}" for seed in SEEDS for family in FAMILIES]
SLOWER = ("conditional", "dab", "deformable", "rfdetr_seg")  # with whole ResNets, or masks
QUICK = [f"{family} 0" for family in FAMILIES if family not in SLOWER]


def _compare(family: str, model: Detector, reference: Any, batches: list[Tensor]) -> None:
    for pixels in batches:
        logits, boxes = FAMILIES[family].every_layer(reference, pixels)
        ours = predictions_of(model, pixels)
        layers = len(logits)  # all, or the last one
        assert ours.logits[-layers:].shape == logits.shape
        assert torch.allclose(ours.logits[-layers:], logits, atol=1e-5)
        assert torch.allclose(ours.cxcywh[-layers:], boxes, atol=1e-6)
        if family == "rfdetr_seg":
            with torch.no_grad():
                masks = reference(pixel_values=pixels).pred_masks
            scale = masks.abs().max()
            assert torch.allclose(ours.masks / scale, masks / scale, atol=1e-6)


def _drawn(family: str, draw: Random, strange: bool) -> Iterator[tuple[DrawnConfig, Any]]:
    """Draw configs and build their models; leave out those that transformers does not allow."""
    for _ in range(30):
        drawn = FAMILIES[family].draw(draw)
        drawn = drawn.with_strange(draw) if strange else drawn
        try:
            yield drawn, FAMILIES[family].build(drawn)
        except Exception:
            if not strange:
                raise


def _runnable(family: str, draw: Random, strange: bool) -> tuple[DrawnConfig, Any, list[Tensor]]:
    """Return a config, its model in float64, and a batch of one and one of two that it can run."""
    for drawn, reference in _drawn(family, draw, strange):
        reference.double()
        sizes = [FAMILIES[family].size(draw, reference.config) for _ in range(2)]
        batches = [random_pixels(sizes[n - 1], n, torch.float64) for n in (1, 2)]
        try:
            for pixels in batches:
                FAMILIES[family].every_layer(reference, pixels)
        except Exception as error:
            # transformers cannot choose more queries than images have tokens.
            if not strange and "index k out of range" not in str(error):
                raise
            continue
        return drawn, reference, batches
    raise AssertionError(f"transformers could run none of 30 configs of {family}")


def check_predictions(family: str, seed: str, folder: Path) -> None:
    """Compare an ordinary config, which is read."""
    _, reference, batches = _runnable(family, Random(f"{family} {seed}"), strange=False)
    reference.save_pretrained(folder)
    _compare(family, setmatch.load(folder).double(), reference, batches)


def check_strange(family: str, seed: str, folder: Path) -> bool:
    """Compare a config with a strange setting and return True, or see it refused in one line."""
    draw = Random(f"strange {family} {seed}")
    drawn, reference, batches = _runnable(family, draw, strange=True)
    reference.save_pretrained(folder)
    try:
        model = setmatch.load(folder)
    except WeightsError:
        assert_refused(folder, ".")
        return False
    try:
        _compare(family, model.double(), reference, batches)
    except AssertionError as error:
        raise AssertionError(f"{drawn.changed} of {drawn.settings}: {error}") from error
    return True


@pytest.mark.parametrize("case", usually(CASES, *QUICK, "deformable 0"))
def test_a_random_config_predicts_what_transformers_does(case: str, tmp_path: Path):
    check_predictions(*case.split(), tmp_path)


@pytest.mark.parametrize("case", usually(CASES, *QUICK))
def test_a_strange_setting_is_read_as_it_is_or_refused(case: str, tmp_path: Path):
    check_strange(*case.split(), tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("family", FAMILIES)
def test_many_random_configs(family: str, tmp_path: Path):
    read = 0
    for seed in range(100, 140):
        check_predictions(family, str(seed), tmp_path / f"{seed}")
        read += check_strange(family, str(seed), tmp_path / f"strange{seed}")
    assert 0 < read < 40  # some are read, and some are not

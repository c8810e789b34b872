"""Losses and gradients of RT-DETR and RT-DETRv2 against transformers' on the same noise."""

from pathlib import Path

import pytest

import setmatch
from thorough import usually

from .rtdetr_losses import assert_losses_and_gradients_agree, keep_boxes_inside
from .small_rtdetr import small_rtdetr


@pytest.mark.parametrize("case", usually(["r18", "r50", "v2_r18", "v2_nearest"], "v2_nearest"))
@pytest.mark.parametrize("counts", [(3, 3), (4, 1), (0, 0)])
def test_every_loss_and_its_gradients(case: str, counts, monkeypatch, tmp_path: Path):
    reference = small_rtdetr(case)
    keep_boxes_inside(reference)
    reference.save_pretrained(tmp_path)
    assert_losses_and_gradients_agree(setmatch.load(tmp_path), reference, counts, monkeypatch)

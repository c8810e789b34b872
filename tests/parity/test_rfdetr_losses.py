"""Losses and gradients of RF-DETR, with all of its query groups, against transformers'."""

from pathlib import Path

import pytest

import setmatch
from thorough import usually

from .group_losses import assert_losses_and_gradients_agree
from .small_rfdetr import small_rfdetr


@pytest.mark.parametrize("counts", [(3, 3), (4, 1), (0, 5)])
@pytest.mark.parametrize("case", usually(["n", "b", "other"], "other"))
def test_losses_and_their_gradients(case: str, counts: tuple[int, ...], tmp_path: Path):
    reference = small_rfdetr(case)
    reference.save_pretrained(tmp_path)
    assert_losses_and_gradients_agree(setmatch.load(tmp_path), reference, counts)

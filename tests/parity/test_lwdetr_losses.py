"""Losses and gradients of LW-DETR, with all of its query groups, against transformers'."""

from pathlib import Path

import pytest

import setmatch

from .group_losses import assert_losses_and_gradients_agree
from .small_lwdetr import small_lwdetr


@pytest.mark.parametrize(
    ("case", "counts"), [("t", (4, 1)), ("l", (3, 3)), ("l", (0, 5)), ("other", (2, 6))]
)
def test_losses_and_their_gradients(case: str, counts: tuple[int, ...], tmp_path: Path):
    reference = small_lwdetr(case)
    reference.save_pretrained(tmp_path)
    assert_losses_and_gradients_agree(setmatch.load(tmp_path), reference, counts)

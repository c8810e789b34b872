"""Losses and gradients of DEIMv2 against transformers' on the same denoising noise.

Each layer has its own matches, as the authors train the sizes with a lite encoder.
"""

from pathlib import Path

import pytest
import torch
from transformers.models.deimv2 import modeling_deimv2

import setmatch

from .distribution_losses import assert_class_and_box_losses_agree, keep_boxes_inside
from .small_deimv2 import small_deimv2

LOSS = {"use_dense_one_to_one": False, "focal_loss_gamma": 1.5, "mal_alpha": None}


@pytest.mark.parametrize(("case", "counts"), [("n", (4, 1)), ("pico", (3, 3))])
def test_class_and_box_losses_and_their_gradients(
    case: str, counts: tuple[int, ...], monkeypatch, tmp_path: Path
):
    reference = small_deimv2(case, **LOSS)
    keep_boxes_inside(reference)
    reference.save_pretrained(tmp_path)
    model, inner = setmatch.load(tmp_path).train(), reference.train().model
    projections = inner.conv_encoder.encoder_input_proj
    parts = (
        (model.backbone, inner.conv_encoder.model),
        (model.encoder, torch.nn.ModuleList([projections, inner.encoder])),
        (model.decoder, inner.decoder),
        (model.denoising, inner.denoising_class_embed),
    )
    assert_class_and_box_losses_agree(
        model, reference, counts, "loss_mal", modeling_deimv2, parts, monkeypatch
    )

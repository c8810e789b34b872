"""Models of random configs have the losses and gradients of transformers, on the same noise."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from transformers.models.d_fine import modeling_d_fine
from transformers.models.deimv2 import modeling_deimv2

import setmatch
from thorough import usually

from .. import distribution_losses, group_losses, rtdetr_losses, set_losses
from .families import FAMILIES

SEEDS = range(4)
COUNTS = ((3, 3), (4, 1), (0, 4))
MODELING = {"dfine": modeling_d_fine, "deimv2": modeling_deimv2}
TERMS = {"dfine": "loss_vfl", "deimv2": "loss_mal"}
# As the authors train models with a lite encoder; transformers does not pool matches, either.
DEIM_LOSS = {"use_dense_one_to_one": False, "focal_loss_gamma": 1.5, "mal_alpha": None}


def _trainable(family: str, draw: Random) -> tuple[Any, tuple[int, int]]:
    """Return a model with denoising and more than one decoder layer, and a size of images.

    It has no more queries than small images have tokens. Without denoising, transformers has other
    losses; a single layer it does not train by itself.
    """
    while True:
        drawn = FAMILIES[family].draw(draw)
        _, model = drawn.settings
        if model["decoder_layers"] > 1 and model.get("num_denoising", 1):
            model |= DEIM_LOSS if family == "deimv2" else {}
            model |= {"num_queries": 4, "two_stage_num_proposals": 4}
            model["freeze_backbone_batch_norms"] = True
            reference = FAMILIES[family].build(drawn)
            return reference, FAMILIES[family].size(draw, reference.config)


def _cases(*families: str) -> list[Any]:
    """Return cases of some families, of which the first of the last family is quick."""
    return usually([f"{each} {seed}" for seed in SEEDS for each in families], f"{families[-1]} 0")


@pytest.mark.parametrize("case", _cases("lwdetr", "rfdetr"))
def test_losses_of_query_groups(case: str, tmp_path: Path):
    family, _ = case.split()
    draw = Random(f"losses {case}")
    reference, size_px = _trainable(family, draw)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    counts = draw.choice(COUNTS)
    group_losses.assert_losses_and_gradients_agree(model, reference, counts, size_px)


@pytest.mark.parametrize("case", _cases("conditional", "dab", "deformable"))
def test_losses_of_models_on_resnet(case: str, tmp_path: Path):
    family, _ = case.split()
    draw = Random(f"losses {case}")
    reference, size_px = _trainable(family, draw)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    compare = (
        set_losses.assert_losses_of_deformable_detr_agree
        if family == "deformable"
        else set_losses.assert_losses_of_placed_queries_agree
    )
    compare(model, reference, draw.choice(COUNTS), size_px)


@pytest.mark.parametrize("case", _cases("rtdetr", "rtdetr_v2"))
def test_losses_of_rtdetr(case: str, monkeypatch, tmp_path: Path):
    family, _ = case.split()
    draw = Random(f"losses {case}")
    reference, size_px = _trainable(family, draw)
    rtdetr_losses.keep_boxes_inside(reference)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    rtdetr_losses.assert_losses_and_gradients_agree(
        model, reference, draw.choice(COUNTS), monkeypatch, size_px
    )


@pytest.mark.parametrize("case", _cases("dfine", "deimv2"))
def test_losses_of_distributions(case: str, monkeypatch, tmp_path: Path):
    family, _ = case.split()
    draw = Random(f"losses {case}")
    reference, size_px = _trainable(family, draw)
    distribution_losses.keep_boxes_inside(reference)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path).train()
    inner = reference.train().model
    parts = ((model.decoder, inner.decoder), (model.denoising, inner.denoising_class_embed))
    distribution_losses.assert_class_and_box_losses_agree(
        model,
        reference,
        draw.choice(COUNTS),
        TERMS[family],
        MODELING[family],
        parts,
        monkeypatch,
        size_px,
        # transformers needs float32 here, whose rounding moves a loss of one case by 2.4e-4.
        rel=1e-3,
    )

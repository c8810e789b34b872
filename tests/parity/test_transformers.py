"""Against transformers' DETR, with masks and without, built from its config: both directions."""

from pathlib import Path

import pytest
import torch
from transformers import DetrConfig, DetrForObjectDetection, DetrForSegmentation, ResNetConfig
from transformers.utils import logging as transformers_logging

import setmatch
from setmatch.models.load import convert_weights
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions
from thorough import usually

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

CASES = {
    "r50": {},
    "r50_dc5": {"dilation": True},
    "r50_learned": {"position_embedding_type": "learned"},
    "r50_other_shape": {
        "d_model": 64,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96,
        "num_queries": 17,
        "decoder_layers": 3,
    },
}


MASK_CASES = {
    "r50_panoptic": {},
    "r50_dc5_panoptic": {"dilation": True},
    "r101_panoptic": {"backbone": "resnet101"},
    "r50_panoptic_other_shape": CASES["r50_other_shape"]
    | {"encoder_attention_heads": 8, "decoder_attention_heads": 8},
}


def _reference(kind=DetrForObjectDetection, **changes):
    settings = {"num_labels": 7, "encoder_layers": 2, "decoder_layers": 2, "auxiliary_loss": True}
    torch.manual_seed(0)
    reference = kind(DetrConfig(**(settings | changes))).eval()
    with torch.no_grad():  # frozen norms start as identities: make them matter
        for name, buffer in reference.named_buffers():
            if name.endswith(("running_mean", "bn1.bias", "bn2.bias", "bn3.bias")):
                buffer.uniform_(-0.2, 0.2)
            if name.endswith("running_var"):
                buffer.uniform_(0.7, 1.5)
    return reference


def _images() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(3, 96, 128), torch.randn(3, 128, 80)]


def _reference_outputs(reference: DetrForObjectDetection) -> tuple[torch.Tensor, torch.Tensor]:
    batch = Batch.from_images(_images())
    with torch.no_grad():
        out = reference(pixel_values=batch.pixels, pixel_mask=batch.valid.long())
    return out.logits, out.pred_boxes


def _our_outputs(model) -> Predictions:
    with torch.no_grad():
        return model(Batch.from_images(_images()))[0].predictions


@pytest.mark.parametrize("case", usually(CASES, "r50_other_shape"))
def test_a_transformers_folder_predicts_the_same_here_and_converted_back(case: str, tmp_path: Path):
    """Logits and boxes of a padded batch."""
    reference = _reference(**CASES[case])
    logits, boxes = _reference_outputs(reference)
    reference.save_pretrained(tmp_path / "theirs")

    ours = _our_outputs(setmatch.load(tmp_path / "theirs"))
    assert torch.allclose(ours.logits[-1], logits, atol=1e-4)
    assert torch.allclose(ours.cxcywh[-1], boxes, atol=1e-5)

    convert_weights(tmp_path / "theirs", tmp_path / "ours", "setmatch")
    convert_weights(tmp_path / "ours", tmp_path / "back", "transformers")
    again, report = DetrForObjectDetection.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not any(report.values())
    logits_again, boxes_again = _reference_outputs(again.eval())
    assert torch.allclose(logits_again, logits, atol=1e-4)
    assert torch.allclose(boxes_again, boxes, atol=1e-5)


@pytest.mark.parametrize("case", usually(MASK_CASES, "r50_panoptic_other_shape"))
def test_masks_of_a_transformers_folder_are_the_same_here_and_converted_back(
    case: str, tmp_path: Path
):
    reference = _reference(DetrForSegmentation, **MASK_CASES[case])
    batch = Batch.from_images(_images())
    with torch.no_grad():
        theirs = reference(pixel_values=batch.pixels, pixel_mask=batch.valid.long())
    reference.save_pretrained(tmp_path / "theirs")

    model = setmatch.load(tmp_path / "theirs")
    assert model.card.preset == f"detr_{case.removesuffix('_other_shape')}"
    ours = _our_outputs(model)
    assert torch.allclose(ours.masks, theirs.pred_masks, atol=1e-3)
    assert torch.allclose(ours.logits[-1], theirs.logits, atol=1e-4)
    assert torch.allclose(ours.cxcywh[-1], theirs.pred_boxes, atol=1e-5)

    convert_weights(tmp_path / "theirs", tmp_path / "back", "transformers")
    again, report = DetrForSegmentation.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        masks = again.eval()(pixel_values=batch.pixels, pixel_mask=batch.valid.long()).pred_masks
    assert torch.allclose(masks, theirs.pred_masks, atol=1e-4)


def test_transformers_own_resnet_is_read_too(tmp_path: Path):
    """Checkpoints without timm name the backbone's tensors differently."""
    config = DetrConfig(
        backbone_config=ResNetConfig(depths=[3, 4, 6, 3], out_features=["stage4"]),
        num_labels=7,
        encoder_layers=1,
        decoder_layers=1,
    )
    torch.manual_seed(0)
    reference = DetrForObjectDetection(config).eval()
    reference.save_pretrained(tmp_path / "theirs")
    logits, _ = _reference_outputs(reference)
    ours = _our_outputs(setmatch.load(tmp_path / "theirs"))
    assert torch.allclose(ours.logits[-1], logits, atol=1e-4)

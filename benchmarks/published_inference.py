"""Float32 inference at the size of each model, compared with transformers of the same weights.

One thread; the seconds are those of the processor, so that other programs do not count.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForObjectDetection,
    LwDetrConfig,
    LwDetrForObjectDetection,
    PreTrainedModel,
    RfDetrConfig,
    RfDetrForObjectDetection,
)

from setmatch.models.detector import Detector
from setmatch.models.load import convert_weights, load, save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from timing import publish, time_interleaved

SIZE = (640, 640)
CLASSES = 80
PRESETS = ("rtdetr_r18", "rtdetr_v2_r18", "dfine_s")
TOLERANCE = 1e-3  # of logits; the queries are sorted, as rounding may swap two of them


def both(preset: str) -> tuple[Detector, Any]:
    """Return a model with random weights, and transformers' model with the same."""
    names = Categories(tuple(range(CLASSES)), tuple(f"c{index}" for index in range(CLASSES)))
    preprocessing = Preprocessing(*SIZE, size_px=SIZE)
    torch.manual_seed(0)
    ours = build(ModelCard(preset, {}, names, preprocessing)).eval()
    with torch.no_grad():  # heads start at zero, and all tokens alike
        for parameter in ours.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    with TemporaryDirectory() as folder:
        save(ours, Path(folder, "ours"))
        convert_weights(Path(folder, "ours"), Path(folder, "theirs"), "transformers")
        theirs = AutoModelForObjectDetection.from_pretrained(Path(folder, "theirs"))
    return ours.to(memory_format=torch.channels_last), theirs.eval()


RFDETR_N = {
    "backbone_config": {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "mlp_ratio": 4,
        "patch_size": 16,
        "image_size": 384,
        "num_windows": 2,
        "out_features": ["stage3", "stage6", "stage9", "stage12"],
    },
    "decoder_layers": 2,
    "decoder_n_points": 2,
    "num_queries": 300,
    "group_detr": 13,
    "num_labels": 91,
    "dropout": 0.0,  # of training, where ours has none
    "layer_norm_eps": 1e-6,
}


LWDETR_T = {
    "backbone_config": {
        "model_type": "lw_detr_vit",
        "hidden_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "mlp_ratio": 4,
        "patch_size": 16,
        "image_size": 1024,
        "pretrain_image_size": 224,
        "num_windows": 16,
        "window_block_indices": [0, 2, 4],
        "out_indices": [2, 4, 6],
    },
    "projector_scale_factors": [1.0],
    "decoder_n_points": 2,
    "num_queries": 100,
    "num_labels": 91,
}


def both_rfdetr_n() -> tuple[Detector, Any]:
    """Return transformers' RF-DETR-N with random weights, and ours with the same."""
    return _read_from(RfDetrForObjectDetection, RfDetrConfig(**RFDETR_N), "rfdetr_n")


def both_lwdetr_t() -> tuple[Detector, Any]:
    """Return transformers' LW-DETR-Tiny with random weights, and ours with the same."""
    return _read_from(LwDetrForObjectDetection, LwDetrConfig(**LWDETR_T), "lwdetr_t")


def _read_from(model: type[PreTrainedModel], config: Any, preset: str) -> tuple[Detector, Any]:
    """Return transformers' model with random weights, and ours with the same, read from it."""
    torch.manual_seed(0)
    theirs = model(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load(folder)
    assert ours.card.preset == preset
    return ours, theirs


def largest_scores(logits: Tensor) -> Tensor:
    """Return the best logit of every query, the largest first."""
    return logits[0].amax(-1).sort(descending=True).values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    contestants: dict[str, tuple[Callable[[], tuple[Detector, Any]], tuple[int, int]]]
    contestants = {preset: (partial(both, preset), SIZE) for preset in PRESETS}
    contestants["rfdetr_n"] = (both_rfdetr_n, (384, 384))
    ratios: dict[str, float] = {}
    for preset, (build_both, size_px) in contestants.items():
        image = torch.rand(3, *size_px, generator=torch.Generator().manual_seed(1))
        batch = Batch.from_images([image])
        ours, theirs = build_both()
        with torch.inference_mode():
            found = largest_scores(ours(batch)[0].predictions.logits[-1])
            expected = largest_scores(theirs(image[None]).logits)
            assert torch.allclose(found, expected, atol=TOLERANCE), "not the same model"
            seconds = time_interleaved(
                {"setmatch": partial(ours, batch), "transformers": partial(theirs, image[None])},
                options.rounds,
                clock=time.process_time,
            )
        ratios[preset] = round(seconds["transformers"] / seconds["setmatch"], 3)
    publish(
        "one image, at the size of the model",
        {"times_as_fast_as_transformers": ratios},
        options.json,
    )


if __name__ == "__main__":
    main()

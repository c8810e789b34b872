"""Float32 inference of detr_r50 on one 800×1066 image, compared with transformers' model."""

import argparse
from pathlib import Path

import torch
from transformers import DetrConfig, DetrForObjectDetection

from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard
from timing import publish, time_interleaved

SIZE = (800, 1066)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dilated", action="store_true", help="use DC5 in both")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = Categories(tuple(range(91)), tuple(f"c{class_index}" for class_index in range(91)))
    preset = "detr_r50_dc5" if options.dilated else "detr_r50"
    ours = build(ModelCard(preset, {}, names)).eval().to(device)
    ours = ours.to(memory_format=torch.channels_last)
    config = DetrConfig(num_labels=91, dilation=options.dilated, attn_implementation="sdpa")
    reference = DetrForObjectDetection(config).eval().to(device)
    image = torch.randn(3, *SIZE, device=device)
    batch = Batch.from_images([image])
    with torch.inference_mode():
        seconds = time_interleaved(
            {"setmatch": lambda: ours(batch), "transformers": lambda: reference(image[None])},
            options.rounds,
        )
    ratio = seconds["transformers"] / seconds["setmatch"]
    publish(
        f"{preset} 1x3x800x1066", {"times_as_fast_as_transformers": round(ratio, 3)}, options.json
    )


if __name__ == "__main__":
    main()

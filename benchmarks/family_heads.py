"""The published mask head on setmatch_n, compared with the light one: cost and quality.

Both are trained together with the boxes on the demo's landscapes, with the demo's settings and the
same seed and minutes. On a shared machine, use minutes of CPU time:

    python benchmarks/candidates/cpu_clock.py benchmarks/family_heads.py OUT --json FILE

The same command resumes an interrupted benchmark.
"""

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

import setmatch as sm
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.demo.demo import SEED, SETTINGS, SIZE_PX
from setmatch.models.detector import Detector
from setmatch.models.layers.cells import Cells
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.detr_mask_head import DETRMaskHead
from setmatch.models.registry import MODELS
from setmatch.models.setmatch.config import NANO, MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.models.setmatch.presets import setmatch_n_panoptic
from setmatch.structures.outputs import MaskDecoder
from timing import publish

LIGHT, PUBLISHED = "setmatch_n_panoptic", "setmatch_n_panoptic_attention"
APART = f"{PUBLISHED}_apart"  # its attention is trained by AdamW, not by Muon


class AttentionOnMemory(nn.Module):
    """The published head with the interface of the light one: it upsamples the encoder's levels.

    The finest level is the backbone's at stride 4, as for the light head. Convolutions and
    attention have the same input, since features before the encoder are not available.
    """

    def __init__(self, dim: int, heads: int, finest_channels: int) -> None:
        super().__init__()
        self.head = DETRMaskHead(dim, heads, (finest_channels, dim, dim))
        # Muon skips layers of this name, which compute logits, as in the light head.
        self.head.add_module("out", nn.Sequential(OrderedDict(last=self.head.out)))

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        finest: Float[Tensor, "B C h w"],
        finest_cells: Cells | None = None,
    ) -> MaskDecoder:
        """Return the mask decoder; boxes are ignored."""
        counts = [height * width for height, width in memory.shapes]
        levels = [
            torch.unflatten(tokens.transpose(1, 2), 2, size)
            for tokens, size in zip(
                torch.split(memory.tokens, counts, 1), memory.shapes, strict=True
            )
        ]
        cells = memory.tokens[:, -counts[-1] :]
        valid = None if memory.valid is None else memory.valid[:, None, None, -counts[-1] :]
        on_images = None if memory.cells is None else (finest_cells, *memory.cells)
        return self.head(content, cells, cells, (finest, *levels), valid, on_images)


def attention_preset(num_classes: int, shape: MultiScaleShape = NANO) -> Detector:
    detector = setmatch_n_panoptic(num_classes, shape)
    assert isinstance(detector, SetMatchDetector), "the preset builds a SetMatchDetector"
    channels = cast(tuple[int, ...], detector.backbone.channels)
    detector.mask_head = AttentionOnMemory(shape.dim, shape.heads, channels[0])
    return detector


def attention_apart(num_classes: int, shape: MultiScaleShape = NANO) -> Detector:
    detector = attention_preset(num_classes, shape)
    attention = cast(AttentionOnMemory, detector.mask_head).head.attention
    for name in ("query", "key"):
        attention.add_module(name, nn.Sequential(OrderedDict(last=getattr(attention, name))))
    return detector


def trained(preset: str, options: argparse.Namespace) -> dict[str, object]:
    data, folder = options.out / "data", options.out / preset
    run = sm.train(
        data,
        recipe=LIGHT,
        out=folder,
        weights="none",  # bundled weights exist for the light head only
        overrides=[*SETTINGS, f"model.preset={preset}", f"train.seed={options.seed}"],
        minutes=options.minutes,
        resume=True,
        device="cpu",
        format="panoptic",
    )
    assert isinstance(run.model.mask_head, nn.Module), "the presets have a mask head"
    report = sm.evaluate(run.model, data, workers=0)
    assert report.panoptic is not None, "the scenes have segments"
    assert report.masks is not None, "the scenes have masks"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    quality = report.panoptic
    return {
        "head_parameters": sum(p.numel() for p in run.model.mask_head.parameters()),
        "steps": max(row["step"] for row in rows),
        "PQ": {name: getattr(quality, name).PQ for name in ("all", "things", "stuff")},
        "mask_AP": report.masks.AP,
        "box_AP": report.AP,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the scenes and the two runs")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", default="nothing", help="other load on the machine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    MODELS.update({PUBLISHED: attention_preset, APART: attention_apart})
    data = options.out / "data"
    if not (data / "annotations" / "val.json").exists():  # written last
        write_scenes(data, options.scenes, options.scenes // 10, SIZE_PX, SEED, 0, panoptic=True)
    results: dict[str, object] = {n: trained(n, options) for n in (LIGHT, PUBLISHED, APART)}
    results["beside"] = options.beside
    publish("two mask heads on setmatch_n, in equal time", results, options.json)


if __name__ == "__main__":
    main()

"""RT-DETR and D-FINE of transformers, from their configurations, with random weights.

A plain training loop with their own loss: AdamW, warm-up and cosine schedule over time, flips,
square inputs as published, images resized in advance and held in memory, and their moving average.
benchmarks/train_transformers.py trains one of them. Evaluations during training do not count as
training time.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from candidates.experiment import (
    Experiment,
    Result,
    best_index,
    evaluate_detections,
    val_point,
    write_json,
)
from setmatch.data.dataset import DetectionDataset
from setmatch.data.images.image_io import read_image
from setmatch.data.open import open_dataset
from setmatch.distributed import choose_precision
from setmatch.errors import DataError
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Target
from setmatch.structures.detections import Detections

PROGRAM = Path(__file__).parents[1] / "train_transformers.py"
BATCH, CLIP, DECAY, WARMUP = 8, 0.1, 1e-4, 0.02
EMA_DECAY, EMA_STEPS = 0.9999, 2000  # as published for both; EMA_STEPS: warm-up of the decay
EVALUATE_AT = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # fractions of the time budget
MAX_DETECTIONS = 100  # per image, as in COCO


@dataclass(frozen=True)
class TransformersModel:
    """A model of transformers and its learning rate; inputs are squares."""

    model: str
    rate: str

    @property
    def name(self) -> str:
        """Return the model's name with its learning rate."""
        return f"{self.model}@{self.rate}"

    def command(self, experiment: Experiment, folder: Path) -> list[str]:
        """Return the command that runs `main` of this file."""
        given = [self.model, str(experiment.data), str(folder), "--rate", self.rate]
        given += ["--side", str(experiment.side_px), "--minutes", f"{experiment.minutes:g}"]
        given += ["--seed", str(experiment.seed), *(["--test"] if experiment.test else [])]
        return experiment.clocked(Path(sys.executable), [str(PROGRAM), *given])

    def evaluate(self, experiment: Experiment, folder: Path) -> Result:
        """Evaluate the saved detections."""
        tree = json.loads((folder / "evaluations.json").read_text())
        val = tuple(
            val_point(minutes, folder / f"val_{number}.json", experiment)
            for number, minutes in enumerate(tree["minutes"])
        )
        best = folder / f"test_{best_index(val)}.json"
        test = evaluate_detections(best, experiment, "test") if experiment.test else {}
        return Result(val, test, tree["steps"], tree["about"])


def rtdetr_r18(classes: int, side_px: int) -> nn.Module:
    """RT-DETR on ResNet-18 as published (arXiv 2304.08069), with trained batch norms."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
        freeze_backbone_batch_norms=False,
        num_queries=_queries(side_px, (8, 16, 32)),
        num_labels=classes,
    )
    return RTDetrForObjectDetection(config)


def dfine_n(classes: int, side_px: int) -> nn.Module:
    """D-FINE-N as published (arXiv 2410.13842), with trained batch norms."""
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 16, 16],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        hidden_sizes=[128, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3, 3, 3, 3],
        use_learnable_affine_block=True,
        out_indices=[3, 4],
    )
    config = DFineConfig(
        backbone_config=backbone,
        num_feature_levels=2,
        encoder_in_channels=[512, 1024],
        encoder_hidden_dim=128,
        encoder_ffn_dim=512,
        encode_proj_layers=[1],
        feat_strides=[16, 32],
        d_model=128,
        decoder_in_channels=[128, 128],
        decoder_ffn_dim=512,
        decoder_n_points=[6, 6],
        decoder_layers=3,
        depth_mult=0.5,
        hidden_expansion=0.34,
        freeze_backbone_batch_norms=False,
        num_queries=_queries(side_px, (16, 32)),
        num_labels=classes,
    )
    return DFineForObjectDetection(config)


def _queries(side_px: int, strides: tuple[int, ...]) -> int:
    """Return the published 300, or the number of feature cells of a small image."""
    return min(300, sum((side_px // stride) ** 2 for stride in strides))


MODELS = {"rtdetr_r18": rtdetr_r18, "dfine_n": dfine_n}
TRANSFORMERS_MODELS = tuple(
    TransformersModel(model, rate) for model in MODELS for rate in ("2e-4", "8e-4")
)


class Images:
    """The readable images of a split, as squares in memory, with their targets."""

    def __init__(self, dataset: DetectionDataset, side_px: int) -> None:
        self.dataset, self.positions, squares = dataset, [], []
        for position in range(len(dataset)):
            try:
                pixels = read_image(dataset.path(position), dataset.size_px(position))
            except DataError as error:
                print(f"skipped: {error}")
                continue
            squares.append(F.resize(pixels, [side_px, side_px], antialias=True))
            self.positions.append(position)
        self.squares = torch.stack(squares)
        self.targets = [dataset.target(position) for position in self.positions]

    def batches(self, seed: int) -> Iterator[tuple[Tensor, list[dict[str, Tensor]]]]:
        """Return batches without end, every image once an epoch, every other one mirrored."""
        random = torch.Generator().manual_seed(seed)
        order: list[int] = []
        while True:
            while len(order) < BATCH:
                order += torch.randperm(len(self.positions), generator=random).tolist()
            chosen, order = order[:BATCH], order[BATCH:]
            mirrored = torch.rand(BATCH, generator=random) < 0.5
            pixels = self.squares[chosen].float() / 255
            pixels[mirrored] = pixels[mirrored].flip(-1)
            pairs = zip(chosen, mirrored.tolist(), strict=True)
            yield pixels, [_label(self.targets[position], flip) for position, flip in pairs]


def _label(target: Target, flip: bool) -> dict[str, Tensor]:
    boxes = target.cxcywh.clone()
    if flip:
        boxes[:, 0] = 1 - boxes[:, 0]
    return {"class_labels": target.classes, "boxes": boxes}


@torch.no_grad()
def write_detections(model: nn.Module, images: Images, path: Path) -> None:
    """Write the best detections of every image as COCO results."""
    rows: list[dict[str, Any]] = []
    dataset = images.dataset
    for first in range(0, len(images.positions), BATCH):
        outputs = model(pixel_values=images.squares[first : first + BATCH].float() / 255)
        scores = outputs.logits.float().sigmoid().flatten(1)
        best = scores.topk(min(MAX_DETECTIONS, scores.shape[1]))
        for number, position in enumerate(images.positions[first : first + BATCH]):
            height, width = dataset.size_px(position)
            classes = outputs.logits.shape[-1]
            boxes = outputs.pred_boxes[number].float()[best.indices[number] // classes]
            detections = Detections(
                cxcywh_to_xyxy(boxes) * torch.tensor([width, height, width, height]),
                best.values[number],
                best.indices[number] % classes,
                dataset.categories,
                (height, width),
            )
            image = {"image_id": int(dataset.image_ids[position])}
            rows += [image | row for row in detections.to_dicts()]
    write_json(path, rows)


class EMA:
    """The published moving average of the weights, whose decay grows with the steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.steps = copy.deepcopy(model).eval().requires_grad_(False), 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move toward the weights of `model`."""
        self.steps += 1
        keep = EMA_DECAY * (1 - math.exp(-self.steps / EMA_STEPS))
        for average, current in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(current, 1 - keep)
            else:
                average.copy_(current)


def lr_factor(progress: float) -> float:
    """Return the factor of the learning rate: warm-up, then cosine."""
    return min(1.0, (progress + 1e-3) / WARMUP) * 0.5 * (1 + math.cos(math.pi * progress))


def run(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    training = Images(open_dataset(options.data, "train"), options.side)
    evaluated = {
        split: Images(open_dataset(options.data, split), options.side)
        for split in ("val", *(["test"] if options.test else []))
    }
    model = MODELS[options.model](len(training.dataset.categories), options.side).train()
    model = model.to(memory_format=torch.channels_last)
    average = EMA(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, weight_decay=DECAY, fused=True)
    precision = choose_precision("auto", torch.device("cpu"))  # as setmatch
    batches, due = training.batches(options.seed), list(EVALUATE_AT)
    clock_s, steps = 0.0, 0
    minutes: list[float] = []
    while due:
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = options.rate * lr_factor(clock_s / (60 * options.minutes))
        pixels, labels = next(batches)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model(pixel_values=pixels, labels=labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)
        steps += 1
        clock_s += time.perf_counter() - started
        if steps % 10 == 1:
            print(f"step {steps}, {clock_s:.0f} s, loss {loss.item():.3f}", flush=True)
        if clock_s >= 60 * options.minutes * due[0]:
            due = [each for each in due if clock_s < 60 * options.minutes * each]
            for split, images in evaluated.items():
                write_detections(
                    average.model, images, options.out / f"{split}_{len(minutes)}.json"
                )
            minutes.append(clock_s / 60)
    count = sum(parameter.numel() for parameter in model.parameters())
    about = {"lr": options.rate, "square_px": options.side, "batch": BATCH, "parameters": count}
    write_json(
        options.out / "evaluations.json", {"minutes": minutes, "steps": steps, "about": about}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true")
    run(parser.parse_args())

"""What comparisons of a model with its published code have in common."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from shutil import copyfile, copytree
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import setmatch
from setmatch.errors import WeightsError
from setmatch.models.detector import Detector
from setmatch.models.load import convert_weights
from setmatch.models.registry import MODELS
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import Predictions

MADE = TemporaryDirectory(prefix="setmatch_parity_")


def random_pixels(size_px: tuple[int, int], images: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, 3, *size_px, generator=generator, dtype=dtype)


def whole_images(pixels: Tensor) -> Batch:
    """A batch of images without padding."""
    return Batch(pixels, torch.ones(len(pixels), *pixels.shape[-2:], dtype=torch.bool), False)


def predictions_of(model: Detector, pixels: Tensor) -> Predictions:
    with torch.no_grad():
        return model(whole_images(pixels))[0].predictions


def assert_every_layer_predicts_the_same(
    model: Detector,
    reference: Any,
    every_layer: Callable[[Any, Tensor], tuple[Tensor, Tensor]],
    sizes: Iterable[tuple[tuple[int, int], int]],
) -> None:
    """For each size of a batch (height, width; images), compare logits and boxes of all layers.

    In float32, rounding decides among equal queries; float64 leaves only other differences.
    """
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        reference.to(dtype)
        for size_px, images in sizes:
            pixels = random_pixels(size_px, images, dtype)
            logits, boxes = every_layer(reference, pixels)
            ours = predictions_of(model, pixels)
            assert ours.logits.shape == logits.shape
            assert torch.allclose(ours.logits, logits, atol=1e-4)
            assert torch.allclose(ours.cxcywh, boxes, atol=1e-5)


def gradient_norm(*parts: nn.Module) -> float:
    """The norm of the gradients of all parameters; 0 without any."""
    grads = [p.grad for part in parts for p in part.parameters() if p.grad is not None]
    return math.hypot(*(grad.norm().item() for grad in grads))


def millions_of_parameters(preset: str, num_classes: int) -> float:
    with torch.device("meta"):
        model = MODELS[preset](num_classes)
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@cache
def _made_once(make: Callable[..., Any], *case: str) -> Path:
    folder = Path(mkdtemp(dir=MADE.name))
    make(*case).save_pretrained(folder / "theirs")
    return folder


def write_theirs(folder: Path, make: Callable[..., Any], *case: str) -> None:
    """Write a small model of transformers, which is made once, into a folder."""
    copytree(_made_once(make, *case) / "theirs", folder, dirs_exist_ok=True)


def write_authors(path: Path, make: Callable[..., Any], *case: str) -> None:
    """Write a file of the authors' layout with the tensors of a small model of transformers."""
    made = _made_once(make, *case)
    if not (made / "model.pth").exists():
        convert_weights(made / "theirs", made / "model.pth", "original")
    copyfile(made / "model.pth", path)


def assert_refused(path: Path, problem: str) -> None:
    """Loading ends in one line, with the path and the `problem`, a regular expression."""
    with pytest.raises(WeightsError, match=problem) as caught:
        setmatch.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def load_from_objects365(path: Path) -> Detector:
    """Load weights that are refused until the terms of Objects365 are accepted, and keep them."""
    assert_refused(path, 'accept_license="objects365"')
    model = setmatch.load(path, accept_license="objects365")
    assert model.card.license == "objects365"
    return model


def replace_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Let the hub give `folder` for every repository; return the list of what it is asked for."""
    asked = []

    def download(repository: str, revision: str | None, **_: object) -> str:
        asked.append((repository, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked

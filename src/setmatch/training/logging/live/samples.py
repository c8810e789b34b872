"""RUN/live.json: what the live page shows beside curves, of bounded size, kept by a resumed run."""

import io
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from jaxtyping import UInt8
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from setmatch.files.reading import read_text
from setmatch.files.writing import write_text

SAMPLES = "live.json"
MOST_LETTERS = 80  # of a name on the page
MOST_EVALUATIONS = 60  # with images; a longer run keeps evenly spaced ones
# Side in pixels and quality of a JPEG, the first of which that is small enough.
_SIZES = ((240, 75), (240, 45), (160, 40), (96, 30))
_MOST_BYTES = 16_000  # of a JPEG

# Corner, width and height in thousandths of the image, class index, and score in percent.
Mark = tuple[int, int, int, int, int, int]
Uri = Annotated[str, Field(pattern="^data:image/jpeg;base64,[A-Za-z0-9+/=]*$")]


@dataclass(frozen=True)
class SampleImage:
    """A small image with its objects; `size_px` is (width, height)."""

    name: str
    uri: Uri
    size_px: tuple[int, int]
    objects: tuple[Mark, ...]
    image_id: int = -1


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found: marks of each image, scores of classes in thousandths."""

    step: int
    score: float | None
    marks: tuple[tuple[Mark, ...], ...]
    class_scores: tuple[int | None, ...]


@dataclass(frozen=True)
class Samples:
    """The first batch; images to validate on and what was found there; scores of `classes`.

    `classes` are names with how many objects there are to find, of `all_classes`; `measure` is what
    their scores are.
    """

    batch: tuple[SampleImage, ...] = ()
    images: tuple[SampleImage, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    classes: tuple[tuple[str, int], ...] = ()
    all_classes: int = 0
    measure: str = "AP"

    def up_to(self, step: int) -> "Samples":
        """Return the samples of a run that is resumed after `step` steps."""
        kept = tuple(each for each in self.evaluations if each.step <= step)
        return replace(self, evaluations=kept)

    def plus(self, evaluation: Evaluation) -> "Samples":
        """Return the samples with another evaluation, in place of one after the same step."""
        earlier = (each for each in self.evaluations if each.step < evaluation.step)
        return replace(self, evaluations=thinned((*earlier, evaluation)))


def thinned(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """Leave out one of too many evaluations: that which leaves the smallest gap, never an end."""
    if len(evaluations) <= MOST_EVALUATIONS:
        return tuple(evaluations)
    steps = [each.step for each in evaluations]
    gaps = [(steps[at + 1] - steps[at - 1], at) for at in range(1, len(steps) - 1)]
    _, least = min(gaps)
    return (*evaluations[:least], *evaluations[least + 1 :])


def save_samples(samples: Samples, run: Path) -> None:
    """Write the file, whole or not at all."""
    write_text(run / SAMPLES, json.dumps(asdict(samples), separators=(",", ":")))


def load_samples(run: Path, step: int) -> Samples:
    """Return the samples of a run that is resumed after `step` steps.

    Where the file is missing or damaged there are none: no training is lost for images.
    """
    try:
        text = read_text(run / SAMPLES)
        return TypeAdapter(Samples).validate_json(text).up_to(step) if step else Samples()
    except (OSError, ValueError, ValidationError, RecursionError):
        return Samples()


def small_jpeg_uri(pixels: UInt8[Tensor, "3 H W"]) -> tuple[str, tuple[int, int]]:
    """Return an image of few bytes as a data: URI, and its (width, height)."""
    original = Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())
    data, size_px = b"", original.size
    for side_px, quality in _SIZES:
        image = original.copy()
        image.thumbnail((side_px, side_px))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        data, size_px = file.getvalue(), image.size
        if len(data) <= _MOST_BYTES:
            break
    return f"data:image/jpeg;base64,{b64encode(data).decode()}", size_px

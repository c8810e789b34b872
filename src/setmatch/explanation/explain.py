"""Why a model answered as it did for one picture: a page to click on, and plain pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from setmatch.data.image_io import from_pillow, read_image
from setmatch.data.transforms import preprocess
from setmatch.errors import ConfigError, DataError
from setmatch.files import require_file, require_folder
from setmatch.inference.engines.eager import inference_mode
from setmatch.models.detector import Detector
from setmatch.postprocessing.detections import detections
from setmatch.structures.attention import AttentionTrace
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import ModelCard


@dataclass(frozen=True)
class Explanation:
    """The answers for one picture, which query gave each, and what all of them looked at.

    `found` are all answers, best first; those that score more than `threshold` are shown.
    """

    name: str
    image: UInt8[Tensor, "3 H W"]
    card: ModelCard
    trace: AttentionTrace
    found: Detections
    queries: Int[Tensor, " N"]
    threshold: float

    def save(self, path: str | Path) -> None:
        """Write one HTML page that needs nothing beside it, below 8 MB.

        Raises ConfigError when `path` cannot be written.
        """
        from setmatch.explanation.html import write_page

        require_file(path)
        write_page(self, Path(path))

    def save_figures(
        self, folder: str | Path, points: Sequence[tuple[float, float]] = ()
    ) -> list[Path]:
        """Write pictures in the manner of the paper's figures, and return their paths.

        decoder.png shows what each answer looked at, in a color of its own; layers.png the boxes
        after each decoder layer; encoder.png what the `points` (x, y in pixels of the picture)
        looked at, or those in the middle of the best answers. An encoder without layers gives no
        encoder.png; raises ConfigError when points were asked for, or lie off the picture.
        """
        from setmatch.explanation.figures import write_figures

        require_folder(folder)
        return write_figures(self, Path(folder), points)


def explain(
    model: Detector, image: str | Path | Image.Image, *, threshold: float = 0.5
) -> Explanation:
    """Look into a model while it answers for one picture, a file or a Pillow image.

    The answers are those of `predict`. Raises DataError for a picture that cannot be read,
    ConfigError for a threshold that is none or a model without attention, and WeightsError when
    the model's answers are not finite.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold = {threshold}: scores lie between 0 and 1")
    if isinstance(image, Image.Image):
        name, pixels = "picture", from_pillow(image)
    elif Path(image).is_file():
        name, pixels = Path(image).name, read_image(image)
    else:
        raise DataError(f"{image}: no such picture; give one file")
    batch = Batch.from_images([preprocess(pixels, model.card.preprocessing)])
    with inference_mode(model):
        trace = model.attention_trace(batch.to(next(model.parameters()).device))
    size_px = (pixels.shape[1], pixels.shape[2])
    (found,) = detections(trace.predictions, model.class_loss, model.card.categories, [size_px])
    read = model.class_loss.decode(trace.predictions.logits[-1].float())
    order = read.score.argsort(dim=1, descending=True, stable=True)  # as detections sorts
    return Explanation(
        name,
        pixels,
        model.card,
        trace,
        found,
        read.query.gather(1, order)[0].cpu(),
        threshold,
    )

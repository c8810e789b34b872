"""`explain`: show what a model attends to when it detects the objects of one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from setmatch.argument_types import checked_except
from setmatch.data.batches.transforms import preprocess
from setmatch.data.images.image_io import from_pillow, read_image
from setmatch.errors import ConfigError, DataError
from setmatch.explanation.explained_image import ExplainedImage
from setmatch.explanation.figures import write_figures
from setmatch.explanation.html import write_page
from setmatch.explanation.shown_scores import checked_scores
from setmatch.files.writing import require_folder, require_page
from setmatch.inference.engines.eager import as_engine, evaluation_copy
from setmatch.inference.options import ScoreThreshold
from setmatch.models.detector import Detector
from setmatch.postprocessing.detections import detections
from setmatch.structures.batch import Batch


@dataclass(frozen=True)
class Explanation(ExplainedImage):
    """An explained image that can be saved as a page or as figures."""

    def save(self, path: str | Path) -> None:
        """Write an interactive HTML page, self-contained and below 8 MB.

        Raises ConfigError if `path` cannot be written.
        """
        require_page(path)
        write_page(self, Path(path))

    def save_figures(
        self, folder: str | Path, points: Sequence[tuple[float, float]] = ()
    ) -> list[Path]:
        """Write figures in the style of the paper's, and return their paths.

        decoder.png shows the decoder attention of each detection in a color of its own, and
        layers.png the boxes after each decoder layer. encoder.png shows the encoder attention of
        `points` (x, y in pixels of the image; default: the centers of the best detections); it is
        not written for an encoder without layers. Raises ConfigError if a point is outside the
        image, or if there are points but no encoder layers.
        """
        require_folder(folder)
        return write_figures(self, Path(folder), points)


@checked_except("model")
def explain(
    model: Detector, image: str | Path | Image.Image, *, threshold: ScoreThreshold = None
) -> Explanation:
    """Detect the objects of an image, a file or a Pillow image, and record the attention.

    The detections equal those of `predict`, and so does the threshold: the model's own by default,
    or "best", the best one of each class. Raises DataError if the image cannot be read, ConfigError
    if the threshold is out of range or the model has none for its classes, has no attention or is
    exported, and WeightsError if the model's outputs are not finite.
    """
    if not isinstance(model, nn.Module):
        as_engine(model)  # raises for what is not a model at all
        raise ConfigError("an exported model has no attention to show; explain the run it is from")
    scores = checked_scores("explain", model, threshold)
    if isinstance(image, Image.Image):
        name, pixels = "image", from_pillow(image)
    elif Path(image).is_file():
        name, pixels = Path(image).name, read_image(image)
    else:
        raise DataError(f"{image}: no such image; give one file")
    batch = Batch.from_images([preprocess(pixels, model.card.preprocessing)])
    # The attention is recorded by hooks, which other threads must not meet on the model itself.
    private = evaluation_copy(model)
    with torch.inference_mode():
        trace = private.attention_trace(batch.to(next(private.parameters()).device))
    size_px = (pixels.shape[1], pixels.shape[2])
    (detected,) = detections(trace.predictions, model.class_loss, model.card.categories, [size_px])
    decoded = model.class_loss.decode(trace.predictions.logits[-1].float())
    order = decoded.score.argsort(dim=1, descending=True, stable=True)  # as in `detections`
    queries = decoded.query.gather(1, order)[0].cpu()
    return Explanation(name, pixels, model.card, trace, detected, queries, scores)

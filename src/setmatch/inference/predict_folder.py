"""`predict_folder`: detect objects in files and folders, and write the results to a folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.options import PredictOptions, ScoreThreshold
from setmatch.inference.pipeline import ImageResult, detect_images
from setmatch.inference.results_folder import Summary, write_results
from setmatch.models.detector import Detector


def predict_folder(
    model: Detector | Engine,
    sources: Sequence[str | Path],
    out: str | Path,
    threshold: ScoreThreshold = None,
    *,
    segment_threshold: float | None = None,
    batch_size: int = 4,
    classes: str | int | Sequence[str | int] | None = None,
    drawn: bool = True,
    progress: bool = True,
) -> Summary:
    """Detect objects in files, folders and globs, and write the detections to the folder `out`.

    `out` then holds the detections that score more than `threshold` (default: 0.7, as published,
    for models with a "no object" class, else 0.5; "best": that of each class on the card):

    - drawn/: the images with detections drawn on them, in the folders of the sources
    - detections.json: COCO results with category_name and file_name; image ids count from 1
    - detections.csv: boxes in pixels; a text that a spreadsheet would run as a formula begins with
      an apostrophe

    A model with a mask head adds masks to detections.json, as COCO run-length encodings, and COCO
    panoptic results: panoptic.json, and a PNG for each image in panoptic/. Segments are merged from
    queries that score more than `segment_threshold`.

    `classes` are names or class indices: all results are of these classes. Without `drawn`, there
    are no drawn images.

    Every file is written completely or not at all. If Ctrl-C ends the run, detections in the
    images until then are kept. An image that cannot be read is listed in the
    summary; the others are processed. Raises ConfigError if a threshold or the batch size is out of
    range, there is no source or no such class, or another process writes `out`; DataError if a
    source has no image or no image can be read (nothing is written then); and WeightsError if the
    model's outputs are not finite.
    """
    engine = as_engine(model)
    options = PredictOptions.of(engine, threshold, segment_threshold, batch_size, classes)

    def detect(paths: Sequence[Path]) -> Iterator[tuple[int, ImageResult | DataError]]:
        return detect_images(engine, len(paths), lambda number: read_image(paths[number]), options)

    return write_results(detect, sources, out, engine.card.categories, drawn, progress)

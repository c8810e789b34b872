"""`predict_folder` for an exported file: the same results, without torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from setmatch.data.images.decoding import read_pixels
from setmatch.errors import DataError
from setmatch.inference.arrays.engine import ArrayEngine
from setmatch.inference.arrays.pipeline import ArrayResult, detect_images
from setmatch.inference.options import PredictOptions, ScoreThreshold
from setmatch.inference.results_folder import Summary, write_results


def predict_folder(
    engine: ArrayEngine,
    sources: Sequence[str | Path],
    out: str | Path,
    threshold: ScoreThreshold = None,
    *,
    batch_size: int = 4,
    classes: str | int | Sequence[str | int] | None = None,
    drawn: bool = True,
    progress: bool = True,
) -> Summary:
    """Detect objects in files, folders and globs, and write the detections to the folder `out`.

    Files and errors are those of the function of this name for detectors.
    """
    options = PredictOptions.of(engine, threshold, None, batch_size, classes)

    def detect(paths: Sequence[Path]) -> Iterator[tuple[int, ArrayResult | DataError]]:
        return detect_images(engine, len(paths), lambda number: read_pixels(paths[number]), options)

    return write_results(detect, sources, out, engine.card.categories, drawn, progress)

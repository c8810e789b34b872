"""Rows by an exported file alone, without torch, which takes seconds and half a gigabyte."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.bulk.opened_model import Choices, digest_of, reading
from setmatch.bulk.read_source import read_source
from setmatch.bulk.rows import Row, detection_rows, error_row
from setmatch.errors import DataError
from setmatch.files.reading import sha256_of
from setmatch.inference.arrays.engine import ArrayEngine, open_array_engine
from setmatch.inference.arrays.pipeline import detect_images
from setmatch.inference.options import PredictOptions


@dataclass(frozen=True)
class ArrayModel:
    """An exported file that runs without torch."""

    path: str | Path
    engine: ArrayEngine
    digest: str
    options: PredictOptions

    def portable(self) -> str | Path:
        """Return the path of the file."""
        return self.path

    def rows(
        self, paths: Sequence[str], sources: Sequence[object]
    ) -> Iterator[tuple[int, list[Row]]]:
        """Yield the number of each image, in any order, and its rows."""
        options = reading(self.options, sources)
        for number, found in detect_images(
            self.engine, len(sources), lambda number: read_source(sources[number]), options
        ):
            if isinstance(found, DataError):
                yield number, [error_row(paths[number], found)]
            else:
                yield number, detection_rows(paths[number], found.size_px, found, None)


def open_without_torch(model: object, choices: Choices) -> ArrayModel | None:
    """Return the model of an exported file; None for what needs torch, as `open_array_engine`."""
    on_cpu = choices.device in ("auto", "cpu") and choices.engine in (None, "auto")
    if not (isinstance(model, str | Path) and on_cpu and choices.tiles is None):
        return None
    engine = open_array_engine(model)
    if engine is None:
        return None
    digest = digest_of(sha256_of(model), engine.card)
    return ArrayModel(model, engine, digest, choices.options_of(engine))

"""`Predictor`: a model that travels to the workers of Ray, Spark or Dask, and takes batches."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from setmatch.argument_types import checked_except
from setmatch.bulk.array_model import open_without_torch
from setmatch.bulk.opened_model import Choices, OpenedModel
from setmatch.bulk.rows import Row, to_frame, to_table
from setmatch.errors import ConfigError
from setmatch.inference.options import ScoreThreshold
from setmatch.inference.tiles.views import OVERLAP, Tiles

if TYPE_CHECKING:
    import pyarrow

    from setmatch.deploy.load import EngineName

# Columns of a batch that may hold images, the first one that is there does. Ray names them image,
# bytes, path or item; Spark's binary files have their bytes in content.
IMAGE_COLUMNS = ("image", "bytes", "content", "path", "item")
_MOST_OPEN = 2  # models of a process


@dataclass(frozen=True, eq=False)
class Predictor:
    """Detects objects in batches of images; pickled, it is a few words, or weights if given some.

    `model` is what `setmatch.load` takes, a detector or an engine; `engine` is what runs it, as in
    `setmatch.load`. The model is loaded by the first batch, once in each process, and not before.
    The other choices are those of `setmatch.predict`, and `device` is auto, cpu, cuda or cuda:1.

    A call takes a batch and returns its rows (`setmatch.bulk.COLUMNS`), a row for each detection:

    - a list or array of paths, addresses, bytes of image files, or pixels: a list of dictionaries
    - a mapping of columns, as `map_batches` of Ray has it, or a table of Arrow: a table of Arrow
    - a frame of pandas, as `map_partitions` of Dask has it: a frame
    - an iterator of these, as `mapInPandas` of Spark has it: an iterator

    Pixels are uint8 (H, W, 3), RGB. Images are in the column image, bytes, content, path or item,
    the first that there is; a column `path` names them in the rows. An image that cannot be read
    has a row with the error. Calls raise what `setmatch.load` raises, ConfigError for a batch
    without images or a choice out of range, and WeightsError if outputs are not finite.
    """

    model: Any
    engine: "EngineName | None" = None
    device: str = field(default="auto", kw_only=True)
    threshold: ScoreThreshold = field(default=None, kw_only=True)
    classes: str | int | Sequence[str | int] | None = field(default=None, kw_only=True)
    batch_size: int = field(default=4, kw_only=True)
    tiles: Tiles = field(default=None, kw_only=True)
    overlap: float = field(default=OVERLAP, kw_only=True)
    # All copies of a predictor in a process share a model, by this.
    _key: str = field(default_factory=lambda: uuid4().hex, init=False, repr=False)

    def __post_init__(self) -> None:
        _require_types(
            engine=self.engine,
            device=self.device,
            threshold=self.threshold,
            classes=self.classes,
            batch_size=self.batch_size,
            tiles=self.tiles,
            overlap=self.overlap,
        )

    def __call__(self, batch: Any) -> Any:
        """Return the rows of a batch, as the kind of container that the batch is."""
        if isinstance(batch, Iterator):
            return map(self, batch)
        if _is("pandas", "DataFrame", batch):
            columns = {name: batch[name].tolist() for name in batch.columns}
            return to_frame(self._rows_of_columns(columns))
        if _is("pyarrow", "Table", batch):
            batch = {name: batch.column(name).to_pylist() for name in batch.column_names}
        if isinstance(batch, Mapping):
            return to_table(self._rows_of_columns(batch))
        if isinstance(batch, str | bytes | Path) or not hasattr(batch, "__len__"):
            raise ConfigError(
                f"a batch of type {type(batch).__name__}: give a list of images, columns or a frame"
            )
        return self._rows(_names(batch), list(batch))

    def table(
        self, paths: Sequence[str], images: Sequence[str], advance: Callable[[int], object]
    ) -> "pyarrow.Table":
        """Return the rows of images at paths or addresses, which the rows call `paths`.

        `advance` is called with 1 for each image that is done.
        """
        return to_table(self._rows(paths, images, advance))

    def opened(self) -> OpenedModel:
        """Return the model, which the first call in a process loads."""
        with _lock:
            if self._key not in _open:
                _open[self._key] = self._load()
            _open.move_to_end(self._key)
            while len(_open) > _MOST_OPEN:
                _open.popitem(last=False)
            return _open[self._key]

    def with_weights(self) -> "Predictor":
        """Return a predictor that takes its weights along, so that workers need no file of them.

        An exported file stays a file, at the same path in every worker.
        """
        source = self.opened().portable()
        if isinstance(source, str | Path):
            source = str(Path(source).absolute())  # a worker may start in another folder
        return replace(self, model=source)

    @property
    def choices(self) -> Choices:
        """What was chosen beside the model."""
        return Choices(
            self.engine,
            self.device,
            self.threshold,
            None if self.classes is None else _listed(self.classes),
            self.batch_size,
            self.tiles,
            self.overlap,
        )

    def _load(self) -> OpenedModel:
        arrays = open_without_torch(self.model, self.choices)
        if arrays is not None:
            return arrays
        from setmatch.bulk.tensor_model import open_with_torch

        return open_with_torch(self.model, self.choices)

    def _rows_of_columns(self, columns: Mapping[str, Sequence[Any]]) -> list[Row]:
        name = next((each for each in IMAGE_COLUMNS if each in columns), None)
        if name is None:
            raise ConfigError(
                f"a batch with the columns {', '.join(map(str, columns)) or '(none)'}: images are "
                f"looked for in {', '.join(IMAGE_COLUMNS)}"
            )
        images = list(columns[name])
        names = _names(columns.get("path", images))
        if len(names) != len(images):
            raise ConfigError(
                f"a batch with {len(names)} of path, but {len(images)} of {name}: give columns of "
                "one length"
            )
        return self._rows(names, images)

    def _rows(
        self,
        paths: Sequence[str],
        images: Sequence[object],
        advance: Callable[[int], object] = lambda done: None,
    ) -> list[Row]:
        """Return the rows of images, in their order."""
        rows: list[list[Row]] = [[] for _ in images]
        for number, found in self.opened().rows(paths, images):
            rows[number] = found
            advance(1)
        return [row for found in rows for row in found]


@checked_except(caller="Predictor")
def _require_types(
    engine: str | None,
    device: str,
    threshold: ScoreThreshold,
    classes: str | int | Sequence[str | int] | None,
    batch_size: int,
    tiles: Tiles,
    overlap: float,
) -> None:
    """Raise ConfigError, before a worker is given the choices, for one of another type."""


_lock = threading.Lock()
_open: OrderedDict[str, OpenedModel] = OrderedDict()


def _names(images: Sequence[Any]) -> list[str]:
    """Return the path of each image, or its number in the batch if it has none."""
    return [
        str(each) if isinstance(each, str | Path) else str(number)
        for number, each in enumerate(images)
    ]


def _listed(classes: str | int | Sequence[str | int]) -> tuple[str | int, ...]:
    return (classes,) if isinstance(classes, str | int) else tuple(classes)


def _is(library: str, kind: str, value: object) -> bool:
    """Return whether a value is of a class of a library, which is loaded if there is a value."""
    module = sys.modules.get(library)
    return module is not None and isinstance(value, getattr(module, kind))

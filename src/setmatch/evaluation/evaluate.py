"""Measure a model, or saved detections, on a split of a data set."""

import logging
from pathlib import Path

import torch

from setmatch.argument_types import checked_except
from setmatch.data.batches.num_workers import Workers
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset, prefer_panoptic
from setmatch.distributed import Distributed
from setmatch.errors import ConfigError
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.results import Report
from setmatch.evaluation.run_engine import OnPredictions, RunOptions, run_engine
from setmatch.evaluation.saved_detections import is_saved_detections, load_detections
from setmatch.evaluation.summarize import build_report, require_objects
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.eager import as_engine
from setmatch.inference.tiles.engine import with_tiles
from setmatch.inference.tiles.views import OVERLAP, Tiles, images_at_once
from setmatch.models.detector import Detector

log = logging.getLogger("setmatch")


@checked_except("model")
def evaluate(
    model: Detector | Engine | str | Path,
    data: str | Path | DetectionDataset,
    *,
    split: str = "val",
    format: str | None = None,
    boxes: str | None = None,
    batch_size: int = 4,
    workers: Workers = "auto",
    max_detections: int | None = None,
    tiles: Tiles = None,
    overlap: float = OVERLAP,
    segment_threshold: float | None = None,
    json: str | Path | None = None,
    detections: str | Path | None = None,
    report: str | Path | None = None,
    name: str = "",
    progress: bool = False,
    distributed: Distributed | None = None,
    on_predictions: OnPredictions | None = None,
) -> Report:
    """Measure a model on a split of a data set: the twelve COCO numbers, and AP per class.

    A model with masks is also measured by mask AP and, on panoptic data, by panoptic quality.
    Classes are matched by name; detections of other classes are ignored. Images that cannot be read
    count as images without detections, and the report names them.

    Parameters
    ----------
    model
        A detector, an engine, or the path of saved detections: a JSON file of COCO results, as
        written by `detections` or by `predict_folder`.
    data
        A data set folder, a COCO file (`split` is ignored), or an open data set. The notes of a
        data set that is opened here are logged as warnings of "setmatch".
    split
        The split to open.
    format
        The annotation format, if the folder has several. By default, a model with stuff classes is
        evaluated on panoptic annotations, if there are any.
    boxes
        How the annotations write boxes, if not as their format does, such as "xyxy" or "relative".
    batch_size
        Images per batch; with `tiles` it is one. The batch size does not change the results.
    workers
        Processes that read images.
    max_detections
        Detections that count per class and image. The default is COCO's 100; if an image has more
        than 100 objects, it is the number of the model's queries.
    tiles, overlap
        See images also in tiles of that many pixels, or "auto", which share `overlap` of their
        side (see `predict`).
    segment_threshold
        Segments are merged from queries that score more (default: the model's own threshold).
    json, detections, report
        Files to write: the numbers, all detections as COCO results, and an HTML page that explains
        the numbers. `report` also fills `Report.diagnosis`.
    name
        Title of the page (default: the preset, or the path of saved detections).
    progress
        Show a progress bar on stderr.
    distributed
        The processes among which the images are divided. The first process writes the files; all
        of them return the same report.
    on_predictions
        Called with the image ids and the raw predictions of every batch of this process.

    Raises
    ------
    DataError
        The data or saved detections cannot be read, more than 1% of the images (and more than one)
        are unreadable, the model has none of the data set's classes, or `report` is requested for
        images without objects.
    ConfigError
        An output cannot be written, or an argument is out of range.
    WeightsError
        The model's outputs are not finite.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one image")
    outputs = Outputs(json, detections, report)
    outputs.require_writable()
    distributed = distributed or Distributed(torch.device("cpu"))
    engine = None
    if not isinstance(model, str | Path):
        engine = with_tiles(as_engine(model), tiles, overlap)
    elif not is_saved_detections(model):
        raise ConfigError(
            f"{model}: not a JSON file of saved detections; for a model, evaluate what "
            f'setmatch.load("{model}") returns'
        )
    elif tiles is not None:
        raise ConfigError(f"tiles = {tiles}: {model} has saved detections; predict with tiles")
    if isinstance(data, DetectionDataset):
        dataset = data
    else:
        if engine is not None and engine.card.categories.stuff:
            format = prefer_panoptic(data, split, format)
        dataset = open_dataset(data, split, format, boxes)
        for note in dataset.notes if distributed.is_first else ():
            log.warning("%s", note)
    if report:
        require_objects(dataset)
    if engine is None:
        assert isinstance(model, str | Path)
        split_detections = load_detections(Path(model), dataset, name)
    else:
        at_once = images_at_once(tiles, batch_size)
        options = RunOptions(
            at_once, workers, segment_threshold, bool(report), progress, on_predictions
        )
        split_detections = run_engine(
            engine, dataset, name or engine.card.preset, options, distributed
        )
    limit = split_detections.default_limit(dataset) if max_detections is None else max_detections
    return build_report(dataset, split_detections, limit, outputs, is_writer=distributed.is_first)
